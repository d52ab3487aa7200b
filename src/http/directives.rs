//! The directives of a request, for a layer that honours them (RFC 9111 §5.2.1, §5.4).
//!
//! Of several directives with one name the most restrictive counts. An argument that is missing or no delta-seconds is
//! read that way as well: it bounds the age to nothing, and lets nothing be stale.

use std::time::Duration;

use http::{HeaderMap, header};

use crate::{
    demands::Demands,
    http::cache_control::{Argument, each_directive, members},
};

/// What a request demands; nothing where it demands nothing.
pub(crate) fn demands(request: &HeaderMap) -> Option<Demands> {
    let mut demands = Demands::default();
    each_directive(request, |name, argument| apply(&mut demands, name, argument));
    // §5.4: `Pragma` says nothing to a cache that reads `Cache-Control`.
    if !request.contains_key(header::CACHE_CONTROL) {
        let pragma = request.get_all(header::PRAGMA).iter().flat_map(|line| members(line.as_bytes()));
        demands.no_cache |= pragma.into_iter().any(|member| member.eq_ignore_ascii_case(b"no-cache"));
    }
    (demands != Demands::default()).then_some(demands)
}

fn apply(demands: &mut Demands, name: &[u8], argument: Argument<'_>) {
    let seconds = argument.seconds();
    let is = |directive: &str| name.eq_ignore_ascii_case(directive.as_bytes());
    if is("no-cache") {
        demands.no_cache = true;
    } else if is("max-age") {
        tighten(&mut demands.max_age, seconds.unwrap_or(Duration::ZERO), Duration::min);
    } else if is("min-fresh") {
        tighten(&mut demands.min_fresh, seconds.unwrap_or(Duration::MAX), Duration::max);
    } else if is("max-stale") {
        // §5.2.1.2: without an argument it is stale for any time.
        let any = if argument == Argument::Absent { Duration::MAX } else { Duration::ZERO };
        tighten(&mut demands.max_stale, seconds.unwrap_or(any), Duration::min);
    } else if is("only-if-cached") {
        demands.only_if_cached |= argument == Argument::Absent;
    }
}

fn tighten(slot: &mut Option<Duration>, stated: Duration, tighter: fn(Duration, Duration) -> Duration) {
    *slot = Some(slot.map_or(stated, |known| tighter(known, stated)));
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn of(fields: &[(HeaderName, &str)]) -> Demands {
        let fields = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        demands(&fields.collect()).unwrap_or_default()
    }

    fn said(line: &str) -> Demands {
        of(&[(header::CACHE_CONTROL, line)])
    }

    fn secs(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn rfc9111_5_2_1_all_directives_are_read_in_any_case_from_all_lines() {
        let lines = [
            (header::CACHE_CONTROL, "No-Cache, max-age=\"1\", MIN-FRESH=2"),
            (header::CACHE_CONTROL, "max-stale=3,only-if-cached, no-transform, no-store"),
        ];
        let (max_age, min_fresh, max_stale) = (secs(1), secs(2), secs(3));
        assert_eq!(
            of(&lines),
            Demands { no_cache: true, max_age, min_fresh, max_stale, only_if_cached: true, most_stale: None }
        );
        for nothing in ["", "no-store", "no-transform, x=1"] {
            assert_eq!(demands(&HeaderMap::from_iter([(header::CACHE_CONTROL, nothing.parse().unwrap())])), None);
        }
    }

    #[test]
    fn rfc9111_5_2_1_of_several_the_most_restrictive_counts() {
        assert_eq!(said("max-age=5, max-age=1, max-age=9").max_age, secs(1));
        assert_eq!(said("min-fresh=5, min-fresh=9, min-fresh=1").min_fresh, secs(9));
        assert_eq!(said("max-stale, max-stale=5, max-stale=9").max_stale, secs(5));
        assert_eq!(said("max-stale").max_stale, Some(Duration::MAX));
    }

    #[test]
    fn rfc9111_5_2_1_garbage_lets_no_more_be_used_than_its_absence() {
        for garbage in ["", "=", "=x", "=-1", "=1.5", "=\"1", "; 1"] {
            assert_eq!(said(&format!("max-age{garbage}")).max_age, secs(0), "{garbage}");
            assert_eq!(said(&format!("min-fresh{garbage}")).min_fresh, Some(Duration::MAX), "{garbage}");
            if !garbage.is_empty() {
                assert_eq!(said(&format!("max-stale=9, max-stale{garbage}")).max_stale, secs(0), "{garbage}");
            }
        }
        assert!(said("no-cache=\"x\"").no_cache && !said("only-if-cached=1").only_if_cached);
    }

    #[test]
    fn rfc9111_5_4_pragma_counts_where_cache_control_is_absent() {
        let pragma = |value| (header::PRAGMA, value);
        assert!(of(&[pragma("No-Cache")]).no_cache && of(&[pragma("x=1, no-cache")]).no_cache);
        assert!(!of(&[pragma("no-cache=1")]).no_cache && !of(&[pragma("cache")]).no_cache);
        assert!(!of(&[pragma("no-cache"), (header::CACHE_CONTROL, "max-stale")]).no_cache);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(line in prop::collection::vec(any::<u8>(), 0..48)) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                demands(&HeaderMap::from_iter([(header::CACHE_CONTROL, value.clone()), (header::PRAGMA, value)]));
            }
        }
    }
}
