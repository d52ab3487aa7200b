//! Which tokens stand for a key and its tags, and which of them an invalidation deletes.
//!
//! A record holds a proof of every token that covers it, so that the deletion of any one of them is its end. Whatever a
//! scope can reach is covered by a token that the scope deletes; now and then a scope deletes one that covers more:
//!
//! * all below a path that is more than eight segments deep: all below its first eight;
//! * all below `/a/`: all below `/a`, and that is `/a` as well;
//! * all paths that begin with `/a/b` (a long URI in short): all below `/a`;
//! * a long key in short: everything.

use sha2::{Digest, Sha256};

use crate::{
    key::{self, Key, UriParts},
    scope::{Reach, Scope},
};

/// How deep paths are told apart.
const DEEPEST: usize = 8;
/// How many buckets there are for tags.
pub(super) const BUCKETS: usize = 256;

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Everything,
    Key(&'a [u8]),
    /// Of one host, or on all of them, as the two that follow.
    Uri {
        authority: Option<&'a [u8]>,
        path: &'a [u8],
        query: Option<&'a [u8]>,
    },
    Path {
        authority: Option<&'a [u8]>,
        path: &'a [u8],
    },
    /// A path without slashes at its end, and all that goes on from it with a segment of its own.
    Below {
        authority: Option<&'a [u8]>,
        path: &'a [u8],
    },
    Namespace(&'a [u8]),
    Tag(&'a str),
    /// A tag among what is keyed with this authority, or with none.
    Group {
        authority: Option<&'a [u8]>,
        tag: &'a str,
    },
}

/// Those that cover what is stored under a key, always in the same order.
pub(super) fn of_key(key: &Key) -> Vec<Token<'_>> {
    let mut tokens = vec![Token::Everything, Token::Key(key::bytes(key))];
    tokens.extend(key.namespace().map(Token::Namespace));
    let Some(UriParts { path, query, authority }) = key.uri() else { return tokens };
    let nodes = nodes(path);
    for authority in [Some(None), authority.map(Some)].into_iter().flatten() {
        tokens.extend([Token::Uri { authority, path, query }, Token::Path { authority, path }]);
        tokens.extend(nodes.iter().map(|node| Token::Below { authority, path: node }));
    }
    tokens
}

/// Those that cover what is stored under a key with these tags, always in the same order.
pub(super) fn of_tags<'a>(key: &'a Key, tags: impl IntoIterator<Item = &'a str>) -> Vec<Token<'a>> {
    let uri = key.uri();
    let of_tag = |tag| [Some(Token::Tag(tag)), uri.map(|uri| Token::Group { authority: uri.authority, tag })];
    tags.into_iter().flat_map(of_tag).flatten().collect()
}

/// Those that an invalidation deletes.
pub(super) fn deleted_by(scope: &Scope) -> Vec<Token<'_>> {
    match scope.reach() {
        Reach::Key(key) => vec![Token::Key(key::bytes(key))],
        Reach::Like(_) | Reach::Everything => vec![Token::Everything],
        Reach::Namespace(namespace) => vec![Token::Namespace(namespace.as_bytes())],
        Reach::Tag(tag) => vec![Token::Tag(tag)],
        Reach::Group(group) => vec![Token::Group { authority: group.authority(), tag: &group.name }],
        Reach::Uri(uri) => {
            let (authority, path) = (uri.authority(), uri.path());
            match (uri.queries(), uri.all_below()) {
                (Some(queries), _) => {
                    queries.iter().map(|query| Token::Uri { authority, path, query: *query }).collect()
                }
                (None, Some(path)) => vec![Token::Below { authority, path: node(path) }],
                (None, None) => vec![Token::Path { authority, path }],
            }
        }
    }
}

/// The bucket of what an invalidation reaches by a tag.
pub(super) fn bucket_of(scope: &Scope) -> Option<usize> {
    match scope.reach() {
        Reach::Tag(tag) => Some(bucket(tag)),
        Reach::Group(group) => Some(bucket(&group.name)),
        Reach::Key(_) | Reach::Like(_) | Reach::Uri(_) | Reach::Namespace(_) | Reach::Everything => None,
    }
}

/// The bucket of a tag: the same in every process.
pub(super) fn bucket(tag: &str) -> usize {
    usize::from(Sha256::digest(tag)[0]) % BUCKETS
}

/// All that a path is below: what begins it and ends before a slash, or is all of it.
fn nodes(path: &[u8]) -> Vec<&[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let mut nodes = vec![&path[..0]];
    nodes.extend(slashes.chain([path.len()]).take(DEEPEST + 1).map(|end| trimmed(&path[..end])));
    nodes.dedup();
    nodes
}

/// The node that stands for all below a path.
fn node(path: &[u8]) -> &[u8] {
    let path = trimmed(path);
    let ninth = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').nth(DEEPEST);
    trimmed(&path[..ninth.map_or(path.len(), |(at, _)| at)])
}

/// Without the slashes at its end.
pub(super) fn trimmed(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    &path[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        key::KeyBuf,
        scope::wire::tests::{host, name, path, query, scope},
        tags::Tags,
    };

    prop_compose! {
        fn uri()(path in path(), query in query(), authority in host(), namespace in prop::option::of(name())) -> Key {
            let mut key = KeyBuf::default();
            let uri = UriParts { path: &path, query: query.as_deref(), authority: authority.as_deref() };
            key.uri(uri, namespace.as_ref().map(|namespace| namespace.as_bytes()));
            key.to_key()
        }
    }

    fn key() -> impl Strategy<Value = Key> {
        prop_oneof![1 => "[ab]{0,2}".prop_map(Key::from), 4 => uri()]
    }

    fn is_deleted(scope: &Scope, key: &Key, tags: &Tags) -> bool {
        let covering = [of_key(key), of_tags(key, tags.iter())].concat();
        deleted_by(scope).iter().any(|token| covering.contains(token))
    }

    /// Whether a scope deletes the token of something greater, as the list above has it.
    fn is_coarse(scope: &Scope) -> bool {
        let Reach::Uri(uri) = scope.reach() else { return false };
        let is_deep = |path: &[u8]| path.iter().filter(|byte| **byte == b'/').count() > DEEPEST;
        uri.all_below().is_some_and(|all| all != uri.path() || all.is_empty() || all.ends_with(b"/") || is_deep(all))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test] // P31, P34, P71
        fn whatever_a_scope_reaches_loses_a_token_and_but_for_what_is_coarse_nothing_else_does(
            scope in scope(), key in key(), tags in prop::collection::vec(name(), 0..3),
        ) {
            let tags = Tags::new(tags);
            let (reached, deleted) = (scope.matches(&key, &tags), is_deleted(&scope, &key, &tags));
            prop_assert!(deleted || !reached, "{scope:?} {key:?} {tags:?}");
            prop_assert!(reached || !deleted || is_coarse(&scope), "{scope:?} {key:?} {tags:?}");
        }

        #[test] // P31
        fn what_is_reached_by_a_tag_has_its_bucket(scope in scope(), key in key(), tags in prop::collection::vec(name(), 0..3)) {
            let (tags, untagged) = (Tags::new(tags), Tags::default());
            if scope.matches(&key, &tags) && !scope.matches(&key, &untagged) {
                let bucket = bucket_of(&scope).unwrap();
                prop_assert!(tags.iter().any(|tag| self::bucket(tag) == bucket));
            }
        }
    }

    #[test] // P34
    fn a_path_is_below_all_that_begin_it_at_borders_of_segments_eight_deep() {
        let texts = |path: &'static str| {
            nodes(path.as_bytes()).into_iter().map(|node| str::from_utf8(node).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(texts("/"), [""]);
        assert_eq!(texts("/a/b"), ["", "/a", "/a/b"]);
        assert_eq!(texts("/a/"), ["", "/a"]);
        assert_eq!(texts("/a//b"), ["", "/a", "/a//b"]);
        assert_eq!(texts("*"), ["", "*"]);
        assert_eq!(texts("/1/2/3/4/5/6/7/8/9").last(), Some(&"/1/2/3/4/5/6/7/8"));
        assert_eq!(node(b"/1/2/3/4/5/6/7/8/9/10"), b"/1/2/3/4/5/6/7/8");
        assert_eq!((node(b"/a/"), node(b"/")), (&b"/a"[..], &b""[..]));
    }

    #[test] // P71
    fn a_tag_has_the_same_bucket_in_every_process() {
        // printf quotes | sha256sum
        assert_eq!((bucket("quotes"), bucket("")), (0x37, 0xe3));
    }
}
