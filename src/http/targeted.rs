//! Directives for this cache alone, in fields of their own (RFC 9213): they take the place of `Cache-Control`.
//!
//! A targeted field is a dictionary of structured fields (RFC 9651), so it is either understood as a whole or ignored as a
//! whole: one that is empty, that does not parse, or that gives a lifetime or a permission of a wrong type (`max-age="60"`)
//! is as if it were not there, unless it forbids something beside that. The rule of `cache_control.rs` holds beside that: a directive that forbids counts with
//! whatever value it has, but `?0`, which says that it is not meant.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName};
use sfv::{
    BareItemFromInput, KeyRef, Parser,
    visitor::{DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor},
};

use crate::http::cache_control::{Argument, CacheControl};

/// The field that is meant for this cache and for nobody else.
pub(crate) const OWN: HeaderName = HeaderName::from_static("cacheback-cache-control");

/// The fields that are asked before `Cache-Control`, in the order in which they are asked.
#[derive(Clone, Debug)]
pub(crate) struct Targets(Arc<[HeaderName]>);

impl Targets {
    pub(crate) fn new(names: Vec<HeaderName>) -> Self {
        Self(names.into())
    }

    /// What a response says to this cache: in the first of these fields that is valid and not empty, else in
    /// `Cache-Control`.
    pub(crate) fn directives(&self, response: &HeaderMap) -> CacheControl {
        let targeted = self.0.iter().find_map(|name| directives(response, name));
        targeted.unwrap_or_else(|| CacheControl::parse(response))
    }

    /// Whether this field is one of them.
    pub(crate) fn contain(&self, name: &HeaderName) -> bool {
        self.0.contains(name)
    }

    /// Whether our own field is one of them: then it ends here.
    pub(crate) fn has_own(&self) -> bool {
        self.0.contains(&OWN)
    }

    /// Takes off what was said to this cache alone. What others may read as well passes on (§3).
    pub(crate) fn strip(&self, response: &mut HeaderMap) {
        // Looked for first, which is less than to look it up.
        if response.keys().any(|name| *name == OWN) && self.has_own() {
            response.remove(OWN);
        }
    }

    /// Takes off all that would tell another cache of a lifetime.
    pub(crate) fn remove(&self, response: &mut HeaderMap) {
        self.0.iter().for_each(|name| drop(response.remove(name)));
    }
}

impl Default for Targets {
    fn default() -> Self {
        Self::new(vec![OWN])
    }
}

/// What all lines of one targeted field say together; nothing where they say nothing, or are not understood.
fn directives(response: &HeaderMap, name: &HeaderName) -> Option<CacheControl> {
    let lines: Vec<_> = response.get_all(name).iter().map(|line| line.as_bytes()).collect();
    if lines.is_empty() {
        return None;
    }
    let members = Parser::new(&lines.join(&b", "[..])).parse_dictionary_with_visitor(Members::default()).ok()?;
    members.directives()
}

/// The directives that mean something here, each with whether a value of a wrong type still counts: those that forbid.
const KNOWN: [(&str, Kind); 11] = [
    ("no-store", Kind::Prohibition),
    ("no-cache", Kind::Prohibition),
    ("private", Kind::Prohibition),
    ("must-revalidate", Kind::Prohibition),
    ("proxy-revalidate", Kind::Prohibition),
    ("public", Kind::Permission),
    ("must-understand", Kind::Permission),
    ("max-age", Kind::Seconds),
    ("s-maxage", Kind::Seconds),
    ("stale-while-revalidate", Kind::Seconds),
    ("stale-if-error", Kind::Seconds),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Prohibition,
    Permission,
    Seconds,
}

/// What was said of each known directive. Of several with one name the last counts (RFC 9651 §4.2.2).
#[derive(Default)]
struct Members {
    said: [Value; KNOWN.len()],
    any: bool,
}

/// The value of a directive.
#[derive(Default)]
enum Value {
    #[default]
    Absent,
    Flag(bool),
    Seconds(u64),
    Text(String),
    /// Something that no directive has.
    Other,
}

impl Members {
    fn directives(&self) -> Option<CacheControl> {
        if !self.any {
            return None;
        }
        let mut stated = CacheControl { targeted: true, ..CacheControl::default() };
        let (mut forbids, mut is_mistyped) = (false, false);
        for ((name, kind), value) in KNOWN.iter().zip(&self.said) {
            let mut apply = |argument| stated.apply(name.as_bytes(), argument);
            match (kind, value) {
                (_, Value::Absent) | (Kind::Prohibition | Kind::Permission, Value::Flag(false)) => continue,
                (Kind::Prohibition | Kind::Permission, Value::Flag(true)) => apply(Argument::Absent),
                (Kind::Prohibition, Value::Text(fields)) => apply(Argument::Quoted(fields.as_bytes())),
                (Kind::Prohibition, _) => apply(Argument::Absent),
                (Kind::Seconds, Value::Seconds(seconds)) => apply(Argument::Token(seconds.to_string().as_bytes())),
                (Kind::Permission | Kind::Seconds, _) => is_mistyped = true,
            }
            forbids |= *kind == Kind::Prohibition;
        }
        if is_mistyped && !forbids {
            return None;
        }
        if is_mistyped {
            // What it forbids counts, and what it would grant is not known.
            stated.max_age = Some(Duration::ZERO);
        }
        Some(stated)
    }
}

impl<'de> DictionaryVisitor<'de> for Members {
    type Out = Self;
    type Error = Infallible;

    fn entry(&mut self, name: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        self.any = true;
        let known = KNOWN.iter().position(|(known, _)| *known == name.as_str());
        Ok(known.map(|at| &mut self.said[at]))
    }

    fn finish(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}

impl<'de> EntryVisitor<'de> for &mut Value {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(|item: BareItemFromInput<'de>| {
            *self = Value::from(item);
            // Parameters mean nothing (§2.1).
            Ok::<_, Infallible>(Ignored)
        })
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        *self = Value::Other;
        Ok(Ignored)
    }
}

impl From<BareItemFromInput<'_>> for Value {
    fn from(item: BareItemFromInput<'_>) -> Self {
        match item {
            BareItemFromInput::Boolean(flag) => Self::Flag(flag),
            BareItemFromInput::Integer(number) => u64::try_from(i64::from(number)).map_or(Self::Other, Self::Seconds),
            BareItemFromInput::String(text) => Self::Text(text.as_str().to_owned()),
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn said(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            headers.append(name, value);
        }
        headers
    }

    fn read(lines: &[&str]) -> Option<CacheControl> {
        let lines: Vec<_> = lines.iter().map(|line| ("cacheback-cache-control", *line)).collect();
        directives(&said(&lines), &OWN)
    }

    fn secs(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn rfc9213_2_1_directives_are_members_of_a_dictionary() {
        let stated = || CacheControl { targeted: true, ..CacheControl::default() };
        let all = CacheControl {
            no_store: true,
            private: true,
            public: true,
            must_revalidate: true,
            proxy_revalidate: true,
            must_understand: true,
            s_maxage: secs(1),
            max_age: secs(2),
            stale_while_revalidate: secs(3),
            stale_if_error: secs(4),
            ..stated()
        };
        let lines = [
            "no-store, private=?1, public, must-revalidate, proxy-revalidate;why=\"so\"",
            "must-understand, s-maxage=1, max-age=2;x, stale-while-revalidate=3, stale-if-error=4",
        ];
        assert_eq!(read(&lines), Some(all));
        assert_eq!(read(&["none"]), Some(stated()), "what is unknown is ignored, and the field is in force");
        assert_eq!(
            read(&["max-age=60, foo=(1 2);a=b, bar=:aGk=:"]),
            Some(CacheControl { max_age: secs(60), ..stated() })
        );
    }

    #[test]
    fn rfc9213_2_1_a_field_that_is_empty_or_malformed_is_ignored_as_a_whole() {
        for line in [
            "",
            " ",
            ",",
            "max-age=60,",
            "max-age=60; no-store=",
            "max-age =60",
            "max-age= 60",
            "Max-Age=60",
            "max-age=60, &&&",
            "no-store no-cache",
            "max-age=9999999999999999",
            "\"max-age=60\"",
            "max-age=60, x=\"",
            "no-store, max-age=.5",
        ] {
            assert_eq!(read(&[line]), None, "{line}");
        }
        assert_eq!(read(&["max-age=60", ""]), None, "lines are one value");
        let field = HeaderValue::from_bytes(b"no-store, x=\"\xe9\"").unwrap();
        assert_eq!(directives(&HeaderMap::from_iter([(OWN, field)]), &OWN), None);
    }

    #[test]
    fn rfc9213_2_1_what_grants_is_of_its_type_or_the_field_is_ignored() {
        for line in [
            "max-age",
            "max-age=\"60\"",
            "max-age=60.0",
            "max-age=-1",
            "max-age=?0",
            "max-age=(60)",
            "s-maxage=sixty",
            "stale-if-error=@60",
            "stale-while-revalidate=:aGk=:",
            "public=1",
            "must-understand=yes",
            "max-age=60, s-maxage=\"1\"",
        ] {
            assert_eq!(read(&[line]), None, "{line}");
            let forbidding = read(&[&format!("no-store, {line}")]).unwrap();
            assert!(forbidding.no_store && forbidding.max_age == secs(0), "{line}");
        }
    }

    #[test]
    fn rfc9213_2_1_what_forbids_counts_with_any_value_but_false() {
        for (name, forbids) in [
            ("no-store", (|said: &CacheControl| said.no_store) as fn(&CacheControl) -> bool),
            ("private", |said| said.private),
            ("must-revalidate", |said| said.must_revalidate),
            ("proxy-revalidate", |said| said.proxy_revalidate),
        ] {
            for value in ["", "=?1", "=1", "=yes", "=(a b)"] {
                assert!(read(&[&format!("{name}{value}")]).is_some_and(|said| forbids(&said)), "{name}{value}");
            }
            assert!(read(&[&format!("{name}=?0")]).is_some_and(|said| !forbids(&said)), "{name}");
        }
    }

    #[test]
    fn rfc9651_4_2_2_of_several_directives_of_one_name_the_last_counts() {
        assert_eq!(read(&["max-age=60", "max-age=5"]).unwrap().max_age, secs(5));
        assert_eq!(read(&["max-age=\"60\", max-age=600"]).unwrap().max_age, secs(600));
        assert!(!read(&["no-store, no-store=?0"]).unwrap().no_store);
        assert_eq!(read(&["max-age=60, max-age=(1)"]), None);
    }

    #[test]
    fn rfc9213_2_2_the_first_field_of_the_list_that_is_valid_decides() {
        let list =
            Targets::new(vec![HeaderName::from_static("a-cache-control"), HeaderName::from_static("b-cache-control")]);
        let lifetime = |fields: &[(&'static str, &str)]| {
            let said = list.directives(&said(fields));
            (said.max_age, said.targeted)
        };
        let (a, b, all) =
            (("a-cache-control", "max-age=1"), ("b-cache-control", "max-age=2"), ("cache-control", "max-age=3"));
        assert_eq!(lifetime(&[all, b, a]), (secs(1), true));
        assert_eq!(lifetime(&[all, b]), (secs(2), true));
        assert_eq!(lifetime(&[all, b, ("a-cache-control", "max-age=x")]), (secs(2), true));
        assert_eq!(lifetime(&[all, ("a-cache-control", ""), ("b-cache-control", "&")]), (secs(3), false));
        assert_eq!(lifetime(&[all, ("cacheback-cache-control", "max-age=9")]), (secs(3), false), "it is not listed");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(line in prop::collection::vec(any::<u8>(), 0..48)) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                directives(&HeaderMap::from_iter([(OWN, value)]), &OWN);
            }
        }

        #[test]
        fn rfc9213_2_1_every_lifetime_that_fits_is_read(seconds in 0..=999_999_999_999_999_u64) {
            let line = format!("max-age={seconds}");
            prop_assert_eq!(read(&[&line]).unwrap().max_age, secs(seconds.min(1 << 31)));
        }
    }
}
