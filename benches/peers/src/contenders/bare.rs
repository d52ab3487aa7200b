//! The bare handler: an axum router without a cache, called as a server calls it. The measure of all the others.

use super::Answers;
use crate::origin::Inner;

pub(super) fn around<S: Inner>(inner: S) -> impl Answers {
    inner
}
