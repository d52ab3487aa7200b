//! What a response, or a request, says in `Cache-Control`, parsed as RFC 9111 says.
//!
//! One rule decides every doubtful case: **what a field forbids is read leniently, what it allows strictly.** A member
//! that breaks the grammar (`no-store; max-age=60`) still forbids whatever it legibly names, grants nothing, and turns
//! a lifetime that it names to zero (§4.2.1: invalid freshness is stale). A member never reaches past its own field
//! line, so none can hide a later one.

use std::iter;
use std::time::{Duration, SystemTime};

use http::header::{AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, DATE, EXPIRES, LAST_MODIFIED, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};

/// §1.2.2: whatever is longer, or overflows, counts as 2^31 seconds, which stand for ever.
const GREATEST: Duration = Duration::from_secs(1 << 31);

/// §4.2.2 leaves it to us for how long a guess may hold.
const LONGEST_GUESS: Duration = Duration::from_secs(86_400);

/// The directives of all `Cache-Control` lines of one message.
///
/// Durations are what was stated; where a directive came more than once, the smallest. What they mean together is the
/// policy's business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheControl {
    pub(crate) no_store: bool,
    /// Without field names, or with something else in their place (§5.2.2.4).
    pub(crate) no_cache: bool,
    /// Likewise (§5.2.2.7).
    pub(crate) private: bool,
    /// The field names of `no-cache` and `private`: what is left out of what is stored.
    pub(crate) withheld: Vec<HeaderName>,
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
    /// They were stated for this cache: `Cache-Control`, `Expires` and `Pragma` say nothing to it (RFC 9213 §2.2).
    pub(crate) targeted: bool,
}

impl CacheControl {
    /// Reads all field lines, in order.
    pub(crate) fn parse(headers: &HeaderMap) -> Self {
        let mut parsed = Self::default();
        each_directive(headers, |name, argument| parsed.apply(name, argument));
        parsed
    }

    pub(crate) fn apply(&mut self, name: &[u8], argument: Argument<'_>) {
        let mut buffer = [0; LONGEST_NAME];
        let Some(name) = lower_case(name, &mut buffer) else {
            return; // too long for any directive we know
        };
        match name {
            // These forbid, so they count with any argument or none.
            b"no-store" => self.no_store = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"no-cache" => match argument.field_names() {
                Some(names) => self.withheld.extend(names),
                None => self.no_cache = true,
            },
            b"private" => match argument.field_names() {
                Some(names) => self.withheld.extend(names),
                None => self.private = true,
            },
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

/// Reads all field lines of `Cache-Control`, in order.
pub(crate) fn each_directive(headers: &HeaderMap, mut apply: impl FnMut(&[u8], Argument<'_>)) {
    for member in headers.get_all(CACHE_CONTROL).iter().flat_map(|line| members(line.as_bytes())) {
        match directive(member) {
            Some((name, argument)) => apply(name, argument),
            None => words(member).for_each(|word| apply(word, Argument::Illegible)),
        }
    }
}

/// The lifetime that the response itself states, for a shared cache (§4.2.1); `None` when it states none.
///
/// `now` is when the response was received; it stands in for a `Date` that is missing or no date (RFC 9110 §6.6.1).
pub(crate) fn explicit_freshness(headers: &HeaderMap, cc: &CacheControl, now: SystemTime) -> Option<Duration> {
    // §5.3: either directive puts `Expires` out of force, even where its argument is invalid; so does a targeted field.
    cc.s_maxage.or(cc.max_age).or_else(|| if cc.targeted { None } else { lifetime_by_expires(headers, now) })
}

/// A lifetime for a response that states none (§4.2.2): a tenth of the time for which it had not been modified when it was
/// made, a day at most. `None` where it does not say when it was modified. `now` is as above.
///
/// A query in the URI makes no difference: §4.2.2 took that exception back.
pub(crate) fn heuristic_freshness(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let modified = http_date(headers.get(LAST_MODIFIED)?)?;
    let unchanged = date_or(headers, now).duration_since(modified).ok()?;
    Some((unchanged / 10).min(LONGEST_GUESS)).filter(|lifetime| !lifetime.is_zero())
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
///
/// The day of the week says nothing that the rest does not: a wrong one makes no date invalid.
pub(crate) fn http_date(value: &HeaderValue) -> Option<SystemTime> {
    let date = value.to_str().ok()?.trim();
    let parsed = httpdate::parse_http_date(date).or_else(|_| httpdate::parse_http_date(&capitalised(date)));
    parsed.ok().or_else(|| on_any_day(&capitalised(date)))
}

/// What follows a directive's name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Argument<'a> {
    Absent,
    Token(&'a [u8]),
    /// The inside of a quoted string with its escapes: an escaped digit is then no digit, the safe reading.
    Quoted(&'a [u8]),
    /// The member breaks the grammar: nobody knows what belongs to the name.
    Illegible,
}

impl<'a> Argument<'a> {
    pub(crate) fn seconds(self) -> Option<Duration> {
        match self {
            Self::Token(text) | Self::Quoted(text) => delta_seconds(text),
            Self::Absent | Self::Illegible => None,
        }
    }

    /// `#field-name`, quoted as §5.2.2.4 has it: a token (`private=true`) could be anything. `None` as well where there is
    /// no name, or one that a response cannot do without: then the directive is meant for all of it.
    fn field_names(self) -> Option<impl Iterator<Item = HeaderName> + 'a> {
        const NEEDED: [HeaderName; 4] = [CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY];
        let Self::Quoted(text) = self else { return None };
        let names = move || members(text).map(HeaderName::from_bytes);
        let all_may_go = names().all(|name| name.is_ok_and(|name| !NEEDED.contains(&name)));
        (all_may_go && names().next().is_some()).then(|| names().flatten())
    }
}

/// Of several values the smallest counts. §4.2.1 asks for the first, or for stale; the smallest is never fresher than
/// the first.
fn tighten(slot: &mut Option<Duration>, stated: Duration) {
    *slot = Some(slot.map_or(stated, |known| known.min(stated)));
}

/// §5.3: an `Expires` that is no date, `0` above all, lies in the past. Of several lines the earliest counts.
fn lifetime_by_expires(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    headers.get(EXPIRES)?;
    let date = date_or(headers, now);
    let lifetime = |expires| http_date(expires)?.duration_since(date).ok();
    headers.get_all(EXPIRES).iter().map(|expires| lifetime(expires).unwrap_or_default().min(GREATEST)).min()
}

/// When the response was made; `now` where it does not say.
fn date_or(headers: &HeaderMap, now: SystemTime) -> SystemTime {
    headers.get(DATE).and_then(http_date).unwrap_or(now)
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
pub(crate) fn members(mut line: &[u8]) -> impl Iterator<Item = &[u8]> {
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
            (inside, []) => Argument::Quoted(inside),
            _ => return None,
        },
        [b'=', token @ ..] if !token.is_empty() && token.iter().copied().all(is_tchar) => Argument::Token(token),
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

/// The date, whichever day of the week it was.
fn on_any_day(date: &str) -> Option<SystemTime> {
    const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let (name, rest) = date.split_at(date.find(|letter: char| !letter.is_ascii_alphabetic())?);
    let named = |day: &&str| day.get(..name.len()) == Some(name) && [3, day.len()].contains(&name.len());
    DAYS.iter().find(|day| named(day))?;
    let spelt = |day: &str| if name.len() == 3 { day[..3].to_owned() } else { day.to_owned() };
    DAYS.iter().find_map(|day| httpdate::parse_http_date(&(spelt(day) + rest)).ok())
}

#[cfg(test)]
mod tests;
