//! gRPC over HTTP/2: unary calls, cached by method and message.
//!
//! * A request is read by `request`: one message and no more, in the bytes that `message` counts. `prepare` says what
//!   becomes of it, by the `rules` of its key and by what a run is to see.
//! * A response is judged by `capture`, with what `statuses` says of `grpc-status`, once by its head and once by its
//!   trailers. It is stored as HTTP's are, and HTTP's files do it.
//! * `setters` is what a user says to a layer, `by_hand` makes calls and answers for those who put one into a cache.
//!
//! A layer of this protocol and layers of [`Http`](crate::Http) may share one [`Cache`]:
//!
//! ```
//! use std::time::Duration;
//! use cacheback::{Cache, Freshness, Scope};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cacheback::Error> {
//! let cache = Cache::new();
//! let pages = cache.layer(Duration::from_secs(60));
//! let calls = cache.grpc().method("/quotes.Quotes/Get", Freshness::new(Duration::from_secs(5)));
//!
//! cache.expire_path("/quotes.Quotes/Get").await?; // the method, whatever was asked
//! cache.expire(Scope::message("/quotes.Quotes/Get", b"\x0a\x04ACME")?).await?; // one call of it
//! cache.expire(Scope::path_prefix("/quotes.Quotes")?).await?; // all methods of the service
//! cache.expire_tag("prices").await?;
//! # Ok(()) }
//! ```

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use http::Extensions;

use crate::{
    cache::Cache,
    entry::Fields,
    freshness::Freshness,
    http::{
        Mode, StoredResponse, announcing::StatusName, common::OverHttp, parts::Contribution, request::View,
        rules::KeyRules, unstored::Unstored,
    },
    key::KeyBuf,
    layer::CachebackLayer,
    protocol::{Protocol, sealed},
    status::Outcome,
};

mod by_hand;
mod capture;
#[cfg(all(test, not(cacheback_model)))]
mod fuzz;
pub(crate) mod message;
mod prepare;
mod request;
mod rules;
mod setters;
mod statuses;

pub use by_hand::{Whole, answer, call, frame};
pub use request::RequestBody;

/// The protocol of gRPC services, such as those of tonic. From [`CachebackLayer::grpc`] and [`Cache::grpc`].
///
/// # Which calls are looked up
///
/// Unary calls of the methods that [`method`](CachebackLayer::method) lists. All else goes past the cache with its body
/// unread: other methods, HTTP that is not gRPC, gRPC-Web. The one message of the call is read before it is looked up. A
/// call goes past as well, with all that was read of it in front, if its message is over
/// [`message_cap`](CachebackLayer::message_cap), or if there is more than one. A client that says nothing more for 50 ms,
/// neither the rest of its message nor that this was all, is taken for one that streams: it may be waiting for an answer.
///
/// The key is authority, method and message, byte for byte, with the message's coding, the content type, and the codings
/// that the client reads, of which there are few that count (`gzip`, `deflate`, `snappy`, `zstd`). So clients who read
/// compressed messages and those who do not get what they can read. Metadata is no part of it but for what
/// [`key_metadata`](CachebackLayer::key_metadata) and [`key_by`](CachebackLayer::key_by) add. `grpc-timeout` is not: an
/// answer is nobody's deadline.
///
/// A call whose metadata carries a credential (`authorization`, `x-api-key`, `cookie` and those that
/// [`credential_metadata`](CachebackLayer::credential_metadata) lists) goes past the cache unless the key covers it. An
/// interceptor inside the layer therefore sees each call that is authorised.
///
/// # What the service sees
///
/// Every run that may be stored sees the message and what is in the key, and of the client's other metadata nothing but
/// `traceparent` and `tracestate`: what nobody keyed cannot change the answer. It sees no `grpc-timeout`: a refresh outlives
/// the call behind which it runs, and has a limit of its own ([`refresh_timeout`](CachebackLayer::refresh_timeout)).
/// Extensions are those of the request, with [`Background`](crate::Background) where nobody waits. As around HTTP, what a
/// middleware further out has put there, or the connection has, is not part of the key: a service that answers by it needs
/// `key_by`.
///
/// What a function of `key_by` has read is not seen for that, a credential neither. Who needs it further in, such as an
/// interceptor there, gets it by `key_metadata` as well, or in an extension from further out.
///
/// # Which answers are stored
///
/// One message, then trailers with `grpc-status: 0`: headers, message and trailers are stored and given out as they were,
/// with `age` and `cache-status` among the headers. Not stored: what says `cache-control: no-store`, `private` or
/// `no-cache`, sets a cookie, is over [`body_cap`](CachebackLayer::body_cap), or was told so by its service
/// ([`NoStore`](crate::NoStore)). What says `must-revalidate` is never served stale. A [`Freshness`] or
/// [`Tags`](crate::Tags) among the extensions of tonic's `Response` counts as in HTTP.
///
/// `CANCELLED`, `UNKNOWN`, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, `ABORTED`, `UNIMPLEMENTED`, `INTERNAL`,
/// `UNAVAILABLE` and `DATA_LOSS` are failures: what is stored is better and stays. So is what is no answer of gRPC at all,
/// such as a page of a proxy, unless its status is 401 or 403. All others are answers: they go to those who wait, and take
/// the place of what is stored by removing it. `UNAUTHENTICATED` and `PERMISSION_DENIED` go to the one who asked.
///
/// # Streaming
///
/// A method that streams is not to be listed. If it is, it goes on as without the layer, message by message: a client that
/// streams as said above, a server that streams after its second message, when it is known for one. Until then others with
/// the same message wait, and where a stored answer could stand in for a failure so does the reader, for
/// [`fill_timeout`](CachebackLayer::fill_timeout) at most: if there is no whole message by then, that is a failure.
///
/// Bodies of requests are to be `Unpin`, as those of tonic, axum and hyper are.
#[derive(Clone)]
pub struct Grpc {
    methods: Arc<HashMap<Box<str>, Freshness, ahash::RandomState>>,
    rules: KeyRules,
    name: StatusName,
    unstored: Unstored,
    message_cap: usize,
    body_cap: usize,
    enabled: bool,
}

/// What is left to do for a call that goes past the cache.
#[derive(Debug)]
pub enum After {
    /// Nothing at all: it is none of the layer's business.
    Nothing,
    /// Say why.
    Say(Outcome),
    /// Tell the layer further out what this one would have done.
    Contribute(Option<Contribution>),
}

impl CachebackLayer {
    /// Caches unary gRPC calls, of the methods that are listed, with a [`Cache`] of its own.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cacheback::{CachebackLayer, Freshness};
    ///
    /// let quotes = Freshness::new(Duration::from_secs(5)).stale_while_revalidate(Duration::from_secs(60));
    /// let layer = CachebackLayer::grpc()
    ///     .method("/quotes.Quotes/Get", quotes)
    ///     .key_metadata("x-tenant");
    /// ```
    ///
    /// It stands around a server of tonic (`Server::builder().layer(layer)`), or around one service of it:
    ///
    /// ```
    /// use tonic::service::LayerExt;
    ///
    /// # fn around<Q: tonic::server::NamedService>(layer: cacheback::CachebackLayer<cacheback::Grpc>, server: Q) {
    /// let quotes = layer.named_layer(server); // server: QuotesServer::new(quotes)
    /// # }
    /// ```
    ///
    /// See [`Grpc`] for the rules.
    pub fn grpc() -> CachebackLayer<Grpc> {
        Cache::<StoredResponse>::new().grpc()
    }
}

impl Cache {
    /// A layer for a gRPC server or one of its services: see [`CachebackLayer::grpc`].
    pub fn grpc(&self) -> CachebackLayer<Grpc> {
        CachebackLayer::over(self.clone(), Grpc::new(), Freshness::exact(Duration::ZERO))
    }
}

impl Grpc {
    fn new() -> Self {
        Self {
            methods: Arc::default(),
            rules: KeyRules::new(Mode::Application),
            name: StatusName(Some("cacheback".into())),
            unstored: Unstored::new(Mode::Application),
            message_cap: 64 << 10,
            body_cap: 1 << 20,
            enabled: true,
        }
    }
}

impl sealed::Sealed for Grpc {}

impl Protocol for Grpc {
    type Value = StoredResponse;
    type View = View;
    /// How long an answer of the method lives.
    type Sight = Freshness;
    type Spare = Extensions;
    type After = After;

    fn variant(&self, _: &Fields, _: &Freshness, _: &mut KeyBuf) {}

    fn weigh(&self, value: &StoredResponse) -> usize {
        value.weight()
    }
}

impl OverHttp for Grpc {
    fn rules(&mut self) -> &mut KeyRules {
        &mut self.rules
    }

    fn name(&mut self) -> &mut StatusName {
        &mut self.name
    }

    fn body_cap(&mut self) -> &mut usize {
        &mut self.body_cap
    }

    fn enabled(&mut self) -> &mut bool {
        &mut self.enabled
    }
}

impl fmt::Debug for Grpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grpc").field("methods", &self.methods).field("rules", &self.rules).finish_non_exhaustive()
    }
}
