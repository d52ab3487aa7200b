//! What becomes of a call: read and looked up, or past the cache with whatever was read of it in front.

use std::{
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{Extensions, Request, request::Parts};

use crate::{
    entry::Fields,
    freshness::Freshness,
    grpc::{
        After, Grpc,
        request::{Reading, RequestBody},
        rules,
    },
    http::{
        Background, ForceRefresh, StoredResponse, cache_control,
        parts::{self, Caches, Contribution},
        request::View,
        rules::received_uri,
    },
    key::KeyBuf,
    protocol::{Prepare, Prepared, Role, RunKind},
    status::{CacheStatus, Detail, Outcome},
};

/// A call on its way to being looked up: all of it but its message.
struct Headed {
    parts: Parts,
    rest_of_key: KeyBuf,
    view: View,
}

impl<B> Prepare<Request<B>> for Grpc
where
    B: http_body::Body + Unpin + Send + 'static,
    B::Error: Send,
{
    type Request = Request<RequestBody<B>>;

    fn prepare(
        &self,
        request: Request<B>,
        cache: usize,
        _: &Freshness,
        key: &mut KeyBuf,
    ) -> Prepared<Self, Self::Request> {
        if !self.enabled || !rules::is_call(&request) {
            return Prepared::Forward(request.map(RequestBody::unread), After::Nothing);
        }
        let (parts, body) = request.into_parts();
        let caches = parts.extensions.get::<Caches>();
        let nested = caches.is_some();
        let outer = caches.and_then(|caches| caches.rules_of(cache)).map(|outer| self.rules.are_kept_by(outer));
        let listed = self.methods.get(parts.uri.path());
        let headed = listed.ok_or(Detail::Excluded).and_then(|_| self.rest_of_key(&parts));
        let mut reading = Reading::of(body, self.message_cap);
        let forward = |parts, reading: Reading<B>, after| {
            Prepared::Forward(Request::from_parts(parts, reading.into_body()), after)
        };
        let rest_of_key = match (outer, headed, listed) {
            // A layer of this cache further out stores the answer, under its own rules.
            (Some(same_rules), headed, Some(freshness)) => {
                let contribution = (same_rules && headed.is_ok()).then(|| Contribution::of(*freshness));
                return forward(parts, reading, After::Contribute(contribution));
            }
            (Some(_), _, None) => return forward(parts, reading, After::Nothing),
            (None, Err(detail), _) => return forward(parts, reading, After::Say(past(detail))),
            (None, Ok(rest_of_key), _) => rest_of_key,
        };
        let forced = parts.extensions.get::<ForceRefresh>().is_some();
        let no_store = cache_control::request_no_store(&parts.headers);
        let headed = Headed { parts, rest_of_key, view: View { nested, forced, no_store, ..View::default() } };
        match reading.poll_all(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(read) => headed.look_up(reading, read, key),
            Poll::Pending => Prepared::Later(Box::pin(async move {
                let (read, mut key) = (reading.all().await, KeyBuf::default());
                (headed.look_up(reading, read, &mut key), key)
            })),
        }
    }

    fn variant_of(&self, _: &Fields, _: &Self::Request, _: &mut KeyBuf) {}

    fn role(&self, view: &View) -> Role {
        if view.no_store { Role::Read } else { Role::Lead }
    }

    fn is_forced(&self, view: &View) -> bool {
        view.forced
    }

    fn force(&self, view: &mut View) {
        view.forced = true;
    }

    fn passed(&self, after: &After) -> Option<Outcome> {
        if let After::Say(outcome) = after { Some(*outcome) } else { None }
    }

    fn spare(&self, request: &mut Self::Request) -> Extensions {
        parts::emptied(request.extensions_mut())
    }

    fn project(
        &self,
        request: Self::Request,
        run: RunKind,
        cache: usize,
        _: Option<&StoredResponse>,
    ) -> (Self::Request, Freshness) {
        let (mut parts, body) = request.into_parts();
        let freshness = self.methods.get(parts.uri.path()).copied();
        rules::project(&self.rules, &mut parts, body.is_compressed() == Some(true));
        parts.extensions.get_or_insert_with(Caches::default).push(cache, &self.rules.fingerprint);
        if run == RunKind::Background {
            parts.extensions.insert(Background);
        }
        let freshness = freshness.unwrap_or_else(|| Freshness::exact(Duration::ZERO));
        (Request::from_parts(parts, body), freshness)
    }
}

impl Headed {
    /// The call with its message, if that is what was read.
    fn look_up<B>(
        self,
        reading: Reading<B>,
        read: Result<(), Detail>,
        key: &mut KeyBuf,
    ) -> Prepared<Grpc, Request<RequestBody<B>>>
    where
        B: http_body::Body + Unpin,
    {
        let Self { parts, rest_of_key, view } = self;
        let request = Request::from_parts(parts, reading.into_body());
        match read.and_then(|()| write_key(&request, &rest_of_key, key)) {
            Ok(()) => Prepared::Lookup(request, view),
            Err(detail) => Prepared::Forward(request, After::Say(past(detail))),
        }
    }
}

/// Writes the key of a call whose message was read, or says why it has none.
fn write_key<B: http_body::Body>(
    request: &Request<RequestBody<B>>,
    rest: &KeyBuf,
    key: &mut KeyBuf,
) -> Result<(), Detail> {
    let (received, _) = received_uri(request.uri(), request.extensions());
    let (method, message) = (received.path().as_bytes(), request.body().message());
    match request.body().is_compressed() {
        Some(false) => {
            key.method_and_message(method, Some(message));
            key.append(rest);
        }
        Some(true) => {
            let coding = rules::coding(request.headers()).ok_or(Detail::Excluded)?;
            key.method_and_message(method, None);
            key.append(rest);
            key.part(Some(coding.as_bytes()));
            key.part(Some(message));
        }
        None => return Err(Detail::Excluded),
    }
    Ok(())
}

fn past(detail: Detail) -> Outcome {
    Outcome::new(CacheStatus::Bypass).because(Some(detail))
}
