//! Values and names that many responses have, kept once for as long as the program runs: to clone one is to copy a pointer.
//!
//! The values of other fields are parts of an allocation of their response, and a clone counts one more reader of that. A
//! hit clones each field, and when several threads read one response these counts are what they wait for. So the values of
//! fields that have few different ones are told apart from the rest, and never freed: they are short, and not many. What
//! comes when there is no more room is kept as other values are.

use std::sync::{LazyLock, PoisonError, RwLock};

use bytes::Bytes;
use http::{
    HeaderValue,
    header::{self, HeaderName},
};

/// How many there are of each at most.
const MOST: usize = 1_024;
/// How long one is at most, in bytes.
const LONGEST: usize = 128;

/// Whether the values of a field are few.
fn are_few(name: &HeaderName) -> bool {
    match *name {
        header::ACCEPT_RANGES
        | header::ACCESS_CONTROL_ALLOW_CREDENTIALS
        | header::ACCESS_CONTROL_ALLOW_HEADERS
        | header::ACCESS_CONTROL_ALLOW_METHODS
        | header::ACCESS_CONTROL_EXPOSE_HEADERS
        | header::ACCESS_CONTROL_MAX_AGE
        | header::ALLOW
        | header::ALT_SVC
        | header::CACHE_CONTROL
        | header::CONTENT_ENCODING
        | header::CONTENT_LANGUAGE
        | header::CONTENT_SECURITY_POLICY
        | header::CONTENT_TYPE
        | header::REFERRER_POLICY
        | header::SERVER
        | header::STRICT_TRANSPORT_SECURITY
        | header::VARY
        | header::VIA
        | header::X_CONTENT_TYPE_OPTIONS
        | header::X_DNS_PREFETCH_CONTROL
        | header::X_FRAME_OPTIONS
        | header::X_XSS_PROTECTION => true,
        _ => name.as_str() == "permissions-policy",
    }
}

/// The one copy of a value, where there is one or room for it.
pub(super) fn value(name: &HeaderName, value: &HeaderValue) -> Option<HeaderValue> {
    static KNOWN: LazyLock<RwLock<Vec<HeaderValue>>> = LazyLock::new(RwLock::default);
    if value.len() > LONGEST || !are_few(name) {
        return None;
    }
    keep(&KNOWN, value.as_bytes(), |value| HeaderValue::from_maybe_shared(Bytes::from_static(value)).ok())
}

/// The one copy of a name, where there is one or room for it.
pub(super) fn name(name: &HeaderName) -> Option<HeaderName> {
    static KNOWN: LazyLock<RwLock<Vec<HeaderName>>> = LazyLock::new(RwLock::default);
    if name.as_str().len() > LONGEST {
        return None;
    }
    keep(&KNOWN, name.as_str().as_bytes(), |name| std::str::from_utf8(name).ok().map(HeaderName::from_static))
}

/// They are sorted.
fn keep<T: Clone + AsRef<[u8]>>(
    known: &RwLock<Vec<T>>,
    value: &[u8],
    of: impl FnOnce(&'static [u8]) -> Option<T>,
) -> Option<T> {
    let find = |known: &[T]| known.binary_search_by(|one| one.as_ref().cmp(value));
    let read = known.read().unwrap_or_else(PoisonError::into_inner);
    if let Ok(at) = find(&read) {
        return Some(read[at].clone());
    }
    if read.len() >= MOST {
        return None;
    }
    drop(read);
    let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
    match find(&known) {
        Ok(at) => Some(known[at].clone()),
        Err(_) if known.len() >= MOST => None,
        Err(at) => {
            let kept = of(Box::leak(value.into()))?;
            known.insert(at, kept.clone());
            Some(kept)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_once_and_there_is_an_end_to_them() {
        let known = RwLock::default();
        let keep = |text: &[u8]| super::keep(&known, text, |text| Some(HeaderValue::from_bytes(text).unwrap()));
        for round in 0..2 {
            for number in 0..MOST {
                let text = number.to_string();
                let kept = keep(text.as_bytes()).unwrap();
                assert_eq!((kept.as_bytes(), round), (text.as_bytes(), round));
            }
            assert_eq!(known.read().unwrap().len(), MOST);
            assert_eq!(keep(b"one more"), None);
        }
        let place = |text| keep(text).map(|kept| kept.as_bytes().as_ptr());
        assert_eq!(place(b"7"), place(b"7"));
    }

    #[test]
    fn what_is_long_or_of_many_values_is_not_kept() {
        let value = |name, text: &str| value(name, &HeaderValue::try_from(text).unwrap());
        assert_eq!(value(&header::CONTENT_TYPE, &"x".repeat(LONGEST + 1)), None);
        assert_eq!(value(&header::ETAG, "\"1\""), None);
        assert_eq!(value(&header::VARY, "accept"), Some(HeaderValue::from_static("accept")));
    }
}
