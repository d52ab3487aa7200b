//! The ideal hit, written by hand for this one response: the least that a correct cache does. See `benches/cases`.

use super::Answers;
use crate::cases::{KIB, ideal::Ideal, response};

pub(super) fn service() -> impl Answers {
    Ideal::new(response(KIB))
}
