//! How one kind of traffic is cached: what the engine asks of a protocol, in three traits.
//!
//! [`Protocol`] names the types, [`Prepare`] reads requests, [`Capture`] reads responses. Request and response have a
//! trait each because a service is generic over both and neither may constrain the other. All three are sealed: they
//! are named in bounds, and implemented by [`Http`](crate::Http), [`Grpc`](crate::Grpc) and [`Typed`](crate::Typed).
//!
//! The engine knows nothing of HTTP, and a protocol nothing of flights, memory or tasks. What passes between them is
//! data: a key, a [`View`](Protocol::View) of the request, a [`Judgement`] on the response.

use std::{fmt, future::ready, pin::Pin, time::Duration};

use crate::{
    demands::Demands,
    entry::{Entry, Fields},
    freshness::Freshness,
    interest::Interest,
    judgement::Judgement,
    key::KeyBuf,
    scope::Scope,
    status::{Detail, Outcome},
};

pub(crate) mod sealed {
    /// Keeps the contracts ours as long as they may still change.
    pub trait Sealed {}
}

/// One kind of traffic, and the types it is cached with.
pub trait Protocol: sealed::Sealed + Send + Sync + 'static {
    /// What is stored for a response.
    type Value: Send + Sync + 'static;

    /// What of a request is needed to answer it from something stored: its method, its conditions.
    type View: Send + 'static;

    /// What of a request decides which responses are selected by it: its fields as the service saw them.
    type Sight: Send + 'static;

    /// What a request that is answered leaves behind for its response to use.
    type Spare: Default;

    /// What is left to do for a request that is not cached, once its response is there.
    type After: Send + 'static;

    /// Writes the values of these fields in the request of this sight.
    #[doc(hidden)]
    fn variant(&self, fields: &Fields, sight: &Self::Sight, values: &mut KeyBuf);

    /// What a request demands of a stored response that is to answer it.
    #[doc(hidden)]
    fn demands<'a>(&self, _: &'a Self::View) -> Option<&'a Demands> {
        None
    }

    /// Whether there is a placeholder for what is not stored: see [`Capture::stand_in`].
    #[doc(hidden)]
    fn has_placeholder(&self) -> bool {
        false
    }

    /// What a value takes in memory.
    #[doc(hidden)]
    fn weigh(&self, value: &Self::Value) -> usize;
}

/// How requests of a type are keyed, and what of them the wrapped service may see.
#[diagnostic::on_unimplemented(
    message = "this layer cannot cache requests of type `{Req}`",
    label = "not a request that `{Self}` understands",
    note = "`CachebackLayer::new` caches `http::Request<B>` where `B: http_body::Body + Send + 'static`",
    note = "`CachebackLayer::grpc` does so where `B` is `Unpin` as well",
    note = "`CachebackLayer::typed::<Req, Res>` caches requests of type `Req`; check that it is the service's own type"
)]
pub trait Prepare<Req>: Protocol {
    /// What the wrapped service is called with.
    type Request: Send + 'static;

    /// Reads the request once, and may await what it has to read: is it to be looked up, under which key, and what is needed to answer it. `cache` is the
    /// identity by which a layer recognises a request that its own cache handles further out.
    #[doc(hidden)]
    fn prepare(
        &self,
        request: Req,
        cache: usize,
        freshness: &Freshness,
        key: &mut KeyBuf,
    ) -> Prepared<Self, Self::Request>;

    /// Writes the values of these fields in this request, as the service would see them.
    #[doc(hidden)]
    fn variant_of(&self, fields: &Fields, request: &Self::Request, values: &mut KeyBuf);

    /// What this request may do beside reading.
    #[doc(hidden)]
    fn role(&self, view: &Self::View) -> Role;

    /// Whether what answers this request may be for it alone: it waits for no other's run, and no other for its.
    #[doc(hidden)]
    fn keeps_apart(&self, _: &Self::View) -> bool {
        false
    }

    /// Whether code in this process asks for a new response, whatever is stored.
    #[doc(hidden)]
    fn is_forced(&self, view: &Self::View) -> bool;

    /// Asks for a new response, whatever is stored.
    #[doc(hidden)]
    fn force(&self, view: &mut Self::View);

    /// What is to be told of a request that goes past the cache.
    #[doc(hidden)]
    fn passed(&self, after: &Self::After) -> Option<Outcome>;

    /// Whether the service is to be audited behind this fresh hit.
    #[doc(hidden)]
    fn is_sampled(&self, _: &Self::View) -> bool {
        false
    }

    /// Has requests like this one run, each a bit different, and says of each finding what the response depends on though
    /// nobody keyed it. Responses are handed to [`Capture::finish`].
    #[doc(hidden)]
    fn audit<R, F>(
        &self,
        request: Self::Request,
        _cache: usize,
        _freshness: &Freshness,
        run: R,
    ) -> impl Future<Output = Vec<String>> + Send
    where
        R: FnMut(Self::Request, Self::After) -> F + Send,
        F: Future<Output = ()> + Send,
    {
        drop((request, run));
        ready(Vec::new())
    }

    /// What the response may use of a request that nobody will be called with.
    #[doc(hidden)]
    fn spare(&self, request: &mut Self::Request) -> Self::Spare;

    /// The one view that every storable run has of its request, whoever sent it and why ever it runs. `cache` is the
    /// identity that a layer further in recognises; `stored` is what the service is to be asked about, whether it is still
    /// what it would answer.
    #[doc(hidden)]
    fn project(
        &self,
        request: Self::Request,
        run: RunKind,
        cache: usize,
        stored: Option<&Self::Value>,
    ) -> (Self::Request, Self::Sight);
}

/// How responses of a type are judged, stored and given out again.
#[diagnostic::on_unimplemented(
    message = "this layer cannot store responses of type `{Res}`",
    label = "not a response that `{Self}` understands",
    note = "`CachebackLayer::new` and `CachebackLayer::grpc` store `http::Response<B>` where `B: http_body::Body + Send + 'static`",
    note = "`CachebackLayer::typed::<Req, Res>` stores responses of type `Res`, which must be `Clone + Send + Sync`"
)]
pub trait Capture<Res>: Protocol {
    /// What the layer answers with.
    type Response;

    /// Reads what is left of a response, and becomes its value.
    #[doc(hidden)]
    type Fill: Future<Output = Result<Self::Value, Unfilled>> + Send + 'static;

    /// The verdict on a response by its head: may it be stored, may it be shared, for how long.
    #[doc(hidden)]
    fn judge(&self, response: &Res, sight: &Self::Sight, freshness: &Freshness) -> Judgement;

    /// Takes a response that says of what is stored that it is what it would be. Any other is given back as it is.
    #[doc(hidden)]
    fn validate(
        &self,
        response: Res,
        stored: &Entry<Self::Value>,
        sight: &Self::Sight,
        freshness: &Freshness,
    ) -> Result<Validated<Self::Response, Self::Value>, Res> {
        let _ = (stored, sight, freshness);
        Err(response)
    }

    /// Whether what there is of a response when its time is up is no answer yet.
    #[doc(hidden)]
    fn is_short(&self, _: &Self::Fill) -> bool {
        false
    }

    /// The response as it came.
    #[doc(hidden)]
    fn pass(&self, response: Res) -> Self::Response;

    /// The response for the one who leads, and its value: at once where it is complete, else by reading on, for as long as
    /// there is an interest in it.
    #[doc(hidden)]
    fn capture(
        &self,
        response: Res,
        judged: &Judgement,
        interest: impl FnOnce() -> Interest,
    ) -> Captured<Self::Response, Self::Value, Self::Fill>;

    /// The verdict on a response of which all is there: what comes after a head may say that it is a failure.
    #[doc(hidden)]
    fn judge_whole(&self, _value: &Self::Value, judged: Judgement) -> Judgement {
        judged
    }

    /// Finishes a response of the wrapped service for the one who asked: conditions, status field, extension.
    #[doc(hidden)]
    fn deliver(&self, response: Self::Response, view: &Self::View, outcome: Outcome) -> Self::Response;

    /// Finishes a response to a request that went forward as it was: the service has had its say on all that it asks.
    #[doc(hidden)]
    fn deliver_as_it_is(&self, response: Res, view: &Self::View, outcome: Outcome) -> Self::Response {
        self.deliver(self.pass(response), view, outcome)
    }

    /// Whether a response to such a request shows that what is stored is not what the service would answer any more.
    #[doc(hidden)]
    fn contradicts(&self, _response: &Res, _stored: &Self::Value, _view: &Self::View) -> bool {
        false
    }

    /// Answers from what is stored.
    #[doc(hidden)]
    fn replay(
        &self,
        entry: &Entry<Self::Value>,
        age: Duration,
        view: &Self::View,
        outcome: Outcome,
        spare: Self::Spare,
    ) -> Self::Response;

    /// Answers with what nobody else has.
    #[doc(hidden)]
    fn give(
        &self,
        entry: Entry<Self::Value>,
        age: Duration,
        view: &Self::View,
        outcome: Outcome,
        spare: Self::Spare,
    ) -> Self::Response {
        self.replay(&entry, age, view, outcome, spare)
    }

    /// Answers a request that demands what is not stored, and will not have the service called.
    #[doc(hidden)]
    fn unsatisfied(&self, _: &Self::View, _: Outcome) -> Option<Self::Response> {
        None
    }

    /// Answers with what stands in where nothing is stored.
    #[doc(hidden)]
    fn stand_in(&self, _: &Self::View, _: Outcome) -> Option<Self::Response> {
        None
    }

    /// Finishes a response that was not cached, and says what it invalidates.
    #[doc(hidden)]
    fn finish(&self, response: Res, after: Self::After) -> (Self::Response, Vec<Scope>);

    /// The status code, for the status field.
    #[doc(hidden)]
    fn status(&self, response: &Res) -> Option<u16>;

    /// Whether the service could not do its work: what is stored is better than this.
    #[doc(hidden)]
    fn is_failure(&self, response: &Res) -> bool;
}

/// What became of reading a request.
pub enum Prepared<P: Protocol + ?Sized, Request> {
    /// It goes forward as it is.
    Forward(Request, P::After),
    /// It is looked up under the key that was built.
    Lookup(Request, P::View),
    /// Its key is not known before some of it was read.
    Later(Later<P, Request>),
}

/// Reads what is needed of a request, and brings the key along.
pub(crate) type Later<P, Request> = Pin<Box<dyn Future<Output = (Prepared<P, Request>, KeyBuf)> + Send>>;

/// What a request may do beside reading what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Lead a run that answers it.
    Lead,
    /// Have what is stored refreshed; a miss goes forward by itself. (HEAD: its response is no GET's.)
    Refresh,
    /// Lead a run that answers it where there is something stored for that to replace, or where it is to `fill`; else it
    /// goes forward by itself. (`Range`: a run is for the whole, which may be much more than was asked for.)
    Part {
        /// Whether the whole is worth a run even where nothing is stored.
        fill: bool,
    },
    /// Nothing. (`no-store`: the request wants no trace of itself.)
    Read,
}

/// Why a run runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// Somebody waits for it.
    Foreground,
    /// A stale response was served, and is refreshed behind the reader.
    Background,
}

/// A response for the one who leads, and what is to be stored of it.
#[derive(Debug)]
pub enum Captured<R, V, F> {
    /// All of it is there.
    Whole(R, V),
    /// The rest is read while the leader reads. Dropped before it is complete, it hands the rest to the leader.
    Filling(R, Pin<Box<F>>),
    /// What is there of it shows already that it cannot be stored.
    Unfit(R, Unfilled),
}

/// What is stored, brought up to date by a response that validated it.
#[derive(Debug)]
pub struct Validated<R, V> {
    pub(crate) judged: Judgement,
    pub(crate) value: V,
    /// For the one who leads.
    pub(crate) response: R,
}

/// Why there is no value in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfilled {
    /// The body is over the cap.
    TooLarge,
    /// The body was not complete in time.
    Slow,
    /// The body failed or ended early.
    Failed,
    /// It is a stream of messages, which has no end to wait for.
    Streaming,
}

impl Unfilled {
    /// The same in the vocabulary of outcomes.
    pub(crate) fn detail(self) -> Detail {
        match self {
            Self::TooLarge => Detail::TooLarge,
            Self::Slow => Detail::SlowBody,
            Self::Failed => Detail::BodyFailed,
            Self::Streaming => Detail::Streaming,
        }
    }
}

impl<P: Protocol + ?Sized, Request> fmt::Debug for Prepared<P, Request> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward(..) => "Forward",
            Self::Lookup(..) => "Lookup",
            Self::Later(..) => "Later",
        })
    }
}

#[cfg(test)]
mod tests;
