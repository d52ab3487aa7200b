//! What becomes of a response: judged, stored, given out; or handed on to whoever asked.

use std::time::Duration;

use http::{Extensions, HeaderMap, Response, StatusCode, header};

use crate::{
    entry::Entry,
    freshness::Freshness,
    http::{
        After, Body, Http, NoStore, StoredResponse,
        body::{Begun, Expected},
        content_length,
        parts::{self, Contribution},
        policy::Head,
        request::View,
        sight::Sight,
        statuses,
        stored::{self, Reuse, Storing},
        validation,
    },
    interest::Interest,
    judgement::Judgement,
    protocol::{Capture, Captured, Validated},
    scope::Scope,
    status::Outcome,
};

impl<B> Capture<Response<B>> for Http
where
    B: http_body::Body + Send + 'static,
    B::Error: Send,
{
    type Response = Response<Body<B>>;
    type Fill = Storing<B>;

    fn judge(&self, response: &Response<B>, sight: &Self::Sight, freshness: &Freshness) -> Judgement {
        let head = Head {
            status: response.status(),
            headers: response.headers(),
            extensions: response.extensions(),
            at_least: response.body().size_hint().lower(),
            authorized: self.is_authorized(sight),
        };
        self.policy.judge(head, freshness)
    }

    fn validate(
        &self,
        response: Response<B>,
        entry: &Entry<StoredResponse>,
        sight: &Self::Sight,
        freshness: &Freshness,
    ) -> Result<Validated<Response<Body<B>>, StoredResponse>, Response<B>> {
        if response.status() != StatusCode::NOT_MODIFIED || !entry.value.validators().are_any() {
            return Err(response);
        }
        let (head, _) = response.into_parts();
        let exchange = head.headers.iter().filter(|(name, _)| self.unstored.is_of_one_exchange(name));
        let exchange: Vec<_> = exchange.map(|(name, value)| (name.clone(), value.clone())).collect();
        let (judged, value) =
            validation::freshen(entry, head, self.is_authorized(sight), &self.policy, &self.unstored, freshness);
        let mut response = value.response();
        response.headers_mut().extend(exchange);
        if !judged.age.is_zero() {
            response.headers_mut().insert(header::AGE, stored::age_value(judged.age));
        }
        let value = value.without(judged.withheld.as_ref());
        Ok(Validated { judged, response, value })
    }

    fn pass(&self, mut response: Response<B>) -> Response<Body<B>> {
        response.extensions_mut().remove::<Contribution>();
        response.map(Body::passing)
    }

    fn capture(
        &self,
        response: Response<B>,
        judged: &Judgement,
        interest: impl FnOnce() -> Interest,
    ) -> Captured<Response<Body<B>>, StoredResponse, Storing<B>> {
        let (mut head, body) = response.into_parts();
        // It was for this cache: to another one further out it would say that somebody opted in.
        head.extensions.remove::<Contribution>();
        // RFC 9110 §6.6.1: whoever stores a response that has no Date gives it one.
        let framing = Framing::of(&head.headers);
        if !framing.date {
            // Asked first: an entry of the map makes room for itself, also where it is there.
            head.headers.insert(header::DATE, stored::date());
        }
        let omitted = self.unstored.of(&head.headers, judged.withheld.as_ref());
        let length = if framing.length { content_length(&head.headers) } else { None };
        let expected = length.map_or(Expected::End, Expected::Length);
        let mut begun = Begun::new(body);
        if let Some(data) = begun.whole(self.policy.body_cap, &expected) {
            let stored = StoredResponse::whole(&head, &data, &omitted, self.etag);
            return stored::whole(head, stored, Some(Body::whole(data, None)));
        }
        let stored = StoredResponse::new(&head, &omitted);
        let (fill, body) = Body::piped(begun, self.policy.body_cap, expected, interest());
        stored::capture(head, body, Storing::new(stored, omitted, fill, self.etag))
    }

    fn deliver(&self, mut response: Response<Body<B>>, view: &View, outcome: Outcome) -> Response<Body<B>> {
        self.leave(&mut response, view.nested);
        stored::deliver(response, view, outcome, &self.name)
    }

    fn deliver_as_it_is(&self, response: Response<B>, view: &View, outcome: Outcome) -> Response<Body<B>> {
        // RFC 9111 §4.3.2: conditions are not a cache's to evaluate where it has nothing to evaluate them against.
        let mut response = self.pass(response);
        self.leave(&mut response, view.nested);
        stored::announce(&mut response, outcome, &self.name);
        response
    }

    fn contradicts(&self, response: &Response<B>, stored: &StoredResponse, view: &View) -> bool {
        view.head && !view.authorized && stored.is_contradicted_by(response.status(), response.headers())
    }

    fn replay(
        &self,
        entry: &Entry<StoredResponse>,
        age: Duration,
        view: &View,
        outcome: Outcome,
        spare: Extensions,
    ) -> Self::Response {
        self.replay_with(entry.value.head().clone(), entry, age, view, outcome, spare)
    }

    fn give(
        &self,
        mut entry: Entry<StoredResponse>,
        age: Duration,
        view: &View,
        outcome: Outcome,
        spare: Extensions,
    ) -> Self::Response {
        self.replay_with(entry.value.take_head(), &entry, age, view, outcome, spare)
    }

    fn unsatisfied(&self, _: &View, outcome: Outcome) -> Option<Self::Response> {
        // Without a status field: it is not based on a stored response (RFC 9211 §2).
        let mut response = Response::new(Body::none());
        *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
        response.extensions_mut().insert(outcome);
        Some(response)
    }

    fn stand_in(&self, view: &View, outcome: Outcome) -> Option<Self::Response> {
        let mut response = self.stand_in.as_ref()?.response(view, outcome, &self.name);
        self.leave(&mut response, view.nested);
        Some(response)
    }

    fn finish(&self, response: Response<B>, after: After) -> (Response<Body<B>>, Vec<Scope>) {
        let after = match after {
            After::Report(probed) => return (self.report(response, *probed), Vec::new()),
            after => after,
        };
        let status = response.status();
        let mut response = response.map(Body::passing);
        let mut scopes = Vec::new();
        match after {
            After::Nothing | After::Report(_) => {}
            After::Say { outcome, nested } => {
                self.leave(&mut response, nested);
                stored::announce(&mut response, outcome.forwarded(Some(status.as_u16())), &self.name);
            }
            After::Purge { outcome, nested, target } => {
                self.leave(&mut response, nested);
                if let Some(target) = target.filter(|_| status.is_success() || status.is_redirection()) {
                    scopes = target.scopes(response.headers());
                }
                stored::announce(&mut response, outcome.forwarded(Some(status.as_u16())), &self.name);
            }
            After::Contribute(Some(contribution)) if self.policy.is_opted_in(response.extensions()) => {
                response.extensions_mut().get_or_insert(contribution);
            }
            After::Contribute(_) => {
                response.extensions_mut().insert(NoStore);
            }
        }
        (response, scopes)
    }

    fn status(&self, response: &Response<B>) -> Option<u16> {
        Some(response.status().as_u16())
    }

    fn is_failure(&self, response: &Response<B>) -> bool {
        statuses::is_failure(response.status())
    }
}

/// Which of these fields a response has: found in one pass, since that takes no longer than to look for one in vain.
struct Framing {
    date: bool,
    length: bool,
}

impl Framing {
    fn of(response: &HeaderMap) -> Self {
        response.keys().fold(Self { date: false, length: false }, |found, name| match *name {
            header::DATE => Self { date: true, ..found },
            header::CONTENT_LENGTH => Self { length: true, ..found },
            _ => found,
        })
    }
}

impl Http {
    /// Answers with what is stored, in a copy of its head.
    fn replay_with<B: http_body::Body>(
        &self,
        head: HeaderMap,
        entry: &Entry<StoredResponse>,
        age: Duration,
        view: &View,
        outcome: Outcome,
        spare: Extensions,
    ) -> Response<Body<B>> {
        // By its own fields it would pass for fresh where they grant nothing, or where it was expired by hand.
        let tells = entry.judged.explicit && age >= entry.freshness().lifetime();
        let reuse = if outcome.is_stale() && !tells { Reuse::Stale } else { Reuse::AsItSays };
        let mut response = entry.value.replay(head, age, reuse, view, outcome, &self.name, spare);
        if let Reuse::Stale = reuse {
            self.policy.targets.remove(response.headers_mut());
        } else if view.nested {
            response.headers_mut().extend(entry.value.own());
        }
        if view.nested {
            // Extensions are not stored. What the service said in them about storing holds for the other cache too.
            let said = response.extensions_mut();
            said.insert(entry.tags().clone());
            if entry.judged.said {
                said.insert(parts::told_further_out(entry.freshness(), age, outcome));
            }
        }
        response
    }

    /// Whether what a run sees has a credential that the key does not cover.
    fn is_authorized(&self, sight: &Sight) -> bool {
        sight.has_authorization() && !self.rules.covers_authorization()
    }

    /// A response that leaves for clients: what was said to this cache alone stays here. A layer further out hears it.
    fn leave<B>(&self, response: &mut Response<B>, nested: bool) {
        if !nested {
            self.policy.targets.strip(response.headers_mut());
        }
    }
}
