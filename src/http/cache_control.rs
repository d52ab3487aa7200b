//! What a response, or a request, says in `Cache-Control`, parsed as RFC 9111 says.
//!
//! One rule decides every doubtful case: **what a field forbids is read leniently, what it allows strictly.** A member
//! that breaks the grammar (`no-store; max-age=60`) still forbids whatever it legibly names, grants nothing, and turns
//! a lifetime that it names to zero (§4.2.1: invalid freshness is stale). A member never reaches past its own field
//! line, so none can hide a later one.

use std::iter;
use std::time::{Duration, SystemTime};

use http::header::{AGE, CACHE_CONTROL, DATE, EXPIRES};
use http::{HeaderMap, HeaderValue};

/// §1.2.2: whatever is longer, or overflows, counts as 2^31 seconds, which stand for ever.
const GREATEST: Duration = Duration::from_secs(1 << 31);

/// The directives of all `Cache-Control` lines of one message.
///
/// Durations are what was stated; where a directive came more than once, the smallest. What they mean together is the
/// policy's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheControl {
    pub(crate) no_store: bool,
    /// With or without field names. We take the qualified form for the unqualified one: stricter, hence allowed, and
    /// §5.2.2.4 notes that caches often do so.
    pub(crate) no_cache: bool,
    /// With or without field names, as above (§5.2.2.7).
    pub(crate) private: bool,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    /// As stated. That `s-maxage` implies it (§5.2.2.10) is left to the policy.
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    /// Zero where the argument is missing or is not delta-seconds.
    pub(crate) s_maxage: Option<Duration>,
    /// Zero where the argument is missing or is not delta-seconds.
    pub(crate) max_age: Option<Duration>,
    /// RFC 5861 §3. `None` where the argument is missing or is not delta-seconds: no window was stated.
    pub(crate) stale_while_revalidate: Option<Duration>,
    /// RFC 5861 §4. `None` as above.
    pub(crate) stale_if_error: Option<Duration>,
}

impl CacheControl {
    /// Reads all field lines, in order.
    pub(crate) fn parse(headers: &HeaderMap) -> Self {
        let mut parsed = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            for member in members(line.as_bytes()) {
                match directive(member) {
                    Some((name, argument)) => parsed.apply(name, argument),
                    None => words(member).for_each(|word| parsed.apply(word, Argument::Illegible)),
                }
            }
        }
        parsed
    }

    fn apply(&mut self, name: &[u8], argument: Argument<'_>) {
        let mut buffer = [0; LONGEST_NAME];
        let Some(name) = lower_case(name, &mut buffer) else {
            return; // too long for any directive we know
        };
        match name {
            // These forbid, so they count with any argument or none.
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache = true,
            b"private" => self.private = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            // These allow (`must-understand` lifts a `no-store`), so they count as the grammar has them.
            b"public" => self.public |= argument == Argument::Absent,
            b"must-understand" => self.must_understand |= argument == Argument::Absent,
            b"s-maxage" => tighten(&mut self.s_maxage, argument.seconds().unwrap_or_default()),
            b"max-age" => tighten(&mut self.max_age, argument.seconds().unwrap_or_default()),
            b"stale-while-revalidate" => {
                if let Some(window) = argument.seconds() {
                    tighten(&mut self.stale_while_revalidate, window);
                }
            }
            b"stale-if-error" => {
                if let Some(window) = argument.seconds() {
                    tighten(&mut self.stale_if_error, window);
                }
            }
            _ => {} // §5.2.3: what we do not know, we ignore
        }
    }
}

/// The lifetime that the response itself states, for a shared cache (§4.2.1); `None` when it states none.
///
/// `now` is when the response was received; it stands in for a `Date` that is missing or no date (RFC 9110 §6.6.1).
pub(crate) fn explicit_freshness(headers: &HeaderMap, cc: &CacheControl, now: SystemTime) -> Option<Duration> {
    // §5.3: either directive puts `Expires` out of force, even where its argument is invalid.
    cc.s_maxage.or(cc.max_age).or_else(|| lifetime_by_expires(headers, now))
}

/// The age that the response came with; zero when it came with none.
///
/// §5.1: of a list the first member counts, and a value that is no delta-seconds is ignored; it does not make the
/// response stale, as an invalid lifetime does.
pub(crate) fn age_header(headers: &HeaderMap) -> Duration {
    headers
        .get_all(AGE)
        .iter()
        .flat_map(|line| members(line.as_bytes()))
        .next()
        .and_then(delta_seconds)
        .unwrap_or_default()
}

/// Whether the request forbids storing it and its response (§5.2.1.5).
pub(crate) fn request_no_store(headers: &HeaderMap) -> bool {
    CacheControl::parse(headers).no_store
}

/// A date in any of the three forms of RFC 9110 §5.6.7, in any case of its letters (RFC 9111 §4.2).
pub(crate) fn http_date(value: &HeaderValue) -> Option<SystemTime> {
    let date = value.to_str().ok()?;
    httpdate::parse_http_date(date).or_else(|_| httpdate::parse_http_date(&capitalised(date))).ok()
}

/// What follows a directive's name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Argument<'a> {
    Absent,
    /// A token, or the inside of a quoted string with its escapes: an escaped digit is then no digit, the safe reading.
    Text(&'a [u8]),
    /// The member breaks the grammar: nobody knows what belongs to the name.
    Illegible,
}

impl Argument<'_> {
    fn seconds(self) -> Option<Duration> {
        match self {
            Self::Text(text) => delta_seconds(text),
            Self::Absent | Self::Illegible => None,
        }
    }
}

/// Of several values the smallest counts. §4.2.1 asks for the first, or for stale; the smallest is never fresher than
/// the first.
fn tighten(slot: &mut Option<Duration>, stated: Duration) {
    *slot = Some(slot.map_or(stated, |known| known.min(stated)));
}

/// §5.3: an `Expires` that is no date, `0` above all, lies in the past. Of several lines the first counts.
fn lifetime_by_expires(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let expires = http_date(headers.get(EXPIRES)?);
    let date = headers.get(DATE).and_then(http_date).unwrap_or(now);
    let lifetime = expires.and_then(|expires| expires.duration_since(date).ok());
    Some(lifetime.unwrap_or_default().min(GREATEST))
}

/// `delta-seconds = 1*DIGIT`, no more than [`GREATEST`] (§1.2.2).
fn delta_seconds(digits: &[u8]) -> Option<Duration> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = digits.iter().fold(0_u64, |seconds, digit| {
        let ones = u64::from(digit - b'0');
        seconds.saturating_mul(10).saturating_add(ones)
    });
    Some(Duration::from_secs(seconds).min(GREATEST))
}

/// The members of a field line without the whitespace around them, and without the empty ones (RFC 9110 §5.6.1.2).
fn members(mut line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let all = iter::from_fn(move || {
        if line.is_empty() {
            return None;
        }
        let (member, rest) = line.split_at(end_of_member(line));
        line = rest.strip_prefix(b",").unwrap_or_default();
        Some(member.trim_ascii())
    });
    all.filter(|member| !member.is_empty())
}

/// Where the first member ends: at a comma outside of quoted strings, or with the line.
///
/// A quoted string is one only as an argument and only if it is closed. Any other quote is a byte like any other, lest
/// a stray one carry off the members after it.
fn end_of_member(line: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += match &line[at..] {
            [] | [b',', ..] => return at,
            [b'=', b'"', text @ ..] => match quoted(text) {
                Some((inside, _)) => b"=\"\"".len() + inside.len(),
                None => 1,
            },
            _ => 1,
        }
    }
}

/// `directive = token [ "=" ( token / quoted-string ) ]` (§5.2), to the letter; `None` for anything else.
fn directive(member: &[u8]) -> Option<(&[u8], Argument<'_>)> {
    let end = member.iter().position(|&byte| !is_tchar(byte));
    let (name, rest) = member.split_at(end.unwrap_or(member.len()));
    let argument = match rest {
        _ if name.is_empty() => return None,
        [] => Argument::Absent,
        [b'=', b'"', text @ ..] => match quoted(text)? {
            (inside, []) => Argument::Text(inside),
            _ => return None,
        },
        [b'=', token @ ..] if !token.is_empty() && token.iter().copied().all(is_tchar) => Argument::Text(token),
        _ => return None,
    };
    Some((name, argument))
}

/// All that could be a directive's name in a member that breaks the grammar.
fn words(member: &[u8]) -> impl Iterator<Item = &[u8]> {
    member.split(|&byte| !is_tchar(byte))
}

/// Parts the text behind an opening quote at the closing one (RFC 9110 §5.6.4); `None` when there is none.
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut escaped = false;
    let end = text.iter().position(|&byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })?;
    Some((&text[..end], &text[end + 1..]))
}

/// RFC 9110 §5.6.2.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

const LONGEST_NAME: usize = "stale-while-revalidate".len();

/// On the stack, since a request may be asked this on its way to a hit.
fn lower_case<'a>(name: &[u8], buffer: &'a mut [u8; LONGEST_NAME]) -> Option<&'a [u8]> {
    let lower = buffer.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    Some(lower)
}

/// `sun, 06 NOV 1994 08:49:37 gmt` with its capitals where the grammar has them.
fn capitalised(date: &str) -> String {
    let mut in_word = false;
    let cased = date.chars().map(|letter| {
        let first = !in_word;
        in_word = letter.is_ascii_alphabetic();
        if first { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
    });
    cased.collect::<String>().replace("Gmt", "GMT")
}

#[cfg(test)]
mod tests {
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
            public: true,
            must_revalidate: true,
            proxy_revalidate: true,
            must_understand: true,
            s_maxage: secs(1),
            max_age: secs(2),
            stale_while_revalidate: secs(3),
            stale_if_error: secs(4),
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
    fn rfc9111_5_2_2_qualified_no_cache_and_private_count_as_unqualified() {
        let parsed = parse(&[r#"no-cache="set-cookie, x", private=authorization"#]);
        assert!(parsed.no_cache && parsed.private);
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
        for invalid in [&b"-7"[..], b"7.0", b"\"7\"", b"old, 7", b"7 9", b"\xff"] {
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
        assert_eq!(since("sun, 06 NOV 1994 08:49:30 gmt"), secs(7));
        assert_eq!(since("Sun, 06 Nov 1994 08:49:38 GMT"), secs(0));
        assert_eq!(since("yesterday"), secs(784_111_777));
        assert_eq!(freshness(&[expires]), secs(784_111_777));
        assert_eq!(freshness(&[("expires", "Fri, 31 Dec 9999 23:59:59 GMT")]), Some(GREATEST));
    }

    #[test]
    fn rfc9111_5_3_an_invalid_expires_has_already_expired() {
        let later = ("expires", "Sun, 06 Nov 1994 08:49:37 GMT");
        for invalid in ["", "0", "-1", "never", "Sun, 06 Nov 1994 08:49:37 CET", "Mon, 30 Feb 2099 00:00:00 GMT"] {
            assert_eq!(freshness(&[("expires", invalid), later]), secs(0), "{invalid}");
        }
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
}
