//! An entity tag for a response whose handler gives none (RFC 9110 §8.8.3): a hash of what is stored.
//!
//! It is strong: what is sent of the content, and what says how to read it, is all in it. It is the same in every process
//! that stores the same bytes, and nobody can make two bodies that have it in common.

use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE},
};
use sha2::{Digest, Sha256};

/// The tag of this content with these fields.
pub(crate) fn of(content: &[u8], fields: &HeaderMap) -> HeaderValue {
    let mut hash = Sha256::new();
    for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE] {
        for line in fields.get_all(name) {
            hash.update(line.as_bytes());
            hash.update(b"\n");
        }
        hash.update(b"\n");
    }
    hash.update(content);
    // Half of it is more than chance, or anyone, can hit.
    let digits = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>();
    HeaderValue::try_from(format!("\"{digits}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;
    use std::collections::HashSet;

    #[test]
    fn rfc9110_8_8_1_what_differs_in_content_or_in_how_it_is_read_has_another_tag() {
        let fields = |fields: &[(HeaderName, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(name, HeaderValue::from_static(value));
            }
            map
        };
        let all = [
            of(b"", &fields(&[])),
            of(b"a", &fields(&[])),
            of(b"b", &fields(&[])),
            of(b"a", &fields(&[(CONTENT_TYPE, "a")])),
            of(b"", &fields(&[(CONTENT_TYPE, "a")])),
            of(b"a", &fields(&[(CONTENT_ENCODING, "a")])),
            of(b"a", &fields(&[(CONTENT_LANGUAGE, "a")])),
            of(b"a", &fields(&[(CONTENT_LANGUAGE, "a"), (CONTENT_LANGUAGE, "b")])),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        assert_eq!(
            of(b"a", &fields(&[(HeaderName::from_static("x-own"), "1")])),
            all[1],
            "what else it says is not of the content"
        );
    }
}
