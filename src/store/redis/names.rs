//! What things are called in Redis: names that an operator can read, and no two things share.
//!
//! All that belongs to one course has the key's hash as its hash tag, and so is on one node. A token's name says what
//! it stands for, as far as that is short and of plain characters; of what is not it has a hash.

use sha2::{Digest, Sha256};

use super::tokens::Token;
use crate::{entry::Course, key};

/// A name in Redis.
pub(super) type Name = Vec<u8>;

/// More characters than this of a token's name say nothing to anybody.
const READABLE: usize = 100;

/// The names of all that one cache keeps.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: Box<str>,
}

/// What is kept for a course.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CourseNames {
    /// Its record.
    pub(super) record: Name,
    /// Who runs for it.
    pub(super) lease: Name,
    /// That somebody waits for the one who does.
    pub(super) mark: Name,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    pub(super) fn course(&self, course: &Course) -> CourseNames {
        let [record, lease, mark] = self.of_course(course, ['r', 'l', 'w']);
        CourseNames { record, lease, mark }
    }

    /// The name of its record alone.
    pub(super) fn record(&self, course: &Course) -> Name {
        let [record] = self.of_course(course, ['r']);
        record
    }

    fn of_course<const N: usize>(&self, Course { key, variant }: &Course, kinds: [char; N]) -> [Name; N] {
        let (prefix, key) = (&self.prefix, hash([key::bytes(key)]));
        let variant = variant.as_ref().map(|values| format!(":{}", hash([values]))).unwrap_or_default();
        kinds.map(|kind| format!("{prefix}:{{{key}}}:{kind}{variant}").into_bytes())
    }

    pub(super) fn token(&self, token: &Token<'_>) -> Name {
        let (kind, name) = match *token {
            Token::Everything => ("all", None),
            Token::Key(key) => ("key", key.strip_prefix(&[key::RAW]).and_then(readable)),
            Token::Uri { authority, path, query } => {
                let query = match query {
                    None => Some(String::new()),
                    Some(query) => readable(query).map(|query| format!("?{query}")),
                };
                ("uri", place(authority, path).zip(query).map(|(place, query)| place + &query))
            }
            Token::Path { authority, path } => ("path", place(authority, path)),
            Token::Below { authority, path: b"" } => ("below", place(authority, b"/")),
            Token::Below { authority, path } => ("below", place(authority, path)),
            Token::Namespace(namespace) => ("namespace", readable(namespace)),
            Token::Tag(tag) => ("tag", readable(tag.as_bytes())),
            Token::Group { authority: None, tag } => ("group", without(b"@", tag.as_bytes())),
            Token::Group { authority: Some(authority), tag } => {
                let (tag, authority) = (without(b"@", tag.as_bytes()), readable(authority));
                ("group", tag.zip(authority).map(|(tag, authority)| format!("{tag}@{authority}")))
            }
        };
        let name = match name {
            _ if *token == Token::Everything => kind.to_owned(),
            Some(name) if name.len() <= READABLE => format!("{kind}:{name}"),
            _ => format!("{kind}:#{}", token.hash()),
        };
        format!("{}:t:{name}", self.prefix).into_bytes()
    }

    /// What every invalidation deletes.
    pub(super) fn epoch(&self) -> Name {
        format!("{}:e", self.prefix).into_bytes()
    }

    pub(super) fn buckets(&self) -> Name {
        format!("{}:b", self.prefix).into_bytes()
    }

    /// Where caches tell each other what happened.
    pub(super) fn channel(&self) -> String {
        format!("{}:push", self.prefix)
    }
}

impl Token<'_> {
    /// What no other token of this kind has.
    fn hash(&self) -> String {
        match *self {
            Token::Everything => hash([]),
            Token::Key(name) | Token::Namespace(name) => hash([name]),
            Token::Tag(tag) => hash([tag.as_bytes()]),
            Token::Uri { authority, path, query } => hash_of_some([authority, Some(path), query]),
            Token::Path { authority, path } | Token::Below { authority, path } => hash_of_some([authority, Some(path)]),
            Token::Group { authority, tag } => hash_of_some([authority, Some(tag.as_bytes())]),
        }
    }
}

/// A path on a host, or on all of them: nothing that is readable as another one.
fn place(authority: Option<&[u8]>, path: &[u8]) -> Option<String> {
    let readable = without(b"?", path).filter(|path| path.starts_with('/'))?;
    match authority {
        None => Some(readable).filter(|path| !path.starts_with("//")),
        Some(authority) => Some(format!("//{}{readable}", without(b"/?", authority)?)),
    }
}

fn without(separators: &[u8], name: &[u8]) -> Option<String> {
    (!name.iter().any(|byte| separators.contains(byte))).then_some(name).and_then(readable)
}

/// What can be typed at a prompt as it is. A hash begins with another character.
fn readable(name: &[u8]) -> Option<String> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/:@!$&()+,;=%?".contains(byte);
    let name = name.iter().all(is_plain).then_some(name)?;
    str::from_utf8(name).ok().map(str::to_owned)
}

fn hash_of_some<const N: usize>(parts: [Option<&[u8]>; N]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        // Absent is not empty, and the length says where a part ends.
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        digest.update(length.to_be_bytes());
        digest.update(part.unwrap_or_default());
    }
    hex(&digest.finalize())
}

fn hash<const N: usize>(parts: [&[u8]; N]) -> String {
    hash_of_some(parts.map(Some))
}

/// The first half of a digest.
fn hex(digest: &[u8]) -> String {
    let digits = digest.iter().take(16).flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{entry::Variant, key::Key, store::redis::tokens};

    fn names() -> Names {
        Names::new("cacheback")
    }

    fn token(token: &Token<'_>) -> String {
        String::from_utf8(names().token(token)).unwrap()
    }

    #[test] // P73
    fn all_that_belongs_to_a_course_is_on_one_node() {
        let key = Key::from("k");
        let values = Variant::new(b"v".as_slice().into());
        let [whole, variant] = [None, Some(values)].map(|variant| Course { key: key.clone(), variant });
        let [whole, variant] = [whole, variant].map(|course| names().course(&course));
        let all = [&whole.record, &whole.lease, &whole.mark, &variant.record, &variant.lease, &variant.mark];
        let all = all.map(|name| String::from_utf8(name.clone()).unwrap());
        let (start, _) = all[0].split_once('}').unwrap();
        assert!(all.iter().all(|name| name.starts_with(start) && name[start.len()..].starts_with("}:")), "{all:?}");
        assert_eq!(start.len(), "cacheback:{".len() + 32);
        assert!((1..all.len()).all(|at| !all[..at].contains(&all[at])), "{all:?}");
    }

    #[test]
    fn a_token_says_what_it_stands_for() {
        let host = Some(&b"a.example:8080"[..]);
        for (name, expected) in [
            (Token::Everything, "cacheback:t:all"),
            (Token::Key(b"\0user:42"), "cacheback:t:key:user:42"),
            (
                Token::Uri { authority: host, path: b"/x", query: Some(b"q=1") },
                "cacheback:t:uri://a.example:8080/x?q=1",
            ),
            (Token::Uri { authority: None, path: b"/x", query: None }, "cacheback:t:uri:/x"),
            (Token::Path { authority: None, path: b"/x/" }, "cacheback:t:path:/x/"),
            (Token::Below { authority: host, path: b"" }, "cacheback:t:below://a.example:8080/"),
            (Token::Below { authority: None, path: b"/x" }, "cacheback:t:below:/x"),
            (Token::Namespace(b"acme"), "cacheback:t:namespace:acme"),
            (Token::Tag("quotes"), "cacheback:t:tag:quotes"),
            (Token::Group { authority: host, tag: "quotes" }, "cacheback:t:group:quotes@a.example:8080"),
            (Token::Group { authority: None, tag: "quotes" }, "cacheback:t:group:quotes"),
        ] {
            assert_eq!(token(&name), expected);
        }
    }

    #[test]
    fn what_is_long_or_strange_is_named_by_its_hash() {
        let long = "x".repeat(101);
        for name in [Token::Tag(&long), Token::Tag("a b"), Token::Tag("{x}"), Token::Tag("caf\u{e9}"), Token::Tag("#a")]
        {
            let named = token(&name);
            let hash = named.strip_prefix("cacheback:t:tag:#").unwrap();
            assert!(hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{named}");
        }
        assert!(token(&Token::Key(b"\x01user")).starts_with("cacheback:t:key:#"));
    }

    /// All words of so many letters at most: separators for the most part, so that names which differ only in where a part
    /// ends do occur.
    fn words(longest: u32) -> Vec<String> {
        let mut words = vec![String::new()];
        for _ in 0..longest {
            let longer = words.iter().flat_map(|word| ["/", "?", "@", "a"].map(|letter| format!("{letter}{word}")));
            words = longer.chain([String::new()]).collect();
        }
        words
    }

    #[test] // P60, P71
    fn different_tokens_have_different_names() {
        let (words, mut parts) = (words(3), words(1));
        parts.push("a@a".into());
        let parts = || parts.iter().map(|part| Some(part.as_bytes())).chain([None]);
        let mut tokens = vec![Token::Everything];
        for word in &words {
            let path = word.as_bytes();
            tokens.extend([Token::Key(path), Token::Namespace(path), Token::Tag(word)]);
            for authority in parts() {
                tokens.extend([Token::Path { authority, path }, Token::Group { authority, tag: word }]);
                tokens.extend((tokens::trimmed(path) == path).then_some(Token::Below { authority, path }));
                tokens.extend(parts().map(|query| Token::Uri { authority, path, query }));
            }
        }
        let mut named = HashMap::new();
        for one in tokens {
            assert_eq!(named.insert(token(&one), one), None, "{one:?}");
        }
    }
}
