//! Targets for a fuzzer: bytes from anywhere become requests, fields and references, and must keep what is promised.
//!
//! `cargo test` tries each with some thousands of random inputs and with the corpus beside this file (`__fuzz__`), on the
//! stable toolchain. `BOLERO_RANDOM_TEST_TIME_MS` says for how long; `cargo bolero test` hands the same targets to a fuzzer
//! that is guided by coverage.

use bolero::check;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};

use crate::{
    http::{
        Http, Mode,
        cache_control::{CacheControl, age_header, explicit_freshness},
        conditional::Conditions,
        range::{Ranges, Selected},
        request::Survey,
        rules::KeyRules,
        unsafe_methods::Target,
    },
    key::{Key, KeyBuf},
    layer::CachebackLayer,
    scope::Scope,
};

/// What fields are made of. A byte stands for one of these, so that what is random is legible now and then.
const WORDS: [&str; 64] = [
    "no-store",
    "no-cache",
    "private",
    "public",
    "max-age",
    "s-maxage",
    "must-revalidate",
    "stale-while-revalidate",
    "=",
    "=\"",
    "\"",
    ",",
    ", ",
    ";",
    " ",
    "\t",
    "0",
    "1",
    "60",
    "99999999999999999999",
    "-1",
    "1.5",
    "*",
    "accept",
    "cookie",
    "theme=dark",
    "a=1",
    "; ",
    "%2F",
    "%",
    "/",
    "//",
    "..",
    ".",
    "?",
    "&",
    "q=1",
    "utm_source=x",
    "#",
    ":",
    "a.example",
    "A.Example",
    ":80",
    ":443",
    "http://",
    "https://",
    "@",
    "\\",
    "W/\"",
    "\"x\"",
    "GMT",
    "Sun, 06 Nov 1994",
    "08:49:37",
    "keep-alive",
    "host",
    "x-forwarded-host",
    "connection",
    "\u{e9}",
    "[::1]",
    "",
    "x",
    "y",
    "~",
    "|",
];

/// The names that requests are made of.
const NAMES: [&str; 16] = [
    "host",
    "cookie",
    "authorization",
    "accept",
    "accept-language",
    "connection",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-original-url",
    "if-none-match",
    "if-modified-since",
    "cache-control",
    "x-key",
    "x-own",
    "te",
    "content-length",
];

/// Takes bytes apart, front to back. Where they are at their end all that is left is zeros.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    /// Up to seven words, of which one in four is a byte as it is.
    fn text(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..self.byte() % 8 {
            match self.byte() {
                word @ 0..192 => text.extend_from_slice(WORDS[usize::from(word) % WORDS.len()].as_bytes()),
                _ => text.push(self.byte()),
            }
        }
        text
    }

    fn value(&mut self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(&self.text()).ok()
    }

    fn fields(&mut self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for _ in 0..self.byte() % 8 {
            let name = NAMES[usize::from(self.byte()) % NAMES.len()];
            if let Some(value) = self.value() {
                fields.append(HeaderName::from_static(name), value);
            }
        }
        fields
    }

    fn request(&mut self) -> Option<Request<String>> {
        let mut request = Request::new(String::new());
        let reference = self.text();
        let start = if self.byte().is_multiple_of(2) { &b"/"[..] } else { b"" };
        *request.uri_mut() = Uri::try_from([start, &reference].concat()).ok()?;
        *request.method_mut() = if self.byte().is_multiple_of(4) { Method::HEAD } else { Method::GET };
        *request.headers_mut() = self.fields();
        Some(request)
    }

    fn rules(&mut self) -> Http {
        let rules = self.byte();
        let layer = CachebackLayer::new(std::time::Duration::from_secs(60));
        let layer = if rules & 1 == 0 { layer } else { layer.key_header("x-key") };
        let layer = if rules & 2 == 0 { layer } else { layer.key_cookie("theme") };
        let layer = if rules & 4 == 0 { layer } else { layer.ignore_cookies() };
        let layer = if rules & 8 == 0 { layer } else { layer.query_except(["utm_source"]) };
        let layer = if rules & 16 == 0 { layer } else { layer.query_sorted() };
        let layer = if rules & 32 == 0 { layer } else { layer.sealed() };
        let layer = if rules & 64 == 0 { layer } else { layer.key_header("authorization") };
        let layer = if rules & 128 == 0 { layer } else { layer.namespace("n") };
        layer.route().protocol.clone()
    }
}

/// The key of a request, if it has one.
fn key<B>(http: &Http, request: &Request<B>) -> Option<Key> {
    let (survey, mut key) = (Survey::of(request.headers(), &http.rules.table), KeyBuf::default());
    http.key(request, &survey, &mut key).ok()?;
    Some(key.to_key())
}

/// What a handler makes an answer of.
fn view<B>(request: &Request<B>) -> String {
    let mut fields: Vec<_> = request.headers().iter().map(|field| format!("{field:?}")).collect();
    fields.sort();
    format!("{} {} {fields:?}", request.method(), request.uri())
}

#[test] // P60, P66
fn what_a_run_sees_of_a_request_has_the_key_of_that_request() {
    check!().for_each(|input: &[u8]| {
        let mut input = Bytes(input);
        let http = input.rules();
        let Some(request) = input.request() else { return };
        let Some(before) = key(&http, &request) else { return };
        let asked = view(&request);
        let (mut parts, body) = request.into_parts();
        http.rules.project(&mut parts);
        let seen = Request::from_parts(parts, body);
        assert_eq!(key(&http, &seen), Some(before), "{asked} seen as {}", view(&seen));
        // Seen once more it is the same: there is one view of a request.
        let (mut parts, body) = seen.into_parts();
        let once = view(&Request::from_parts(parts.clone(), ()));
        http.rules.project(&mut parts);
        assert_eq!(view(&Request::from_parts(parts, body)), once);
    });
}

#[test] // P60, P66
fn requests_with_one_key_have_one_view_of_all_that_is_keyed() {
    check!().for_each(|input: &[u8]| {
        let mut input = Bytes(input);
        let http = input.rules();
        // Two that begin alike: the second has other fields.
        let Some(one) = input.request() else { return };
        let mut other = Request::new(String::new());
        (*other.uri_mut(), *other.headers_mut()) = (one.uri().clone(), input.fields());
        let (Some(first), Some(second)) = (key(&http, &one), key(&http, &other)) else { return };
        if first != second {
            return;
        }
        let keyed = |request: Request<String>| {
            let (mut parts, _) = request.into_parts();
            http.rules.project(&mut parts);
            let mut lines = Vec::new();
            // An authority is one whether it comes in the URI, in `Host`, or in both.
            for name in ["x-forwarded-host", "x-forwarded-proto", "x-original-url"] {
                lines.extend(parts.headers.get_all(name).iter().cloned());
            }
            for name in &http.rules.key_headers {
                lines.extend(parts.headers.get_all(name).iter().cloned());
            }
            (lines, parts.headers.get(header::COOKIE).cloned().filter(|_| !http.rules.key_cookies.is_empty()))
        };
        assert_eq!(keyed(one), keyed(other));
    });
}

#[test] // P34, P60
fn a_scope_reaches_the_request_for_what_it_names() {
    check!().for_each(|input: &[u8]| {
        let mut input = Bytes(input);
        let reference = input.text();
        let Ok(reference) = str::from_utf8(&reference) else { return };
        let scopes = [Scope::uri(reference), Scope::path(reference), Scope::path_prefix(reference)];
        let Ok(uri) = Uri::try_from(reference) else { return };
        let mut request = Request::new(String::new());
        *request.uri_mut() = uri;
        let Some(key) = key(&CachebackLayer::new(std::time::Duration::ZERO).route().protocol, &request) else { return };
        let reached = scopes.map(|scope| scope.map(|scope| scope.matches_key(&key)).ok());
        // A fragment and what no client sends raw are refused; all else reaches its own request.
        assert!(!reached.contains(&Some(false)), "{reference}: {reached:?}");
    });
}

#[test] // P36
fn what_a_response_says_it_touched_is_of_the_same_origin() {
    check!().for_each(|input: &[u8]| {
        let mut input = Bytes(input);
        let Some(mut request) = input.request() else { return };
        *request.method_mut() = Method::POST;
        let Some(target) = Target::of((&request).into(), &KeyRules::new(Mode::Application)) else { return };
        let mut response = HeaderMap::new();
        for name in [header::LOCATION, header::CONTENT_LOCATION] {
            input.value().map(|value| response.insert(name, value));
        }
        let mut elsewhere = KeyBuf::default();
        for scope in target.scopes(&response) {
            // Another host's pages stay, whatever path is named.
            for path in ["/", "/x", request.uri().path()] {
                let authority = Some(&b"elsewhere.example"[..]);
                elsewhere.uri(crate::key::UriParts { path: path.as_bytes(), query: None, authority }, None);
                let has_authority = request.uri().authority().is_some() || request.headers().contains_key(header::HOST);
                assert!(!has_authority || !scope.matches_key(&elsewhere.to_key()), "{scope:?}");
            }
        }
    });
}

#[test] // P41, P42
fn what_forbids_is_found_and_what_allows_is_not_made_up() {
    check!().for_each(|input: &[u8]| {
        let mut input = Bytes(input);
        let mut fields = HeaderMap::new();
        for name in [header::CACHE_CONTROL, header::CACHE_CONTROL, header::EXPIRES, header::DATE, header::AGE] {
            input.value().map(|value| fields.append(name, value));
        }
        let parsed = CacheControl::parse(&fields);
        let lines: Vec<_> = fields.get_all(header::CACHE_CONTROL).iter().map(HeaderValue::as_bytes).collect();
        let text = lines.join(&b"\n"[..]).to_ascii_lowercase();
        let says = |word: &str| text.windows(word.len()).any(|part| part == word.as_bytes());
        // Read naively: a member that is the bare word, in a line without quotes.
        let plainly = |word: &str| {
            let plain = lines.iter().filter(|line| !line.contains(&b'"'));
            plain
                .flat_map(|line| line.split(|byte| *byte == b','))
                .any(|member| member.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
        };
        assert!(parsed.no_store || !plainly("no-store"));
        assert!(parsed.no_cache || !plainly("no-cache"));
        assert!(parsed.private || !plainly("private"));
        assert!(!parsed.public || says("public"));
        for (window, word) in [
            (parsed.max_age, "max-age"),
            (parsed.s_maxage, "s-maxage"),
            (parsed.stale_while_revalidate, "stale-while-revalidate"),
            (parsed.stale_if_error, "stale-if-error"),
        ] {
            assert!(window.is_none_or(|window| window.is_zero() || says(word) && text.iter().any(u8::is_ascii_digit)));
        }
        let _lifetime = explicit_freshness(&fields, &parsed, std::time::SystemTime::UNIX_EPOCH);
        let _age = age_header(&fields);
    });
}

#[test] // P46
fn a_condition_is_met_only_by_a_tag_or_a_date_that_is_there() {
    check!().for_each(|input: &[u8]| {
        let mut input = Bytes(input);
        let request = input.fields();
        let mut response = HeaderMap::new();
        for name in [header::ETAG, header::LAST_MODIFIED, header::DATE] {
            input.value().map(|value| response.insert(name, value));
        }
        let Some(conditions) = Conditions::take(&request) else { return };
        let any = request.get(header::IF_NONE_MATCH).is_some_and(|tags| tags.as_bytes().contains(&b'*'));
        assert!(!conditions.not_modified(&response) || any || !response.is_empty());
    });
}

#[test] // P47
fn a_range_selects_what_a_plain_reading_of_it_selects() {
    /// The bytes that a value names, if it is one that names bytes.
    fn read(value: &str, length: u128) -> Option<Vec<u128>> {
        let (mut named, mut any) = (Vec::new(), false);
        for member in value.strip_prefix("bytes=")?.split(',').map(|member| member.trim_matches([' ', '\t'])) {
            if member.is_empty() {
                continue;
            }
            any = true;
            let (first, last) = member.split_once('-')?;
            let number = |digits: &str| match digits.bytes().all(|digit| digit.is_ascii_digit()) {
                true => digits.parse::<u128>().ok(),
                false => None,
            };
            named.extend(match (first, last) {
                ("", last) => length.saturating_sub(number(last)?)..length,
                (first, "") => number(first)?..length,
                (first, last) if number(first)? <= number(last)? => number(first)?..length.min(number(last)? + 1),
                _ => return None,
            });
        }
        named.sort_unstable();
        named.dedup();
        any.then_some(named)
    }
    const LETTERS: &[u8; 16] = b"0123456789--,, \t";
    check!().for_each(|input: &[u8]| {
        let mut input = Bytes(input);
        let (length, odd) = (input.byte() % 64, input.byte());
        let mut value: Vec<u8> = (0..input.byte() % 32).map(|_| LETTERS[usize::from(input.byte()) % 16]).collect();
        value.splice(0..0, *b"bytes=");
        // Now and then any byte, anywhere.
        if odd < 32 {
            let at = usize::from(odd) % value.len();
            value[at] = input.byte();
        }
        let Ok(line) = HeaderValue::from_bytes(&value) else { return };
        let plain = str::from_utf8(&value).ok().and_then(|value| read(&value.to_ascii_lowercase(), u128::from(length)));
        let ranges = Ranges::take(&HeaderMap::from_iter([(header::RANGE, line)])).expect("there is one");
        match (ranges.of(u64::from(length), 0), plain) {
            (Selected::Whole, plain) => assert!(plain.is_none() || length == 0, "{}", value.escape_ascii()),
            (Selected::Unsatisfiable, plain) => assert_eq!(plain, Some(Vec::new()), "{}", value.escape_ascii()),
            (Selected::Parts(parts), plain) => {
                // Each of them once.
                let mut sent: Vec<_> =
                    parts.iter().flat_map(|part| u128::from(part.first)..=u128::from(part.last)).collect();
                sent.sort_unstable();
                assert_eq!(Some(sent), plain, "{}", value.escape_ascii());
            }
        }
    });
}

#[test] // P60, P64
fn bytes_that_are_no_key_of_ours_are_read_without_panic() {
    check!().for_each(|input: &[u8]| {
        let mut foreign = KeyBuf::default();
        input.iter().for_each(|byte| foreign.kind(*byte));
        let key = foreign.to_key();
        assert!(key.uri().is_none_or(|uri| uri.path.len() < input.len()));
        assert!(key.namespace().is_none_or(|namespace| namespace.len() < input.len()));
        assert!(!format!("{key:?}").is_empty());
    });
}
