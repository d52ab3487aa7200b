//! What becomes of an answer: judged by its head, and once more by its trailers; stored, given out, or handed on.

use std::time::Duration;

use http::{Extensions, HeaderMap, Response, StatusCode, header};

use crate::{
    entry::Entry,
    freshness::Freshness,
    grpc::{
        After, Grpc,
        message::Count,
        rules,
        statuses::{self, Meaning},
    },
    http::{
        Body, NoStore, StoredResponse,
        body::{Begun, Expected},
        cache_control::{CacheControl, age_header},
        groups,
        parts::{self, Contribution},
        policy::MOST_FIELDS,
        request::View,
        statuses::is_failure,
        stored::{self, Reuse, Storing},
    },
    interest::Interest,
    judgement::{Class, Judgement},
    protocol::{Capture, Captured},
    scope::Scope,
    status::{Detail, Outcome},
};

impl<B> Capture<Response<B>> for Grpc
where
    B: http_body::Body + Send + 'static,
    B::Error: Send,
{
    type Response = Response<Body<B>>;
    type Fill = Storing<B>;

    fn judge(&self, response: &Response<B>, method: &Freshness, _: &Freshness) -> Judgement {
        let (headers, extensions) = (response.headers(), response.extensions());
        let (said, meant) = (extensions.get::<Freshness>(), statuses::meaning(headers));
        let contributed = extensions.get::<Contribution>().map(|inner| inner.freshness);
        let mut judged = Judgement::storable(*said.unwrap_or(&contributed.unwrap_or(*method)));
        judged.said = said.is_some();
        judged.tags = groups::tags(headers, extensions);
        judged.age = age_header(headers);
        // Before all else: what is forbidden as well is no less of a failure.
        judged.failed = fails(response);
        // An answer that fails in its trailers has a head like any other.
        judged.hold = true;
        let directives = CacheControl::parse(headers);
        if directives.must_revalidate || directives.proxy_revalidate {
            judged.freshness = Freshness::exact(judged.freshness.lifetime());
        }
        if let Some(detail) = forbidden(headers, extensions, &directives) {
            // A client can bring about an error, and must not switch collapsing off with it.
            let mark = response.status() == StatusCode::OK && meant.is_none_or(|meaning| meaning == Meaning::Good);
            judged.refuse(Class::Personal { mark }, detail);
        } else if response.status() != StatusCode::OK || !rules::is_grpc(headers) {
            // What speaks here is no gRPC service: somebody before it does, and to this client.
            let shared = is_failure(response.status());
            let class = if shared { Class::Shareable } else { Class::Personal { mark: false } };
            judged.refuse(class, Detail::Status);
        } else if let Some(meaning) = meant {
            judge_status(meaning, &mut judged);
            if judged.class == Class::Storable {
                // There is no message: what is good has one.
                judged.refuse(Class::Shareable, Detail::Status);
            }
        } else if response.body().size_hint().lower() > self.body_cap as u64 || headers.keys_len() > MOST_FIELDS {
            judged.refuse(Class::Personal { mark: true }, Detail::TooLarge);
        } else if judged.age >= judged.freshness.gone_at() {
            judged.refuse(Class::Shareable, Detail::NoLifetime);
        }
        judged
    }

    fn judge_whole(&self, answer: &StoredResponse, mut judged: Judgement) -> Judgement {
        if judged.class != Class::Storable {
            return judged;
        }
        // Without a status its client takes it for a failure.
        let meaning = answer.trailers().and_then(statuses::meaning).unwrap_or(Meaning::Failure);
        judge_status(meaning, &mut judged);
        let is_readable = match answer.content().first() {
            Some(0) => true,
            Some(1) => rules::coding(answer.head()).is_some(),
            // There is no message, or its first byte says neither of what there is to say.
            _ => false,
        };
        if judged.class == Class::Storable && !is_readable {
            judged.refuse(Class::Shareable, Detail::Status);
        }
        judged
    }

    fn is_short(&self, fill: &Storing<B>) -> bool {
        fill.is_short()
    }

    fn pass(&self, mut response: Response<B>) -> Response<Body<B>> {
        response.extensions_mut().remove::<Contribution>();
        response.map(Body::passing)
    }

    fn capture(
        &self,
        response: Response<B>,
        _: &Judgement,
        interest: impl FnOnce() -> Interest,
    ) -> Captured<Response<Body<B>>, StoredResponse, Storing<B>> {
        let (mut head, body) = response.into_parts();
        head.extensions.remove::<Contribution>();
        let omitted = self.unstored.of(&head.headers, None);
        let stored = StoredResponse::new(&head, &omitted);
        let (fill, body) =
            Body::piped(Begun::new(body), self.body_cap, Expected::OneMessage(Count::default()), interest());
        stored::capture(head, body, Storing::new(stored, omitted, fill, false))
    }

    fn deliver(&self, response: Response<Body<B>>, view: &View, outcome: Outcome) -> Response<Body<B>> {
        stored::deliver(response, view, outcome, &self.name)
    }

    fn replay(
        &self,
        entry: &Entry<StoredResponse>,
        age: Duration,
        view: &View,
        outcome: Outcome,
        spare: Extensions,
    ) -> Self::Response {
        let mut response =
            entry.value.replay(entry.value.head().clone(), age, Reuse::AsItSays, view, outcome, &self.name, spare);
        if entry.value.content().is_empty() {
            // An error that others waited for too: its head is all there is, and says nothing of a length.
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        if view.nested {
            // Extensions are not stored. What the service said in them about storing holds for the other cache too.
            let said = response.extensions_mut();
            said.insert(entry.tags().clone());
            if entry.judged.said || outcome.is_stale() {
                said.insert(parts::told_further_out(entry.freshness(), age, outcome));
            }
        }
        response
    }

    fn finish(&self, response: Response<B>, after: After) -> (Response<Body<B>>, Vec<Scope>) {
        let status = response.status();
        let mut response = response.map(Body::passing);
        match after {
            After::Nothing => {}
            After::Say(outcome) => {
                stored::announce(&mut response, outcome.forwarded(Some(status.as_u16())), &self.name);
            }
            After::Contribute(Some(contribution)) => {
                response.extensions_mut().get_or_insert(contribution);
            }
            After::Contribute(None) => {
                response.extensions_mut().insert(NoStore);
            }
        }
        (response, Vec::new())
    }

    fn status(&self, response: &Response<B>) -> Option<u16> {
        Some(response.status().as_u16())
    }

    fn is_failure(&self, response: &Response<B>) -> bool {
        fails(response)
    }
}

/// Whether a head says that the service could not do its work. One without a status that is none of gRPC's says so too:
/// clients make `UNKNOWN`, `UNIMPLEMENTED`, `INTERNAL` or `UNAVAILABLE` of it, unless it asks who they are (see
/// `http-grpc-status-mapping.md` of gRPC).
fn fails<B>(response: &Response<B>) -> bool {
    let (status, headers) = (response.status(), response.headers());
    is_failure(status)
        || match statuses::meaning(headers) {
            Some(meaning) => meaning == Meaning::Failure,
            None if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) => false,
            None => status != StatusCode::OK || !rules::is_grpc(headers),
        }
}

/// What a status makes of an answer.
fn judge_status(meaning: Meaning, judged: &mut Judgement) {
    match meaning {
        Meaning::Good => {}
        Meaning::Failure => {
            judged.failed = true;
            judged.refuse(Class::Shareable, Detail::Status);
        }
        Meaning::Answer => judged.refuse(Class::Shareable, Detail::Status),
        Meaning::Denied => judged.refuse(Class::Personal { mark: false }, Detail::Authenticate),
    }
}

/// Why nobody but the one who asked may have the answer, if so. What metadata grants counts for nothing: what it forbids
/// is forbidden.
fn forbidden(headers: &HeaderMap, extensions: &Extensions, said: &CacheControl) -> Option<Detail> {
    if extensions.get::<NoStore>().is_some() {
        Some(Detail::HandlerSaidNo)
    } else if said.no_store {
        Some(Detail::NoStore)
    } else if said.private {
        Some(Detail::Private)
    } else if said.no_cache || !said.withheld.is_empty() {
        Some(Detail::NoCache)
    } else if headers.contains_key(header::SET_COOKIE) {
        Some(Detail::SetCookie)
    } else {
        None
    }
}
