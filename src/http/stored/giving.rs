//! Gives a response out: what is stored, in a copy of its head; and what has just come, to the one who leads.
//!
//! What a request asks of it beside (conditions, ranges) is done here, and what happened is said.

use std::{sync::Arc, time::Duration};

use http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::{
    http::{
        announcing::{StatusName, member, member_after},
        body::Body,
        cache_control::members,
        conditional::to_not_modified,
        partial,
        request::View,
        stored::{CACHE_STATUS, StoredResponse, has_content, number},
    },
    status::Outcome,
};

/// What `Cache-Control` says of a response that is stale.
const STALE: &str = "max-age=0";
/// What caches further down are to make of a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// What it says itself.
    AsItSays,
    /// It is stale, and nothing that it says would tell.
    Stale,
}

/// Where a response comes from that is to be given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// It is stored, or has just been.
    Store,
    /// It is for one alone.
    Service,
}

impl StoredResponse {
    /// What is said of giving it out, after what caches further in have said.
    fn status_of(&self, name: &Arc<str>, outcome: Outcome) -> HeaderValue {
        match self.said() {
            [] => member(name, outcome),
            said => member_after(said, name, outcome),
        }
    }

    /// Answers a request, in a copy of its head.
    #[allow(clippy::too_many_arguments, reason = "all that an answer is made of")]
    pub(crate) fn replay<B: http_body::Body>(
        &self,
        mut headers: HeaderMap,
        age: Duration,
        reuse: Reuse,
        view: &View,
        outcome: Outcome,
        name: &StatusName,
        mut extensions: Extensions,
    ) -> Response<Body<B>> {
        let mut places = headers.values_mut();
        if let Some(place) = places.next() {
            *place = age_value(age);
        }
        match (&name.0, places.next()) {
            (Some(name), Some(place)) => *place = self.status_of(name, outcome),
            // A cache that says nothing of itself leaves what others said as it is.
            (None, Some(place)) if !self.said().is_empty() => {
                *place = HeaderValue::from_bytes(self.said()).unwrap_or_else(|_| HeaderValue::from_static(""));
            }
            _ => drop(headers.remove(CACHE_STATUS)),
        }
        if let Reuse::Stale = reuse {
            let stale = if self.is_dated { undated(&mut headers) } else { HeaderValue::from_static(STALE) };
            headers.insert(header::CACHE_CONTROL, stale);
        }
        let mut response = Response::new(if view.head { Body::none() } else { self.body() });
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        extensions.insert(outcome);
        *response.extensions_mut() = extensions;
        if view.asked.is_none() { response } else { evaluate(response, view, Source::Store) }
    }
}

/// Finishes a response of the wrapped service.
pub(crate) fn deliver<B: http_body::Body>(
    mut response: Response<Body<B>>,
    view: &View,
    outcome: Outcome,
    name: &StatusName,
) -> Response<Body<B>> {
    announce(&mut response, outcome, name);
    if view.head && view.forced {
        // Its run was a GET, as every run is.
        response = without_content(response);
    }
    evaluate(response, view, if outcome.is_stored() { Source::Store } else { Source::Service })
}

/// Says what happened: in a field, after what caches further in said, and as an extension.
pub(crate) fn announce<B>(response: &mut Response<B>, outcome: Outcome, name: &StatusName) {
    if let Some(name) = &name.0 {
        response.headers_mut().append(CACHE_STATUS, member(name, outcome));
    }
    response.extensions_mut().insert(outcome);
}

/// Answers a request that has the response with 304, and one that wants parts of it with those: in this order (RFC 9110
/// §13.2.2), and only where the answer would be a 200 otherwise.
fn evaluate<B: http_body::Body>(mut response: Response<Body<B>>, view: &View, source: Source) -> Response<Body<B>> {
    let Some(asked) = view.asked.as_ref().filter(|_| response.status() == StatusCode::OK) else { return response };
    let not_modified = asked.conditions.as_ref().is_some_and(|conditions| match source {
        Source::Store => conditions.not_modified(response.headers()),
        Source::Service => conditions.not_modified_by_its_own_word(response.headers()),
    });
    if !not_modified {
        return match &asked.ranges {
            Some(ranges) => partial::answer(response, ranges),
            None => response,
        };
    }
    // What is being stored is stored whether its first reader takes it or not.
    response.body_mut().detach();
    let (mut head, _) = response.into_parts();
    to_not_modified(&mut head);
    Response::from_parts(head, Body::none())
}

/// The response of a GET, for a HEAD: it says how long its content would have been (RFC 9110 §9.3.2).
pub(crate) fn without_content<B: http_body::Body>(mut response: Response<Body<B>>) -> Response<Body<B>> {
    if let Some(length) = http_body::Body::size_hint(response.body()).exact().filter(|_| has_content(response.status()))
    {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    response.body_mut().detach();
    response.map(|_| Body::none())
}

/// An age in whole seconds (RFC 9111 §5.1).
pub(crate) fn age_value(age: Duration) -> HeaderValue {
    number(age.as_secs().min(1 << 31))
}

/// What a stale response says in `Cache-Control`: what it said before, less what would let anyone further down take it for
/// fresh. `Expires` is gone.
pub(super) fn undated(headers: &mut HeaderMap) -> HeaderValue {
    const FRESHNESS: [&str; 5] = ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error", "immutable"];
    headers.remove(header::EXPIRES);
    let lines = headers.get_all(header::CACHE_CONTROL).iter().map(HeaderValue::as_bytes);
    let kept = lines.flat_map(members).filter(|member| {
        let name = member.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        !FRESHNESS.iter().any(|freshness| name.eq_ignore_ascii_case(freshness.as_bytes()))
    });
    let value = std::iter::once(STALE.as_bytes()).chain(kept).collect::<Vec<_>>().join(&b", "[..]);
    HeaderValue::from_bytes(&value).unwrap_or_else(|_| HeaderValue::from_static(STALE))
}
