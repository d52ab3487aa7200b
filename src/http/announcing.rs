//! The `Cache-Status` field: what is said, and what was said lately.
//!
//! Of the readers of one second, and of those of what was stored in one second, all are told the same. So each thread
//! remembers the last values that it has written, a few: a hit finds its own among them more often than not, and writes
//! and allocates nothing.

use std::{cell::RefCell, sync::Arc};

use http::HeaderValue;

use crate::status::{Outcome, Text};

/// How many values a thread remembers.
const REMEMBERED: usize = 32;

/// How a layer names itself in `Cache-Status`.
#[derive(Clone, Debug)]
pub struct StatusName(pub(crate) Option<Arc<str>>);

/// What was said of an outcome under a name.
struct Said {
    name: Arc<str>,
    outcome: Outcome,
    value: HeaderValue,
}

/// What a cache of this name says of an outcome: one member of the list (RFC 9211 §2).
pub(super) fn member(name: &Arc<str>, outcome: Outcome) -> HeaderValue {
    thread_local! {
        static SAID: RefCell<[Option<Said>; REMEMBERED]> = const { RefCell::new([const { None }; REMEMBERED]) };
    }
    let remembered = SAID.try_with(|said| {
        let mut said = said.try_borrow_mut().ok()?;
        let place = &mut said[outcome.ttl().unwrap_or_default().unsigned_abs() as usize % REMEMBERED];
        match place {
            Some(said) if said.outcome == outcome && Arc::ptr_eq(&said.name, name) => Some(said.value.clone()),
            _ => {
                let value = member_after(b"", name, outcome);
                *place = Some(Said { name: Arc::clone(name), outcome, value: value.clone() });
                Some(value)
            }
        }
    });
    remembered.ok().flatten().unwrap_or_else(|| member_after(b"", name, outcome))
}

/// The same after what caches further in have said.
pub(super) fn member_after(said: &[u8], name: &str, outcome: Outcome) -> HeaderValue {
    // Written on the stack, allocated once and to its size.
    let mut value = Text::default();
    if !said.is_empty() {
        value.extend(said);
        value.extend(b", ");
    }
    value.extend(name.as_bytes());
    outcome.write(&mut value);
    HeaderValue::from_bytes(value.as_slice()).unwrap_or_else(|_| HeaderValue::from_static("cacheback"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::CacheStatus;

    #[test] // P49
    fn what_is_remembered_is_what_would_be_written() {
        let names = ["a", "b"].map(Arc::<str>::from);
        let hit = Outcome::new(CacheStatus::Hit);
        // Twice as many as are remembered, so that each takes the place of another; and each again at once.
        for ttl in (0..2 * REMEMBERED as i64).flat_map(|ttl| [ttl, ttl, -ttl, ttl]) {
            // Each differs in one thing from the one before.
            for (name, stored) in [(0, false), (1, false), (1, true), (0, true)] {
                let (name, outcome) = (&names[name], hit.stored_if(stored).ttl_of(ttl));
                assert_eq!(member(name, outcome), member_after(b"", name, outcome));
            }
        }
        assert_eq!(member(&names[0], hit), "a; hit");
    }
}
