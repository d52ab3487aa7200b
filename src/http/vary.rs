//! Values of selecting fields, in the one form in which they are compared (RFC 9111 §4.1).
//!
//! Several lines of a field are one list (RFC 9110 §5.3). Beyond that a value is changed only in ways that are known to
//! leave its meaning as it is: in a field that is a list of members whose case does not matter, case and the whitespace
//! around commas. The order stays, since many take it for a preference among members of equal weight (RFC 9110 §12.5.4).

use std::borrow::Cow;

use http::{
    HeaderMap, HeaderName,
    header::{ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE},
};

/// Lists of which nothing is sensitive to case: codings (RFC 9110 §8.4.1), language ranges (RFC 4647 §2), charsets (RFC 9110
/// §8.3.2), and the weights of all of them. (`Accept` is none: a media type may have parameters that are.)
static CASELESS_LISTS: [HeaderName; 3] = [ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCEPT_CHARSET];

/// The value of a field as it is compared. `None` where the field is absent, which is not the same as empty.
pub(crate) fn comparable<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name).iter().map(|line| line.as_bytes().trim_ascii());
    let first = lines.next()?;
    let rest: Vec<_> = lines.collect();
    let value = match rest.as_slice() {
        [] => Cow::Borrowed(first),
        // RFC 9113 §8.2.3.
        _ if *name == COOKIE => Cow::Owned([&[first][..], &rest].concat().join(&b"; "[..])),
        _ => Cow::Owned([&[first][..], &rest].concat().join(&b", "[..])),
    };
    Some(if CASELESS_LISTS.contains(name) { caseless(value) } else { value })
}

/// Lower case, and `, ` between members.
fn caseless(list: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && *byte != b',';
    let is_comparable = list.iter().enumerate().all(|(at, byte)| match byte {
        // Most clients write it so already.
        b',' => list.get(at + 1) == Some(&b' ') && list.get(at + 2).is_some_and(is_plain),
        b' ' => at > 0 && list[at - 1] == b',',
        byte => is_plain(byte),
    });
    if is_comparable && list.first() != Some(&b',') {
        return list;
    }
    let members = list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty());
    let members: Vec<Vec<u8>> = members.map(without_whitespace).collect();
    Cow::Owned(members.join(&b", "[..]).to_ascii_lowercase())
}

/// Whitespace may stand around the `;` before a weight (RFC 9110 §12.4.2), and nowhere else in a member.
fn without_whitespace(member: &[u8]) -> Vec<u8> {
    let parts: Vec<_> = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).collect();
    parts.join(&b';')
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn compared(name: &str, lines: &[&str]) -> Option<String> {
        let name: HeaderName = name.parse().unwrap();
        let fields = lines.iter().map(|line| (name.clone(), HeaderValue::from_str(line).unwrap()));
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        comparable(&headers, &name).map(|value| String::from_utf8(value.into_owned()).unwrap())
    }

    #[test]
    fn rfc9111_4_1_several_lines_are_one_list_and_absent_is_not_empty() {
        assert_eq!(compared("foo", &[]), None);
        assert_eq!(compared("foo", &[""]).as_deref(), Some(""));
        assert_eq!(compared("foo", &["1", " 2 "]).as_deref(), Some("1, 2"));
        assert_eq!(compared("foo", &["1, 2"]), compared("foo", &["1", "2"]));
        assert_ne!(compared("foo", &["1", "2"]), compared("foo", &["2", "1"]));
    }

    #[test]
    fn rfc9111_4_1_what_is_known_to_mean_the_same_is_the_same() {
        for name in ["accept-encoding", "accept-language", "accept-charset"] {
            for same in ["EN, De;q=0.5", "en,de;q=0.5", " en ,\tde ; q=0.5,", ",en, de;Q=0.5"] {
                assert_eq!(compared(name, &[same]).as_deref(), Some("en, de;q=0.5"), "{name}: {same}");
            }
            for other in ["de;q=0.5, en", "en", "en, de", "en de;q=0.5", "en, de;q=0.50"] {
                assert_ne!(compared(name, &[other]).as_deref(), Some("en, de;q=0.5"), "{name}: {other}");
            }
            assert_ne!(compared(name, &[""]), None);
        }
    }

    #[test]
    fn rfc9111_4_1_of_any_other_field_nothing_is_known() {
        for name in ["foo", "accept", "cookie", "user-agent"] {
            for other in ["1,2", "1,  2", "A, 2"] {
                assert_eq!(compared(name, &[other]).as_deref(), Some(other));
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_compared_is_compared_the_same_again(value in "[a-cA-C,;=.0-9 \t]{0,16}") {
            let once = compared("accept-language", &[&value]).unwrap();
            prop_assert_eq!(compared("accept-language", &[&once]), Some(once.clone()));
            prop_assert_eq!(compared("accept-language", &[&value.to_uppercase()]), Some(once));
        }
    }
}
