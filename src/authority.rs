//! The one spelling of an authority, so that no two keys, and no key and no scope, differ by how a host is written.

use std::borrow::Cow;

/// The one spelling of an authority: lower case, without the default port of its scheme.
///
/// A request in origin-form has no scheme; its default port is that of `http`.
pub(crate) fn normal_authority<'a>(authority: &'a [u8], scheme: Option<&str>) -> Cow<'a, [u8]> {
    spelt(authority, characters(authority), scheme)
}

/// The same of what names a host, and nothing but a host: `None` if it does not.
pub(crate) fn authority_of_host<'a>(authority: &'a [u8], scheme: Option<&str>) -> Option<Cow<'a, [u8]>> {
    let characters = characters(authority);
    (characters & NO_HOST == 0).then(|| spelt(authority, characters, scheme))
}

/// An upper-case letter.
const UPPER: u8 = 1;
/// What no host has in its name.
const NO_HOST: u8 = 2;

/// Which kinds of characters there are in an authority.
fn characters(authority: &[u8]) -> u8 {
    static KINDS: [u8; 256] = {
        let mut kinds = [0; 256];
        let mut at = 0;
        while at < kinds.len() {
            let byte = at as u8;
            kinds[at] = match byte {
                b'A'..=b'Z' => UPPER,
                b'@' | b'/' | b'?' | b'#' | b',' | b'\\' => NO_HOST,
                _ if byte.is_ascii_graphic() => 0,
                _ => NO_HOST,
            };
            at += 1;
        }
        kinds
    };
    authority.iter().fold(0, |characters, byte| characters | KINDS[usize::from(*byte)])
}

fn spelt<'a>(authority: &'a [u8], characters: u8, scheme: Option<&str>) -> Cow<'a, [u8]> {
    let default_port: &[u8] =
        if scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) { b":443" } else { b":80" };
    let mut authority = authority;
    if !authority.last().is_some_and(|last| matches!(last, b':' | b'0' | b'3')) && characters & UPPER == 0 {
        return Cow::Borrowed(authority);
    }
    // Once more where that is not the end of it: what is spelt so must be its own spelling.
    while let Some(host) = authority.strip_suffix(default_port).or(authority.strip_suffix(b":")) {
        authority = host;
    }
    if characters & UPPER != 0 { Cow::Owned(authority.to_ascii_lowercase()) } else { Cow::Borrowed(authority) }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test] // P62
    fn the_one_spelling_of_an_authority_is_its_own() {
        for (authority, scheme, spelt) in [
            ("A.example:80", None, "a.example"),
            ("a.example:443", Some("https"), "a.example"),
            ("a.example:443", None, "a.example:443"),
            ("a.example:", None, "a.example"),
            ("[::1]:80", None, "[::1]"),
            ("a.example:80:80", None, "a.example"),
            ("a.example::80:", None, "a.example"),
        ] {
            let once = normal_authority(authority.as_bytes(), scheme);
            assert_eq!(once, spelt.as_bytes(), "{authority}");
            assert_eq!(normal_authority(&once, scheme), once, "{authority}");
        }
    }

    /// What the authority is spelt like, and whether it names a host and nothing but a host: letter by letter.
    fn plainly(authority: &[u8], scheme: Option<&str>) -> (Vec<u8>, bool) {
        let port: &[u8] =
            if scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) { b":443" } else { b":80" };
        let mut spelt = authority.to_ascii_lowercase();
        while spelt.ends_with(b":") || spelt.ends_with(port) {
            spelt.truncate(spelt.iter().rposition(|byte| *byte == b':').unwrap());
        }
        (spelt, authority.iter().all(|byte| byte.is_ascii_graphic() && !br"@/?#,\".contains(byte)))
    }

    proptest! {
        #[test] // P62
        fn an_authority_is_spelt_as_letter_by_letter(
            authority in prop_oneof!["[A-Za-c.:0348]{0,12}", "(a|A)[.](b|:)(:80|:443|:|:8|:0|:3|80|443){0,4}", any::<String>()]
                .prop_map(String::into_bytes)
                .boxed()
                .prop_union(vec(any::<u8>(), 0..12).boxed()),
            scheme in prop_oneof![Just(None), Just(Some("http")), Just(Some("HTTPS")), Just(Some("https")), Just(Some("ws"))],
        ) {
            let (spelt, names_a_host) = plainly(&authority, scheme);
            prop_assert_eq!(&*normal_authority(&authority, scheme), &spelt[..]);
            let of_host = authority_of_host(&authority, scheme);
            prop_assert_eq!(of_host.as_deref(), names_a_host.then_some(&spelt[..]));
        }
    }
}
