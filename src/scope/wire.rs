//! A scope as bytes: what one instance tells the others that it has invalidated.
//!
//! The first byte is the version of the format, the second the kind; then follow the parts, each with its length before
//! it. What does not end where the last of them ends, is of another version, or is no scope for any other reason, gives none.

use std::sync::Arc;

use super::{Extent, GroupScope, Reach, Scope, UriScope};
use crate::key::{self, KeyBuf};

/// The format that this version writes, and the only one that it reads.
const FORMAT: u8 = 2;

/// The bytes of a scope. A key in short cannot be told to others, whose hashes are not ours: everything stands for it.
pub(crate) fn encode(scope: &Scope) -> Vec<u8> {
    let (mut kind, mut parts) = (0, KeyBuf::default());
    match &scope.0 {
        Reach::Everything | Reach::Like(_) => {}
        Reach::Key(named) => {
            kind = 1;
            parts.part(Some(key::bytes(named)));
        }
        Reach::Tag(tag) => {
            kind = 2;
            parts.part(Some(tag.as_bytes()));
        }
        Reach::Group(GroupScope { authority, name }) => {
            kind = 3;
            parts.part(authority.as_deref());
            parts.part(Some(name.as_bytes()));
        }
        Reach::Namespace(namespace) => {
            kind = 4;
            parts.part(Some(namespace.as_bytes()));
        }
        Reach::Uri(UriScope { authority, path, extent }) => {
            parts.part(authority.as_deref());
            parts.part(Some(path));
            kind = match extent {
                Extent::Query(query) => {
                    parts.part(query.as_deref());
                    5
                }
                Extent::Message(message) => {
                    parts.part(Some(message));
                    6
                }
                Extent::Queries => 7,
                Extent::Below => 8,
                Extent::Beginning => 9,
            };
        }
    }
    [&[FORMAT, kind], parts.as_slice()].concat()
}

/// The scope that has these bytes.
pub(crate) fn decode(bytes: &[u8]) -> Option<Scope> {
    let [FORMAT, kind, parts @ ..] = bytes else { return None };
    let mut parts = Parts(parts);
    let reach = match kind {
        0 => Reach::Everything,
        1 => Reach::Key(key::of_bytes(parts.bytes()?)),
        2 => Reach::Tag(parts.text()?),
        3 => Reach::Group(GroupScope { authority: parts.part()?.map(Into::into), name: parts.text()? }),
        4 => Reach::Namespace(parts.text()?),
        _ => {
            let (authority, path) = (parts.part()?.map(Into::into), parts.bytes()?.into());
            let extent = match kind {
                5 => Extent::Query(parts.part()?.map(Into::into)),
                6 => Extent::Message(parts.bytes()?.into()),
                7 => Extent::Queries,
                8 => Extent::Below,
                9 => Extent::Beginning,
                _ => return None,
            };
            Reach::Uri(UriScope { authority, path, extent })
        }
    };
    parts.0.is_empty().then_some(Scope(reach))
}

/// What is left to be read.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn part(&mut self) -> Option<Option<&'a [u8]>> {
        let (part, rest) = key::read(self.0)?;
        self.0 = rest;
        Some(part)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        self.part()?
    }

    fn text(&mut self) -> Option<Arc<str>> {
        str::from_utf8(self.bytes()?).ok().map(Into::into)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::Key;

    /// Few letters, so that scopes and keys that meet do occur.
    pub(crate) fn path() -> impl Strategy<Value = Vec<u8>> {
        let part = prop::sample::select(&["/", "/", "/", "a", "a", "b", "/a/b/a"][..]);
        prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat().into())
    }

    pub(crate) fn host() -> impl Strategy<Value = Option<Box<[u8]>>> {
        let host = prop::sample::select(&["h", ""][..]);
        prop::option::of(host.prop_map(|host| host.as_bytes().into()))
    }

    pub(crate) fn query() -> impl Strategy<Value = Option<Box<[u8]>>> {
        let query = prop::sample::select(&["", "q", "\0m", "\x01"][..]);
        prop::option::of(query.prop_map(|query| query.as_bytes().into()))
    }

    pub(crate) fn name() -> impl Strategy<Value = Arc<str>> {
        prop::sample::select(&["a", "b", ""][..]).prop_map(Into::into)
    }

    pub(crate) fn scope() -> impl Strategy<Value = Scope> {
        (0..12_u8, host(), path(), query(), name()).prop_map(|(kind, authority, path, query, name)| {
            let extent = match kind {
                0 => return Scope::everything(),
                1 => return Scope::from(Key::from(&*name)),
                2 => return Scope::tag(name),
                3 => return Scope::group_of(authority.as_deref(), name),
                4 => return Scope::namespace(name),
                5 | 6 => Extent::Query(query),
                7 => Extent::Message(b"\0m".as_slice().into()),
                8 | 9 => Extent::Below,
                10 => Extent::Beginning,
                _ => Extent::Queries,
            };
            Scope(Reach::Uri(UriScope { authority, path: path.into(), extent }))
        })
    }

    proptest! {
        #[test] // P72
        fn what_is_told_is_what_was_invalidated(scope in scope()) {
            prop_assert_eq!(decode(&encode(&scope)), Some(scope));
        }

        #[test] // P64, P76
        fn what_is_cut_goes_on_or_is_of_another_version_is_no_scope(scope in scope(), at: prop::sample::Index, other: u8) {
            let whole = encode(&scope);
            prop_assert_eq!(decode(&whole[..at.index(whole.len())]), None);
            prop_assert_eq!(decode(&[&whole[..], b"x"].concat()), None);
            prop_assert_eq!(decode(&[&[other], &whole[1..]].concat()).is_some(), other == FORMAT);
        }

        #[test] // P64
        fn whatever_comes_is_read_without_a_panic(kind in 0..12_u8, parts: Vec<u8>, length: u32, short: u8) {
            let long = [&[254], &length.to_be_bytes()[..], &parts].concat();
            for parts in [parts.clone(), [&[short], &parts[..]].concat(), long] {
                let bytes = [&[FORMAT, kind], &parts[..]].concat();
                if let Some(scope) = decode(&bytes) {
                    prop_assert_ne!(format!("{scope:?}"), "");
                    prop_assert_eq!(encode(&scope), bytes);
                }
            }
        }
    }

    #[test] // P31
    fn a_key_in_short_is_told_as_everything() {
        let short = Scope::from(Key::from("x".repeat(600))).in_short();
        assert_eq!(decode(&encode(&short)), Some(Scope::everything()));
    }
}
