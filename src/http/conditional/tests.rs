//! Conditions, as RFC 9110 §13 has them evaluated.

use super::*;
use http::{HeaderName, Response};
use proptest::prelude::*;

const EARLY: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn headers(fields: &[(HeaderName, &[u8])]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    map
}

fn none_match(lines: &[&[u8]], etag: &[u8]) -> bool {
    let fields: Vec<_> = lines.iter().map(|line| (IF_NONE_MATCH, *line)).collect();
    let conditions = Conditions::take(&headers(&fields)).unwrap();
    conditions.not_modified(&headers(&[(ETAG, etag)]))
}

fn modified_since(condition: &str, response: &[(HeaderName, &[u8])]) -> bool {
    let request = headers(&[(IF_MODIFIED_SINCE, condition.as_bytes())]);
    let conditions = Conditions::take(&request).unwrap();
    conditions.not_modified(&headers(response))
}

#[test]
fn without_conditions_there_is_nothing_to_take() {
    assert!(Conditions::take(&headers(&[(ETAG, b"\"a\"")])).is_none());
}

#[test]
fn rfc9110_8_8_3_2_entity_tags_are_compared_weakly_and_to_the_byte() {
    for (listed, stored, same) in [
        (r#""1""#, r#""1""#, true),
        (r#"W/"1""#, r#""1""#, true),
        (r#""1""#, r#"W/"1""#, true),
        (r#"W/"1""#, r#"W/"1""#, true),
        (r#"W/"1""#, r#"W/"2""#, false),
        (r#""a""#, r#""A""#, false),
        (r#""""#, r#""""#, true),
    ] {
        assert_eq!(none_match(&[listed.as_bytes()], stored.as_bytes()), same, "{listed} {stored}");
    }
}

#[test]
fn rfc9110_13_1_2_any_tag_of_any_line_will_do() {
    let lines: &[&[u8]] = &[b", \"a\" ,, W/\"b\",", b"\"c,\\\",\t\"\xe9\""];
    for tag in ["\"a\"", "\"b\"", "\"c,\\\""] {
        assert!(none_match(lines, tag.as_bytes()), "{tag}");
    }
    assert!(none_match(lines, b"\"\xe9\""));
    assert!(!none_match(lines, b"\"c\""));
}

#[test]
fn rfc9110_13_1_2_a_star_alone_matches_any_representation() {
    assert!(none_match(&[b" * "], b"\"a\"") && none_match(&[b"*"], b"garbage"));
    for lines in [&[&b"\"*\""[..]][..], &[b"*, *"], &[b"*", b"*"], &[b"**"]] {
        assert!(!none_match(lines, b"\"a\""), "{lines:?}");
    }
}

#[test]
fn p46_garbage_matches_nothing_and_what_is_well_formed_beside_it_counts() {
    for line in ["", "\"a", "a\"", "w/\"a\"", "W/ \"a\"", "\"a\"b", "\"x\"\"a\"", "\"x, \"a\"", "'a'"] {
        assert!(!none_match(&[line.as_bytes()], b"\"a\""), "{line}");
    }
    for etag in [&b""[..], b"\"a\", \"a\"", b"\"a", b"a b"] {
        assert!(!none_match(&[b"\"a\"", etag], etag), "{}", etag.escape_ascii());
    }
    assert!(none_match(&[b"b, *, \"a\""], b"\"a\""));
    assert!(none_match(&[b"\"a\", \"b"], b"\"a\""));
    assert!(none_match(&[b"\"never closed", b"\"a\""], b"\"a\""));
}

#[test]
fn p46_a_tag_without_its_quotes_is_what_it_would_be_in_them() {
    for (listed, stored, same) in [
        ("a", "\"a\"", true),
        ("\"a\"", "a", true),
        ("a", "a", true),
        ("b, W/a ,\"c\"", "\"a\"", true),
        ("a", "W/a", true),
        ("*, a", "*", false),
        ("\"*\"", "*", false),
        ("a", "ab", false),
        ("a, b", "a, b", false),
        ("a b", "\"a\"", false),
    ] {
        assert_eq!(none_match(&[listed.as_bytes()], stored.as_bytes()), same, "{listed} {stored}");
    }
}

#[test]
fn p46_a_tag_that_breaks_the_grammar_is_known_when_it_comes_back_alone() {
    for etag in ["w/\"a\"", "W\\\"a\"", "W\"a\"", "'a b'", "\"a"] {
        assert!(none_match(&[etag.as_bytes()], etag.as_bytes()), "{etag}");
        assert!(!none_match(&[b"\"a\"", etag.as_bytes()], etag.as_bytes()), "{etag}");
        assert!(!none_match(&[b"\"a\""], etag.as_bytes()), "{etag}");
    }
}

#[test] // P47
fn rfc9110_13_1_5_parts_are_of_the_same_representation_by_a_strong_tag_alone() {
    for (said, stored, same) in [
        ("\"a\"", "\"a\"", true),
        (" \"a\" ", "\"a\"", true),
        ("\"a\"", "\"b\"", false),
        ("W/\"a\"", "W/\"a\"", false),
        ("\"a\"", "W/\"a\"", false),
        ("W/\"a\"", "\"a\"", false),
        ("\"a\", \"b\"", "\"a\"", false),
        ("\"a", "\"a", false),
        ("a", "a", false),
        ("*", "\"a\"", false),
        ("", "", false),
    ] {
        let if_range = IfRange::take(&headers(&[(IF_RANGE, said.as_bytes())])).unwrap();
        assert_eq!(if_range.holds(&headers(&[(ETAG, stored.as_bytes())])), same, "{said} {stored}");
    }
    let twice = headers(&[(IF_RANGE, b"\"a\""), (IF_RANGE, b"\"a\"")]);
    assert!(!IfRange::take(&twice).unwrap().holds(&headers(&[(ETAG, b"\"a\"")])));
    assert!(IfRange::take(&headers(&[(ETAG, b"\"a\"")])).is_none());
}

#[test] // P47
fn rfc9110_8_8_2_2_a_date_tells_so_where_the_response_was_sent_a_second_later() {
    for (said, modified, sent, same) in [
        (EARLY, EARLY, LATER, true),
        ("Sunday, 06-Nov-94 08:49:36 GMT", EARLY, LATER, true),
        (EARLY, EARLY, EARLY, false),
        (LATER, EARLY, LATER, false),
        (EARLY, LATER, LATER, false),
        (EARLY, EARLY, "", false),
        ("now", "now", LATER, false),
    ] {
        let response = headers(&[(LAST_MODIFIED, modified.as_bytes()), (DATE, sent.as_bytes())]);
        let if_range = IfRange::take(&headers(&[(IF_RANGE, said.as_bytes())])).unwrap();
        assert_eq!(if_range.holds(&response), same, "{said} {modified} {sent}");
    }
    let if_range = IfRange::take(&headers(&[(IF_RANGE, EARLY.as_bytes())])).unwrap();
    assert!(!if_range.holds(&headers(&[(DATE, LATER.as_bytes())])), "a date of another kind is no validator");
}

#[test]
fn rfc9110_13_1_3_what_was_last_modified_no_later_is_not_modified_since() {
    for (modified, fresh) in [(EARLY, true), (LATER, false), ("today", false)] {
        // The Date would allow it: it does not count beside a Last-Modified.
        let response = [(LAST_MODIFIED, modified.as_bytes()), (DATE, EARLY.as_bytes())];
        assert_eq!(modified_since(EARLY, &response), fresh, "{modified}");
    }
    assert!(modified_since(LATER, &[(LAST_MODIFIED, EARLY.as_bytes())]));
}

#[test]
fn rfc9111_4_3_2_without_last_modified_the_date_decides() {
    assert!(modified_since(LATER, &[(DATE, LATER.as_bytes())]));
    assert!(!modified_since(EARLY, &[(DATE, LATER.as_bytes())]));
    assert!(!modified_since(LATER, &[]));
}

#[test]
fn rfc9110_13_1_3_what_is_not_one_date_is_ignored() {
    let response = headers(&[(LAST_MODIFIED, EARLY.as_bytes())]);
    for condition in ["", "0", "now", "Sun, 06 Nov 1994 08:49:37 GMT; length=9"] {
        assert!(!modified_since(condition, &[(LAST_MODIFIED, EARLY.as_bytes())]));
    }
    let twice = headers(&[(IF_MODIFIED_SINCE, LATER.as_bytes()), (IF_MODIFIED_SINCE, LATER.as_bytes())]);
    assert!(!Conditions::take(&twice).unwrap().not_modified(&response));
}

#[test]
fn rfc9110_13_2_2_if_none_match_puts_if_modified_since_out_of_force() {
    let response = headers(&[(ETAG, b"\"a\""), (LAST_MODIFIED, EARLY.as_bytes())]);
    for (tags, fresh) in [("\"a\"", true), ("\"b\"", false), ("", false)] {
        let request = [(IF_NONE_MATCH, tags.as_bytes()), (IF_MODIFIED_SINCE, LATER.as_bytes())];
        let conditions = Conditions::take(&headers(&request)).unwrap();
        assert_eq!(conditions.not_modified(&response), fresh, "{tags}");
    }
}

#[test]
fn rfc9110_15_4_5_a_304_drops_what_describes_content_and_keeps_the_rest() {
    let kept = "age cache-control cache-status content-location date expires set-cookie vary x-own";
    let dropped = "content-digest content-encoding content-language content-length content-range content-type trailer transfer-encoding";
    let not_modified = |validators: &str| {
        let all = format!("{kept} {dropped} {validators}");
        let fields = all.split_whitespace().map(|name| (name.parse().unwrap(), "x".parse().unwrap()));
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.headers = fields.collect();
        to_not_modified(&mut parts);
        assert_eq!(parts.status, StatusCode::NOT_MODIFIED);
        let mut names: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names.join(" ")
    };
    assert_eq!(not_modified(""), kept);
    assert_eq!(not_modified("etag last-modified"), kept.replace("expires", "etag expires"));
    assert_eq!(not_modified("last-modified"), kept.replace("set-cookie", "last-modified set-cookie"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_match_only_a_tag_that_is_there(
        line in prop::collection::vec(prop_oneof![prop::sample::select(&b"aW/\"\\, *"[..]), any::<u8>()], 0..32)
    ) {
        let Ok(value) = HeaderValue::from_bytes(&line) else { return Ok(()) };
        for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE] {
            let request = headers(&[(name, &line)]);
            let conditions = Conditions::take(&request).unwrap();
            let matched = conditions.not_modified(&headers(&[(ETAG, b"\"a\"")]));
            let there = line.split(|byte| b",\"/ \t".contains(byte)).any(|word| word == b"a");
            prop_assert!(!matched || there || line.trim_ascii() == b"*");
            conditions.not_modified(&headers(&[(ETAG, value.as_bytes()), (LAST_MODIFIED, &line)]));
        }
    }
}
