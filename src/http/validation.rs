//! Asking the service whether what is stored is still what it would answer (RFC 9111 §4.3).
//!
//! A run that is to replace something with a validator carries it as a condition. A 304 then stands for the stored
//! response: its fields are brought up to date (§3.2), its age begins anew with the run, its body stays where it is.

use http::{HeaderMap, HeaderName, HeaderValue, header, response::Parts};

use crate::{
    entry::Entry,
    freshness::Freshness,
    http::{
        cache_control::age_header,
        conditional::{is_same_tag, is_tag},
        policy::{Head, Policy},
        stored::StoredResponse,
        unstored::Unstored,
    },
    protocol::{Class, Judgement},
    status::Detail,
};

/// What a 304 does not change: they describe content that it does not carry (§3.2).
const OF_THE_CONTENT: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_RANGE, header::TRANSFER_ENCODING];

/// Whether there is something to ask by.
pub(crate) fn has_validator(response: &HeaderMap) -> bool {
    etag(response).is_some() || response.contains_key(header::LAST_MODIFIED)
}

/// Makes a request ask whether the stored response is still good. The entity tag decides where there is one; the date
/// goes along for those who know dates alone (§4.3.1).
pub(crate) fn ask(stored: &HeaderMap, request: &mut HeaderMap) {
    if let Some(etag) = etag(stored) {
        request.insert(header::IF_NONE_MATCH, etag.clone());
    }
    if let Some(modified) = stored.get(header::LAST_MODIFIED) {
        request.insert(header::IF_MODIFIED_SINCE, modified.clone());
    }
}

/// The stored response as a 304 leaves it, and the verdict on that.
pub(crate) fn freshen(
    stored: &Entry<StoredResponse>,
    mut head: Parts,
    authorized: bool,
    policy: &Policy,
    unstored: &Unstored,
    own: &Freshness,
) -> (Judgement, StoredResponse) {
    let told = StoredResponse::new(&head, unstored);
    let is_told = |name: &HeaderName| told.fields().any(|(told, _)| told == name) && !OF_THE_CONTENT.contains(name);
    let kept = stored.value.fields().filter(|(name, _)| !is_told(name));
    let of_told = told.fields().filter(|(name, _)| !OF_THE_CONTENT.contains(name));
    let value = stored.value.with_fields(&kept.chain(of_told).collect::<Vec<_>>()).with_own_of(told);

    // What was said beside the fields holds unless something else is said.
    head.extensions.get_or_insert_with(|| stored.tags().clone());
    if stored.judged.said {
        head.extensions.get_or_insert_with(|| *stored.freshness());
    }
    let mut headers: HeaderMap = value.fields().map(|(name, value)| (name.clone(), value.clone())).collect();
    headers.extend(value.own());
    if let Some(age) = head.headers.get(header::AGE) {
        headers.insert(header::AGE, age.clone());
    }
    let at_least = value.content().len() as u64;
    let mut judged = policy.judge(
        Head { status: value.status(), headers: &headers, extensions: &head.extensions, at_least, authorized },
        own,
    );
    judged.age = age_header(&head.headers);
    // We have asked about one representation. One that is spoken of by another name is not the one that we have: those
    // who wait may have it, since it was confirmed, and it is not kept.
    let renamed = etag(stored.value.head())
        .zip(head.headers.get(header::ETAG))
        .is_some_and(|(asked, told)| !is_same_tag(asked, told));
    if renamed && judged.class == Class::Storable {
        judged.refuse(Class::Shareable, Detail::Status);
    }
    (judged, value)
}

/// The entity tag, if it is one.
fn etag(response: &HeaderMap) -> Option<&HeaderValue> {
    response.get(header::ETAG).filter(|etag| is_tag(etag))
}
