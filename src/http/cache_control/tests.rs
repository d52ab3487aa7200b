//! `Cache-Control`, section by section of RFC 9111.

use super::*;
use http::HeaderName;
use proptest::prelude::*;
use std::time::UNIX_EPOCH;

const NOW: SystemTime = UNIX_EPOCH;

fn field(name: &HeaderName, lines: &[&[u8]]) -> HeaderMap {
    let line = |line: &&[u8]| (name.clone(), HeaderValue::from_bytes(line).unwrap());
    lines.iter().map(line).collect()
}

fn parse(lines: &[&str]) -> CacheControl {
    let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
    CacheControl::parse(&field(&CACHE_CONTROL, &lines))
}

fn secs(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn age(lines: &[&[u8]]) -> Option<Duration> {
    Some(age_header(&field(&AGE, lines)))
}

fn freshness(fields: &[(&'static str, &str)]) -> Option<Duration> {
    let pair = |&(name, value): &(_, &str)| {
        let value = HeaderValue::from_str(value).unwrap();
        (HeaderName::from_static(name), value)
    };
    let headers: HeaderMap = fields.iter().map(pair).collect();
    explicit_freshness(&headers, &CacheControl::parse(&headers), NOW)
}

#[test]
fn rfc9111_5_2_every_directive_is_read_in_any_case_from_all_lines() {
    let parsed = parse(&[
        "No-Store, NO-CACHE,private ,\tPublic",
        "must-revalidate, proxy-revalidate, must-understand, unheard-of=1",
        "S-MaxAge=1, max-age=2, Stale-While-Revalidate=3, stale-if-error=4",
    ]);
    let all = CacheControl {
        no_store: true,
        no_cache: true,
        private: true,
        withheld: Vec::new(),
        public: true,
        must_revalidate: true,
        proxy_revalidate: true,
        must_understand: true,
        s_maxage: secs(1),
        max_age: secs(2),
        stale_while_revalidate: secs(3),
        stale_if_error: secs(4),
        targeted: false,
    };
    assert_eq!(parsed, all);
    assert_eq!(parse(&[]), CacheControl::default());
}

#[test]
fn rfc9110_5_6_1_2_empty_members_do_not_count() {
    assert_eq!(parse(&["", " , ,,max-age=5, ,"]).max_age, secs(5));
}

#[test]
fn rfc9111_5_2_arguments_may_be_quoted() {
    assert_eq!(parse(&[r#"max-age="60""#]).max_age, secs(60));
}

#[test]
fn rfc9110_5_6_4_quoted_strings_hold_commas_and_escaped_quotes() {
    let parsed = parse(&[r#"x="a, \", no-store, \\", max-age=7"#]);
    assert_eq!((parsed.no_store, parsed.max_age), (false, secs(7)));
}

#[test]
fn rfc9111_5_2_2_4_and_7_no_cache_and_private_may_name_the_fields_that_they_mean() {
    let parsed = parse(&[r#"No-Cache="Set-Cookie, x", private=" , Y,""#, r#"no-cache="z""#]);
    assert_eq!(parsed.withheld, ["set-cookie", "x", "y", "z"]);
    assert!(!parsed.no_cache && !parsed.private);
    let both = parse(&[r#"private="x", private, no-cache, no-cache="y""#]);
    assert!(both.private && both.no_cache, "the unqualified form is the stricter one");
}

#[test]
fn rfc9111_5_2_2_4_and_7_what_is_no_list_of_field_names_means_the_whole_response() {
    for argument in [
        "",
        "=x",
        "=true",
        "=1",
        "=",
        "=\"\"",
        "=\" , \"",
        "=\"x y\"",
        "=\"x, y;z\"",
        "=\"\\x\"",
        "=\"x",
        "=\"x\" y",
        "='x'",
        // Without these what is stored would not be what was sent.
        "=\"x, Content-Encoding\"",
        "=\"content-type\"",
        "=\"vary\"",
        "=\"cache-control\"",
    ] {
        let parsed = parse(&[&format!("private{argument}"), &format!("no-cache{argument}")]);
        assert!(parsed.private && parsed.no_cache && parsed.withheld.is_empty(), "{argument}");
    }
}

#[test]
fn rfc9111_1_2_2_delta_seconds_are_digits_and_saturate() {
    assert_eq!(parse(&["max-age=00060"]).max_age, secs(60));
    for huge in ["2147483649", "18446744073709551616", &"9".repeat(999)] {
        let parsed = parse(&[&format!("max-age={huge}")]);
        assert_eq!(parsed.max_age, Some(GREATEST), "{huge}");
    }
}

#[test]
fn rfc9111_4_2_1_an_invalid_lifetime_is_zero_and_an_invalid_window_is_none() {
    for argument in
        ["", "=", "=\"\"", "=-1", "=+1", "=1.5", "='9'", "=9s", "= 9", " =9", "=9 9", "=9;", "=\"9", "=\"9\"9"]
    {
        let line = format!("max-age{argument}, s-maxage{argument}");
        let windows = format!("stale-while-revalidate{argument}, stale-if-error{argument}");
        let stale = CacheControl { s_maxage: secs(0), max_age: secs(0), ..CacheControl::default() };
        assert_eq!(parse(&[&line, &windows]), stale, "{argument}");
    }
}

#[test]
fn rfc9111_4_2_1_the_smallest_of_several_max_ages_wins() {
    assert_eq!(parse(&["max-age=9, max-age=3", "max-age=6"]).max_age, secs(3));
    assert_eq!(parse(&["max-age=9, max-age=soon"]).max_age, secs(0));
}

#[test]
fn p42_a_malformed_member_still_forbids_but_allows_nothing() {
    for line in [
        &b"no-store; max-age=60"[..],
        b"max-age=60; no-store",
        b"public no-store",
        b"x=\"never closed, no-store",
        b"x=\"a\"b, no-store",
        b"x=\"a, no-store, y=\"b\"",
        b"\"no-store\"",
        b"\"x, no-store",
        b"no-store=",
        b"=no-store",
        b"no-store=maybe",
        b"no-store\xff",
        b"\xe9t\xe9, no-store",
    ] {
        let parsed = CacheControl::parse(&field(&CACHE_CONTROL, &[line]));
        assert!(parsed.no_store, "{}", line.escape_ascii());
        assert!(!parsed.public && parsed.max_age.is_none_or(|age| age.is_zero()));
    }
    let parsed = parse(&["no-store, must-understand;, public=1"]);
    assert!(!parsed.must_understand && !parsed.public);
    assert!(!parse(&["no-store-ever, x=no-store"]).no_store);
    assert_eq!(parse(&["x=\"never closed, max-age=60"]).max_age, secs(60));
}

#[test]
fn rfc9111_5_2_1_5_a_request_may_forbid_storing() {
    assert!(request_no_store(&field(&CACHE_CONTROL, &[b"No-Store"])));
    assert!(!request_no_store(&field(&CACHE_CONTROL, &[b"no-cache"])));
}

#[test]
fn rfc9111_5_1_the_first_member_of_age_counts_and_an_invalid_one_is_ignored() {
    assert_eq!(age(&[]), secs(0));
    assert_eq!(age(&[b"007"]), secs(7));
    assert_eq!(age(&[b" , 7, 9", b"11"]), secs(7));
    assert_eq!(age(&[b"99999999999999999999999"]), Some(GREATEST));
    assert_eq!(age(&[b"2147483648"]), Some(GREATEST));
    assert_eq!(age(&[b"2147483649"]), Some(GREATEST));
    assert_eq!(age(&[b"", b"7"]), secs(7));
    for invalid in [&b"-7"[..], b"+7", b"7.0", b"\"7\"", b"old, 7", b"7 9", b"7;x=9", b"7s", b"0x7", b"\xff"] {
        assert_eq!(age(&[invalid, b"7"]), secs(0), "{}", invalid.escape_ascii());
    }
}

#[test]
fn rfc9111_4_2_1_s_maxage_beats_max_age_beats_expires() {
    let expires = ("expires", "Thu, 01 Jan 1970 00:00:09 GMT");
    let stated = |line| freshness(&[("cache-control", line), expires]);
    assert_eq!(stated("max-age=2, s-maxage=1"), secs(1));
    assert_eq!(stated("max-age=2"), secs(2));
    assert_eq!(stated("max-age=soon"), secs(0));
    assert_eq!(stated("public"), secs(9));
    assert_eq!(freshness(&[("cache-control", "public")]), None);
}

#[test]
fn rfc9111_4_2_1_expires_counts_from_date_or_from_now() {
    let expires = ("expires", "Sun, 06 Nov 1994 08:49:37 GMT");
    let since = |date| freshness(&[expires, ("date", date)]);
    assert_eq!(since("Sun, 06 Nov 1994 08:49:30 GMT"), secs(7));
    assert_eq!(since("Sunday, 06-Nov-94 08:49:30 GMT"), secs(7));
    assert_eq!(since("Sun Nov  6 08:49:30 1994"), secs(7));
    assert_eq!(since(" Sun, 06 Nov 1994 08:49:30 GMT\t"), secs(7));
    assert_eq!(since("sun, 06 NOV 1994 08:49:30 gmt"), secs(7));
    assert_eq!(since("Sun, 06 Nov 1994 08:49:38 GMT"), secs(0));
    assert_eq!(since("Monday, 06-nov-94 08:49:30 GMT"), secs(7), "the day of the week counts for nothing");
    assert_eq!(since("tue Nov  6 08:49:30 1994"), secs(7));
    assert_eq!(since("yesterday"), secs(784_111_777));
    assert_eq!(freshness(&[expires]), secs(784_111_777));
    assert_eq!(freshness(&[("expires", "Fri, 31 Dec 9999 23:59:59 GMT")]), Some(GREATEST));
}

#[test]
fn rfc9111_5_3_an_invalid_expires_has_already_expired() {
    let later = ("expires", "Sun, 06 Nov 1994 08:49:37 GMT");
    for invalid in [
        "",
        "0",
        "-1",
        "never",
        "1799999999",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov  1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Foo, 06 Nov 1994 08:49:37 GMT",
        "Su, 06 Nov 1994 08:49:37 GMT",
        ", 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "\"Sun, 06 Nov 1994 08:49:37 GMT\"",
        "Mon, 30 Feb 2099 00:00:00 GMT",
        "Wed, 31 Dec 1969 23:59:59 GMT",
        "Sat, 01 Jan 10000 00:00:00 GMT",
    ] {
        assert_eq!(freshness(&[("expires", invalid)]), secs(0), "{invalid}");
        assert_eq!(freshness(&[("expires", invalid), later]), secs(0), "{invalid} first");
        assert_eq!(freshness(&[later, ("expires", invalid)]), secs(0), "{invalid} last");
    }
}

#[test]
fn rfc9111_4_2_1_the_earliest_of_several_expires_counts() {
    let [nine, three] = ["Thu, 01 Jan 1970 00:00:09 GMT", "Thu, 01 Jan 1970 00:00:03 GMT"];
    assert_eq!(freshness(&[("expires", nine), ("expires", three)]), secs(3));
    assert_eq!(freshness(&[("expires", three), ("expires", nine)]), secs(3));
}

#[test]
fn rfc9111_4_2_2_a_guess_is_a_tenth_of_the_time_without_change_and_a_day_at_most() {
    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    let guess = |fields: &[(&'static str, &str)]| {
        let pair = |&(name, value): &(_, &str)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        heuristic_freshness(&fields.iter().map(pair).collect(), UNIX_EPOCH + Duration::from_secs(784_111_777 + 50))
    };
    let by = |date| guess(&[("last-modified", MODIFIED), ("date", date)]);
    assert_eq!(by("Sun, 06 Nov 1994 08:51:17 GMT"), secs(10));
    assert_eq!(by("Wed, 16 Nov 1994 08:49:37 GMT"), secs(86_400));
    assert_eq!(by("Sat, 06 Nov 2094 08:49:37 GMT"), secs(86_400));
    assert_eq!(by(MODIFIED), None);
    assert_eq!(by("Sun, 06 Nov 1994 08:49:36 GMT"), None);
    assert_eq!(by("no date"), secs(5), "it was made when it came");
    assert_eq!(guess(&[("last-modified", MODIFIED)]), secs(5));
    assert_eq!(guess(&[("last-modified", "some time ago")]), None);
    assert_eq!(guess(&[("date", MODIFIED)]), None);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_nor_hide_a_prohibition_on_another_line(line in hostile_line()) {
        let mut headers = field(&CACHE_CONTROL, &[&line, b"no-store", &line]);
        for name in [AGE, EXPIRES, DATE] {
            headers.insert(name, HeaderValue::from_bytes(&line).unwrap());
        }
        let parsed = CacheControl::parse(&headers);
        prop_assert!(parsed.no_store);
        prop_assert!(age_header(&headers) <= GREATEST);
        prop_assert!(explicit_freshness(&headers, &parsed, NOW) <= Some(GREATEST));
    }
}

/// Bytes that a field line can hold, mostly those that mean something here.
fn hostile_line() -> impl Strategy<Value = Vec<u8>> {
    let telling = prop::sample::select(&b"max-age=\"\\, ;09\t"[..]);
    let byte = prop_oneof![telling, any::<u8>()];
    prop::collection::vec(byte, 0..64).prop_map(|mut line| {
        line.retain(|byte| HeaderValue::from_bytes(&[*byte]).is_ok());
        line
    })
}
