//! What each scope reaches, and what it does not.

use super::*;
use crate::key::KeyBuf;

fn key(authority: &str, path: &str, query: Option<&str>) -> Key {
    let mut key = KeyBuf::default();
    let uri = UriParts {
        path: path.as_bytes(),
        query: query.map(str::as_bytes),
        authority: (!authority.is_empty()).then_some(authority.as_bytes()),
    };
    key.uri(uri, Some(b"acme"));
    key.part(Some(b"whatever a layer adds"));
    key.to_key()
}

#[test] // P33, P65
fn a_long_key_in_short_is_that_key_and_no_other() {
    let long = |last: char| Key::from(format!("{}{last}", "x".repeat(LONG)));
    let short = Scope::from(long('a')).in_short();
    assert!(short.weight() < LONG && short.matches_key(&long('a')) && !short.matches_key(&long('b')));
    assert_eq!(Scope::from(Key::from("a")).in_short(), Scope::from(Key::from("a")));
}

#[test] // P34
fn a_uri_without_authority_reaches_all_hosts_and_without_query_exactly_that() {
    let scope = Scope::uri("/x").unwrap();
    assert!(scope.matches_key(&key("a", "/x", None)) && scope.matches_key(&key("", "/x", None)));
    for other in [key("a", "/x", Some("")), key("a", "/x", Some("q=1")), key("a", "/x/", None)] {
        assert!(!scope.matches_key(&other), "{other:?}");
    }
    assert!(!scope.matches_key(&Key::from("/x")));
}

#[test] // P34
fn a_path_takes_every_query_and_an_authority_narrows_it() {
    let scope = Scope::path("https://A.example:443/x").unwrap();
    assert!(scope.matches_key(&key("a.example", "/x", Some("q=1"))));
    assert!(!scope.matches_key(&key("b.example", "/x", Some("q=1"))));
    assert!(Scope::path("http://a.example").unwrap().matches_key(&key("a.example", "/", None)));
}

#[test] // P34
fn a_prefix_ends_at_a_border_of_segments() {
    for (prefix, reached, others) in [
        ("/x", &["/x", "/x/", "/x/y", "/x//y", "/x/y/z"][..], &["/", "/xy", "/x%2Fy", "/y/x", "/X", "/x;v=1"][..]),
        ("/x/", &["/x/", "/x/y", "/x//y"], &["/x", "/xy", "/"]),
        ("/x/y", &["/x/y", "/x/y/z"], &["/x", "/x/yz", "/x/"]),
        ("/", &["/", "/x", "/x/y"], &[]),
    ] {
        let scope = Scope::path_prefix(prefix).unwrap();
        for path in reached {
            assert!(scope.matches_key(&key("a", path, Some("q=1"))), "{prefix} {path}");
        }
        for path in others {
            assert!(!scope.matches_key(&key("a", path, None)), "{prefix} {path}");
        }
    }
    let on_a = Scope::path_prefix("http://a.example/x").unwrap();
    assert!(on_a.matches_key(&key("a.example", "/x/1", None)));
    assert!(!on_a.matches_key(&key("b.example", "/x/1", None)));
    assert!(Scope::path_prefix("/x?q").is_err());
}

#[test] // P80
fn a_message_is_reached_with_all_that_are_compressed_and_no_other() {
    let scope = Scope::message("/q.Q/Get", b"a").unwrap();
    let call = |path: &str, query: &[u8]| {
        let mut key = KeyBuf::default();
        key.uri(UriParts { path: path.as_bytes(), query: Some(query), authority: Some(b"a") }, None);
        key.to_key()
    };
    for reached in [message_query(b"a"), COMPRESSED.to_vec()] {
        assert!(scope.matches_key(&call("/q.Q/Get", &reached)));
        assert!(!scope.matches_key(&call("/q.Q/Put", &reached)) && !scope.matches_key(&call("/q.Q", &reached)));
    }
    for other in [message_query(b"ab"), message_query(b""), b"a".to_vec(), vec![1, b'a']] {
        assert!(!scope.matches_key(&call("/q.Q/Get", &other)), "{other:?}");
    }
    assert!(!scope.matches_key(&key("a", "/q.Q/Get", None)));
    let long = Scope::message("/q.Q/Get", vec![b'x'; LONG]).unwrap().in_short();
    assert!(long.weight() < LONG && long.matches_key(&call("/q.Q/Get", &message_query(b"b"))));
    assert!(Scope::message("/q.Q/Get?a", b"").is_err());
}

#[test]
fn a_namespace_is_that_of_the_layer_and_nothing_else() {
    let reached = |namespace: &str| Scope::namespace(namespace).matches_key(&key("a", "/x", None));
    assert!(reached("acme"));
    assert!(!reached("acm") && !reached("") && !reached("/x"));
    assert!(!Scope::namespace("acme").matches_key(&Key::from("acme")));
}

#[test]
fn what_can_name_nothing_is_refused_in_words() {
    for (path, words) in [
        ("quotes/42", "a path begins with a slash"),
        ("", "a path begins with a slash"),
        ("/caf\u{e9}", "'é' is never part of a request's URI: write it percent-encoded"),
        ("/a b", "' ' is never part of a request's URI: write it percent-encoded"),
        ("https://a.example?q=/x", "a path begins with a slash"),
        ("/x?q=1", "a path has no query; name the whole URI to reach one query alone"),
    ] {
        assert_eq!(Scope::path(path).unwrap_err().to_string(), words);
    }
}

#[test] // P51
fn a_group_is_of_one_origin() {
    let tags = Tags::new(["quotes"]);
    let scope = Scope::group("https://A.example:443/", "quotes").unwrap();
    assert!(scope.matches(&key("a.example", "/x", None), &tags));
    for other in [key("b.example", "/x", None), key("a.example:443", "/", None), key("", "/x", None), Key::from("k")] {
        assert!(!scope.matches(&other, &tags), "{other:?}");
    }
    assert!(!scope.matches(&key("a.example", "/x", None), &Tags::new(["quote"])));
    assert!(Scope::group_of(None, "quotes".into()).matches(&key("", "/x", None), &tags));
    assert!(!scope.matches_key(&key("a.example", "/x", None)), "its tags are not known");
    for origin in ["a.example", "/", "https://", "https://a.example/x", "https://a.example?q"] {
        assert!(Scope::group(origin, "quotes").is_err(), "{origin}");
    }
}

#[test]
fn tags_are_compared_whole() {
    let tags = Tags::new(["quotes", "prices"]);
    assert!(Scope::tag("quotes").matches(&Key::from("k"), &tags));
    assert!(!Scope::tag("quote").matches(&Key::from("k"), &tags));
    assert!(Scope::everything().matches(&Key::from("k"), &Tags::default()));
}
