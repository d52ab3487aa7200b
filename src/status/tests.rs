//! What is said of outcomes is a structured field, whatever they are.

use proptest::{option, prelude::*, sample::select};
use sfv::{BareItem, List, ListEntry, Parser};

use super::*;

const ALL: [CacheStatus; 8] = [
    CacheStatus::Hit,
    CacheStatus::Bypass,
    CacheStatus::Method,
    CacheStatus::UriMiss,
    CacheStatus::VaryMiss,
    CacheStatus::Stale,
    CacheStatus::Request,
    CacheStatus::Unsatisfied,
];

/// The reasons that RFC 9211 §2.2 knows.
const REASONS: [&str; 8] = ["bypass", "method", "uri-miss", "vary-miss", "miss", "stale", "partial", "request"];

fn outcome() -> impl Strategy<Value = Outcome> {
    let detail = option::of(select(Detail::ALL));
    (select(&ALL[..]), option::of(any::<i64>()), option::of(100..=999_u16), any::<bool>(), any::<bool>(), detail)
        .prop_map(|(status, ttl, forward_status, stored, collapsed, detail)| Outcome {
            status,
            ttl,
            forward_status,
            stored,
            collapsed,
            detail,
        })
}

proptest! {
    #[test] // P49
    fn rfc9211_2_whatever_is_said_is_one_member_with_its_parameters(outcome in outcome()) {
        let mut text = Text::default();
        text.extend(b"cacheback");
        outcome.write(&mut text);
        let list: List = Parser::new(text.as_slice()).parse().unwrap();
        let [ListEntry::Item(member)] = &list[..] else { panic!("{list:?}") };
        prop_assert_eq!(member.bare_item.as_token().unwrap().as_str(), "cacheback");
        let said = |name: &str| member.params.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value);
        let flag = |name| said(name).is_some_and(|value| *value == BareItem::Boolean(true));
        let number = |name| said(name).map(|value| i64::from(value.as_integer().unwrap()));
        let token = |name| said(name).map(|value| value.as_token().unwrap().as_str());

        prop_assert_eq!(flag("hit"), outcome.status == CacheStatus::Hit);
        let forwarded = !matches!(outcome.status, CacheStatus::Hit | CacheStatus::Unsatisfied);
        prop_assert_eq!(token("fwd").is_some_and(|reason| REASONS.contains(&reason)), forwarded);
        prop_assert_eq!(said("fwd").is_some(), forwarded);
        prop_assert_eq!(number("fwd-status"), outcome.forward_status.map(i64::from));
        prop_assert_eq!(number("ttl"), outcome.ttl.map(|ttl| ttl.clamp(-GREATEST, GREATEST)));
        prop_assert_eq!((flag("stored"), flag("collapsed")), (outcome.stored, outcome.collapsed));
        prop_assert_eq!(token("detail"), outcome.detail.map(Detail::as_str));
        let known = ["hit", "fwd", "fwd-status", "ttl", "stored", "collapsed", "detail"];
        prop_assert!(member.params.keys().all(|name| known.contains(&name.as_str())));

        let printed = format!("cacheback; {outcome}");
        prop_assert_eq!(Parser::new(printed.trim_end_matches("; ")).parse::<List>().unwrap(), list);
    }
}

#[test] // P49
fn every_detail_has_a_token_of_its_own() {
    for (at, detail) in Detail::ALL.iter().enumerate() {
        assert!(Detail::ALL[..at].iter().all(|other| other.as_str() != detail.as_str()), "{detail:?}");
    }
}

#[test] // P49
fn an_outcome_prints_as_parameters_of_rfc_9211() {
    let hit = Outcome::new(CacheStatus::Hit).ttl_of(-7);
    assert_eq!(hit.to_string(), "hit; ttl=-7");
    assert!(hit.is_stale());
    let miss = Outcome::new(CacheStatus::UriMiss).forwarded(Some(200)).stored_if(true).collapsed_if(true);
    assert_eq!(miss.to_string(), "fwd=uri-miss; fwd-status=200; stored; collapsed");
    let bypass = Outcome::new(CacheStatus::Bypass).because(Some(Detail::Cookie));
    assert_eq!(bypass.to_string(), "fwd=bypass; detail=cookie");
}

#[test]
fn integers_of_every_size_are_written_as_fmt_writes_them() {
    for value in [0, 1, -1, 10, 999, i64::MAX, i64::MIN] {
        let mut out = Text::default();
        write_integer(&mut out, value);
        assert_eq!(out.as_slice(), value.to_string().as_bytes());
    }
}
