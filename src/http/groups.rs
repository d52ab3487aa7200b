//! Cache groups (RFC 9875): a response says to which groups it belongs, and which groups an unsafe request has changed.
//!
//! A group is a tag, and `Cache-Groups` tags a response as [`Tags`] do: both are one mechanism. What differs is who
//! speaks. An application that invalidates a tag means all that carries it, on every host. A field speaks for its own
//! origin alone, so `Cache-Group-Invalidation` reaches a tag where it is keyed with the authority of its request
//! ([`Scope::group`]): one host can neither see nor touch what another one calls by the same name.
//!
//! There is no cascade (§2.2.1), since an invalidation goes by what is stored with a response and never by what its removal
//! might mean. A field that is no list of strings is ignored as a whole. How many groups there are, and how long their
//! names, is bounded by what a message may hold and by nothing else.

use std::{convert::Infallible, fmt, sync::Arc};

use http::{Extensions, HeaderMap, HeaderName};
use sfv::{
    BareItemFromInput, Parser,
    visitor::{EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ListVisitor, Never},
};

use crate::{scope::Scope, tags::Tags};

const GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// All tags of a response: those that were said beside its fields, and then its groups.
pub(crate) fn tags(response: &HeaderMap, extensions: &Extensions) -> Tags {
    let said = said(extensions);
    match list(response, &GROUPS) {
        groups if groups.is_empty() => said,
        groups => said.and(groups),
    }
}

/// The tags that were said beside the fields of a response.
pub(crate) fn said(extensions: &Extensions) -> Tags {
    extensions.get().cloned().unwrap_or_default()
}

/// Those of these tags that are not groups which this response lists: they were said beside its fields.
pub(crate) fn beside(tags: &Tags, response: &HeaderMap) -> Tags {
    let groups = list(response, &GROUPS);
    if groups.is_empty() { tags.clone() } else { tags.without(&groups) }
}

/// Whoever names more groups than this to be invalidated names everything of his: one host must not crowd out what is
/// remembered of the invalidations of others.
const MOST: usize = 128;

/// What the response to an unsafe request invalidates among the responses of this authority.
pub(crate) fn invalidated(response: &HeaderMap, authority: Option<&[u8]>) -> Vec<Scope> {
    let names = list(response, &INVALIDATION);
    if names.len() > MOST || names.iter().map(|name| name.len()).sum::<usize>() > MOST * MOST {
        return vec![Scope::authority(authority)];
    }
    names.into_iter().map(|name| Scope::group_of(authority, name)).collect()
}

/// The strings that all lines of a field list together, each once; none where it is not a list of strings.
fn list(response: &HeaderMap, name: &HeaderName) -> Vec<Arc<str>> {
    let lines: Vec<_> = response.get_all(name).iter().map(|line| line.as_bytes()).collect();
    if lines.is_empty() {
        return Vec::new();
    }
    Parser::new(&lines.join(&b", "[..])).parse_list_with_visitor(Strings::default()).unwrap_or_default()
}

/// Reads a list of strings, whatever their parameters.
#[derive(Default)]
struct Strings(Vec<Arc<str>>);

/// A member is something else.
#[derive(Debug)]
struct NoString;

impl<'de> ListVisitor<'de> for Strings {
    type Out = Vec<Arc<str>>;
    type Error = Infallible;

    fn entry(&mut self) -> Result<impl EntryVisitor<'de>, Infallible> {
        Ok(&mut *self)
    }

    fn finish(self) -> Result<Self::Out, Infallible> {
        Ok(self.0)
    }
}

impl<'de> EntryVisitor<'de> for &mut Strings {
    type Error = NoString;

    fn item(self) -> Result<impl ItemVisitor<'de>, NoString> {
        Ok(|item: BareItemFromInput<'de>| {
            let BareItemFromInput::String(name) = item else { return Err(NoString) };
            if !self.0.iter().any(|known| **known == *name.as_str()) {
                self.0.push(name.as_str().into());
            }
            Ok(Ignored)
        })
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, NoString> {
        Err::<Never, _>(NoString)
    }
}

impl fmt::Display for NoString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a string")
    }
}

impl std::error::Error for NoString {}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn listed(lines: &[&str]) -> Vec<String> {
        let lines = lines.iter().map(|line| (GROUPS, HeaderValue::from_str(line).unwrap()));
        let headers: HeaderMap = lines.collect();
        list(&headers, &GROUPS).iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn rfc9875_2_groups_are_a_list_of_strings() {
        assert_eq!(listed(&["\"a\", \"b c\"", "\"A\";x=1,\"\", \"a\\\"\\\\\""]), ["a", "b c", "A", "", "a\"\\"]);
        assert_eq!(listed(&["\"a\"", "\"b\"", "\"a\""]), ["a", "b"], "each counts once");
        assert_eq!(listed(&[]), [""; 0]);
    }

    #[test]
    fn rfc9875_2_a_field_that_is_no_list_of_strings_is_ignored_as_a_whole() {
        for line in
            ["a", "\"a\", b", "\"a\",", "\"a", "'a'", "\"a\" \"b\"", "(\"a\")", "\"a\", 1", "\"\\n\"", "?1", ":aGk=:"]
        {
            assert_eq!(listed(&[line]), [""; 0], "{line}");
            assert_eq!(listed(&["\"good\"", line]), [""; 0], "{line}");
        }
    }

    #[test]
    fn rfc9875_2_many_groups_with_long_names_are_no_matter() {
        let names: Vec<_> = (0..256).map(|n| format!("{n:0>64}")).collect();
        let line = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        assert_eq!(listed(&[&line]), names);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(line in prop::collection::vec(any::<u8>(), 0..48)) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                list(&HeaderMap::from_iter([(GROUPS, value)]), &GROUPS);
            }
        }
    }
}
