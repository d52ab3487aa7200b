//! What identifies a stored response: canonical bytes, injective, and looked up by a borrow.
//!
//! Every part is written with its length before it and an absent part differs from an empty one, so that no two
//! different lists of parts give the same bytes. A key that stands for a URI begins with path, query, authority and
//! namespace, in this order: what invalidates by URI or namespace finds them there, whatever rules of a layer follow.

use std::{borrow::Borrow, fmt, sync::Arc};

use crate::room::Room;

/// What identifies a stored response.
///
/// A typed layer's key function makes one from a string or from bytes:
///
/// ```
/// use cacheback::Key;
/// assert_eq!(Key::from("user:42"), Key::from(b"user:42".to_vec()));
/// ```
///
/// Cloning is cheap. Two keys are equal if their bytes are; a hash never decides.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Arc<[u8]>);

/// A key under construction, on the stack as long as it is short.
#[derive(Default)]
pub struct KeyBuf(Room<256>);

/// The URI that a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UriParts<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) query: Option<&'a [u8]>,
    pub(crate) authority: Option<&'a [u8]>,
}

/// The first byte of a key that is somebody's own bytes.
pub(crate) const RAW: u8 = 0;
/// The first byte of a key that begins with a URI.
const URI: u8 = 1;
/// The byte before a message that stands in the place of a query. No URI has it, so none names a message.
const MESSAGE: u8 = 0;
/// The query of a call whose message is compressed, and follows later in its key: all those of a method have this one.
pub(crate) const COMPRESSED: [u8; 1] = [1];
/// In place of a length: there is no such part.
const ABSENT: u8 = u8::MAX;
/// In place of a length: it is no less than this, and follows in four bytes.
const LONG: u8 = u8::MAX - 1;

impl Key {
    /// The URI at the head of the key, if there is one.
    pub(crate) fn uri(&self) -> Option<UriParts<'_>> {
        self.head().map(|(uri, _)| uri)
    }

    /// The path of that URI.
    pub(crate) fn path(&self) -> Option<&[u8]> {
        let (&URI, rest) = self.0.split_first()? else { return None };
        read(rest)?.0
    }

    /// The namespace of the key, if it stands for a URI and has one.
    pub(crate) fn namespace(&self) -> Option<&[u8]> {
        self.head()?.1
    }

    fn head(&self) -> Option<(UriParts<'_>, Option<&[u8]>)> {
        let (&URI, rest) = self.0.split_first()? else { return None };
        let (path, rest) = read(rest)?;
        let (query, rest) = read(rest)?;
        let (authority, rest) = read(rest)?;
        let (namespace, _) = read(rest)?;
        Some((UriParts { path: path?, query, authority }, namespace))
    }

    /// What the key takes in memory beside the handle that points to it.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What stands for a message in the place of a query.
pub(crate) fn message_query(message: &[u8]) -> Vec<u8> {
    [&[MESSAGE], message].concat()
}

/// The key that has these bytes.
#[cfg(feature = "redis")]
pub(crate) fn of_bytes(bytes: &[u8]) -> Key {
    Key(Arc::from(bytes))
}

/// Whether two keys say at their beginning that they are of one kind, and their first parts of one length.
pub(crate) fn begin_alike(key: &[u8], other: &[u8]) -> bool {
    // Where the length is not in the byte that stands for it nothing is said: few paths are as long.
    key.first_chunk::<2>().is_some_and(|head| head[1] != LONG && other.first_chunk() == Some(head))
}

/// The bytes by which a key is looked up.
pub(crate) fn bytes(key: &Key) -> &[u8] {
    key.borrow()
}

impl KeyBuf {
    /// Begins a key that stands for a URI in a namespace.
    pub(crate) fn uri(&mut self, uri: UriParts<'_>, namespace: Option<&[u8]>) {
        self.path_and_query(uri.path, uri.query);
        self.part(uri.authority);
        self.part(namespace);
    }

    /// Begins the key of a call: its method, and its message where that can be read.
    pub(crate) fn method_and_message(&mut self, method: &[u8], message: Option<&[u8]>) {
        let Some(message) = message else { return self.path_and_query(method, Some(&COMPRESSED)) };
        self.0.clear();
        self.0.push(URI);
        self.part(Some(method));
        // NOTE: as `part` writes what `message_query` makes, without the copy.
        self.mark(u32::try_from(message.len() + 1).unwrap_or(u32::MAX));
        self.0.push(MESSAGE);
        self.0.extend(message);
    }

    /// Begins as all keys of this path with this query do.
    pub(crate) fn path_and_query(&mut self, path: &[u8], query: Option<&[u8]>) {
        self.0.clear();
        self.0.push(URI);
        self.part(Some(path));
        self.part(query);
    }

    /// How all keys of this path with this query begin.
    pub(crate) fn of_path_and_query(path: &[u8], query: Option<&[u8]>) -> Self {
        let mut head = Self::default();
        head.path_and_query(path, query);
        head
    }

    /// Appends what others are to follow.
    pub(crate) fn append(&mut self, parts: &Self) {
        self.0.extend(parts.as_slice());
    }

    /// Makes the key somebody's own bytes.
    pub(crate) fn raw(&mut self, key: &Key) {
        self.0.clear();
        self.0.extend(&key.0);
    }

    /// Appends a part, or the fact that there is none.
    pub(crate) fn part(&mut self, part: Option<&[u8]>) {
        let Some(part) = part else { return self.0.push(ABSENT) };
        // No request carries a part of 4 GiB.
        self.mark(u32::try_from(part.len()).unwrap_or(u32::MAX));
        self.0.extend(part);
    }

    /// Appends a number that says what follows, or how many of it.
    pub(crate) fn mark(&mut self, mark: u32) {
        match u8::try_from(mark) {
            Ok(short) if short < LONG => self.0.push(short),
            _ => {
                self.0.push(LONG);
                self.0.extend(&mark.to_be_bytes());
            }
        }
    }

    /// Appends a byte that says what kind of part follows.
    pub(crate) fn kind(&mut self, kind: u8) {
        self.0.push(kind);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }

    pub(crate) fn to_key(&self) -> Key {
        Key(Arc::from(self.as_slice()))
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        // Of known length: one allocation.
        Self([RAW].iter().chain(bytes).copied().collect())
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self::from(text.as_bytes())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uri() {
            Some(uri) => write!(f, "Key({uri})"),
            None => write!(f, "Key({})", String::from_utf8_lossy(&self.0[1.min(self.0.len())..])),
        }
    }
}

impl fmt::Debug for KeyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_key().fmt(f)
    }
}

impl fmt::Display for UriParts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(authority) = self.authority {
            write!(f, "//{}", String::from_utf8_lossy(authority))?;
        }
        f.write_str(&String::from_utf8_lossy(self.path))?;
        match self.query {
            Some(query) => write!(f, "?{}", query.escape_ascii()),
            None => Ok(()),
        }
    }
}

/// Takes one part off the front: `None` if the bytes end too soon, `Some((None, _))` for an absent part.
pub(crate) fn read(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = match bytes.split_first()? {
        (&ABSENT, rest) => return Some((None, rest)),
        (&LONG, rest) => {
            let (length, rest) = rest.split_first_chunk()?;
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            // Each length is written in one way only.
            (if length < LONG.into() { return None } else { length }, rest)
        }
        (&length, rest) => (length.into(), rest),
    };
    (length <= rest.len()).then(|| rest.split_at(length)).map(|(part, rest)| (Some(part), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
        // Few letters and short parts, so that pairs which differ only in where a part ends do occur.
        let byte = || prop_oneof![Just(0_u8), Just(255), Just(254), Just(1), Just(b'a')];
        let length = prop_oneof![9 => 0..4_usize, 1 => 252..257_usize];
        let part = prop::option::of(length.prop_flat_map(move |length| prop::collection::vec(byte(), length)));
        prop::collection::vec(part, 0..5)
    }

    proptest! {
        #[test] // P60
        fn different_parts_give_different_keys(a in parts(), b in parts()) {
            let build = |parts: &[Option<Vec<u8>>]| {
                let mut key = KeyBuf::default();
                parts.iter().for_each(|part| key.part(part.as_deref()));
                key.to_key()
            };
            prop_assert_eq!(build(&a) == build(&b), a == b);
        }

        #[test] // P60
        fn uri_and_namespace_are_read_back_whatever_follows(
            path: Vec<u8>, query: Option<Vec<u8>>, host: Option<Vec<u8>>, namespace: Option<Vec<u8>>, rest: Vec<u8>,
        ) {
            let uri = UriParts { path: &path, query: query.as_deref(), authority: host.as_deref() };
            let mut key = KeyBuf::default();
            key.uri(uri, namespace.as_deref());
            key.part(Some(&rest));
            let key = key.to_key();
            prop_assert_eq!(key.uri(), Some(uri));
            prop_assert_eq!(key.namespace(), namespace.as_deref());
        }
    }

    #[test] // P60
    fn a_part_of_any_length_is_read_back_and_what_is_cut_is_none() {
        for length in [0, 1, 252, 253, 254, 255, 256, 65_536] {
            let mut key = KeyBuf::default();
            let part = vec![b'p'; length];
            key.part(Some(&part));
            let (head, whole) = (key.as_slice().len(), [key.as_slice(), b"rest"].concat());
            assert_eq!(read(&whole), Some((Some(&part[..]), &b"rest"[..])), "{length}");
            assert_eq!(read(&whole[..head - 1]), None, "{length}");
        }
        assert_eq!(read(&[254, 0, 0, 0, 1, b'p']), None, "each length is written in one way only");
    }

    #[test] // P60, P80
    fn a_message_is_read_back_as_what_a_scope_asks_for() {
        let mut key = KeyBuf::default();
        for message in [&b""[..], b"a", &[0; 252], &[0; 253], &[0; 254], &[0; 70_000]] {
            key.method_and_message(b"/q.Q/Get", Some(message));
            key.part(None);
            key.part(None);
            assert_eq!(key.to_key().uri().unwrap().query, Some(&message_query(message)[..]));
        }
        key.method_and_message(b"/q.Q/Get", None);
        assert_eq!(key.as_slice(), KeyBuf::of_path_and_query(b"/q.Q/Get", Some(&COMPRESSED)).as_slice());
    }

    #[test]
    fn own_bytes_are_never_taken_for_a_uri() {
        let mut uri = KeyBuf::default();
        uri.uri(UriParts { path: b"/", query: None, authority: None }, None);
        let own = Key::from(uri.as_slice());
        assert_eq!(own.uri(), None);
        assert_ne!(own, uri.to_key());
        assert_eq!(format!("{:?} {:?}", Key::from("user:42"), uri), "Key(user:42) Key(/)");
    }
}
