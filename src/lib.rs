//! A tower layer that caches responses, answers a stale hit with the stale response at once, and re-runs the request
//! behind the reader.
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use cacheback::CachebackLayer;
//!
//! # async fn quote() {}
//! // Fresh for a minute; after that stale at once and refreshed behind the reader, for up to an hour.
//! let app: Router = Router::new()
//!     .route("/quotes/{id}", get(quote))
//!     .layer(CachebackLayer::new(Duration::from_secs(60)));
//! ```
//!
//! It is better to serve a stale response at once, and to fetch the new one behind the reader's back, than to make the
//! reader wait. That is the idea of Python's `django-cacheback`, where a *job* knows its cache key, how to fetch, and how
//! long a result lives. In tower the job is there already: it is a `Service`. The request is the arguments, calling the
//! service is the fetch.
//!
//! * [`CachebackLayer`] wraps a service; [`CachebackLayer::new`] and [`CachebackLayer::http`] for HTTP,
//!   [`CachebackLayer::grpc`] for gRPC, [`CachebackLayer::typed`] for any other.
//! * [`Freshness`] says how long a response lives and how long it may be served stale.
//! * [`Cache`] is what layers share, and the handle by which it is looked at and invalidated: by [`Key`], or by [`Scope`].
//! * [`Outcome`] says what happened to a request, in the words of RFC 9211.
//! * [`testing::audit`] finds out which input of a handler nobody keyed.
//! * [`Http`] is the place to read which requests and responses are cached; [`guide::speed`] what a hit costs, [`guide::composition`] which middleware
//!   belongs outside the layer, and which inside.
//!
//! # Guarantees
//!
//! | guarantee | shown by |
//! |---|---|
//! | A fresh or stale hit is answered from memory at once, whatever the service does; horizons are fixed when a run starts and nothing moves them back | `tests/stale_at_once.rs` |
//! | As long as its responses can be shared a key has one run at a time, however many wait; cancelled leaders, panics and hung services leave nobody behind | `tests/one_run_at_a_time.rs` |
//! | Refreshes are bounded in number and time, back off after failures, and never cost a stored response that is better | `tests/refresh.rs` |
//! | What may be private is neither stored nor shared, and no request can poison what others get | `tests/never_shared.rs` |
//! | In protocol mode, where cookies and credentials pass, nobody gets what is another's, and nobody takes from others | `tests/each_alone.rs` |
//! | Two requests share a key only if they agree in all that is keyed | `tests/keys.rs` |
//! | Variants are kept apart as `Vary` says | `tests/vary.rs` |
//! | HTTP's rules for shared caches are kept, section by section | `tests/rfc9111.rs`, `tests/http_caching.rs` |
//! | What is stored is validated, and a 304 brings it up to date | `tests/validation.rs` |
//! | Conditions and ranges of clients are answered from what is stored | `tests/conditions.rs`, `tests/ranges.rs` |
//! | Fields targeted at this cache, cache groups, what requests demand, and what `Cache-Status` says of it all | `tests/rfc9213.rs`, `tests/rfc9875.rs`, `tests/request_directives.rs`, `tests/rfc9211.rs` |
//! | All of it over real sockets, in a caching reverse proxy | `tests/proxy.rs` |
//! | Bodies stream as without the layer, and what is stored is whole | `tests/streaming.rs` |
//! | An invalidation reaches what it names, and wins over every run that started before it | `tests/invalidation.rs`, `tests/races.rs` |
//! | By hand: what is put wins over older runs, a look leaves no trace, an explanation is true, a forced run is new, every request is counted once | `tests/handle.rs` |
//! | A runtime without time, or one that is gone, breaks nothing | `tests/runtimes.rs` |
//! | A run is a span that follows from its request; each event is told once | `tests/telemetry.rs` |
//! | What a handler reads and nobody keyed is found by name, as far as it is changed, and nothing else is | `tests/audit.rs` |
//! | It composes: axum, tower, tower-http, tonic, hyper, inside and outside, one in another | `tests/composition.rs` |
//! | gRPC: unary answers are stored whole and given to those who ask the same, streams pass, by two clients over sockets | `tests/grpc.rs` |
//! | Any service, and any async function; each promise of django-cacheback | `tests/typed.rs`, `tests/job_api.rs` |
//! | A placeholder stands in at once, and never for longer than it must | `tests/placeholder.rs` |
//! | What one instance has stored others find, one runs for all of them, and what one invalidates all let go of; no late run brings it back; no request fails because of a store | `tests/stores.rs` |
//! | The same over Redis, by real servers: killed, frozen, full, read-only, talking nonsense, failing over, in a cluster | `tests/redis.rs` |
//! | Stored responses and all that is known of their keys take the memory that was configured and a quarter more at most; what is read often stays | `tests/memory.rs` |
//! | Nothing panics, whatever requests and responses come | `tests/no_panics.rs` |
//! | A hit costs what it costs: instructions are recorded and held to the record, allocations have ceilings | `benches/instructions.sh`, `benches/allocations.rs` |
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `axum` | yes | the path as received (`OriginalUri`) in the key; [`Tags`], [`Freshness`] and [`NoStore`] as parts of a handler's response; the client's address for the auditor |
//! | `redis` | no | `RedisStore`: many instances behave as one cache |
//! | `redis-cluster`, `redis-sentinel` | no | the same over a Redis Cluster; over the master that sentinels name |
//! | `redis-tls` | no | encrypted connections to it (`rediss://`) |
//! | `serde` | no | `Json` and `Postcard`: typed responses as bytes, for a [`Store`] |
//! | `tracing` | no | events and warnings through `tracing` |
//! | `full` | no | all of them |
//!
//! # The source, in reading order
//!
//! A file imports from the floors below its own, never upwards; but that a layer is for HTTP, unless it is told otherwise,
//! its defaults and its constructors name `Http`.
//!
//! * **Vocabulary**: `key` (what identifies a response), `freshness` (how long it lives), `demands` (what a request asks of
//!   it), `authority` (the one spelling of a host), `tags`, `scope` (what an invalidation names), `status` (RFC 9211's words),
//!   `judgement` (the verdict on a response), `entry` (a stored response), `interest` (whether anybody wants a run), `clock`
//!   (the only file that reads time), `sync` (what threads share state by), `room` (bytes on the stack), `error`.
//! * **Contracts**: `protocol` (what the engine asks of one kind of traffic), `store` (what of a remote tier, and how a cache
//!   uses one; in `store/redis` one over Redis), `codec` (values as bytes).
//! * **Mechanisms**: `slot` (all that is known of one key), `index` (which keys a path or tag reaches), `memory` (the
//!   in-process tier), `journal` (what was invalidated while runs were under way), `flight` (one run per key),
//!   `permits` (how many go on in the background), `tables` (what they give back; keys that are hashed once).
//! * **Engine**: `shared` (the state that layers share), `cache` (the handle to it), `builder` (what is set of it), `layer`
//!   (what users set), `route` (what its services share, and make of a request), `sighting` (what was found for a
//!   request), `service` (answers from memory), `put`, `peek` and `explain` (by hand), `future`, `miss` (leads a run or waits for one), `seeker` (what it can do on the way), `placeholder` (or
//!   does neither), `run` (the run itself; the only file that spawns, but for the keeper of connections to Redis),
//!   `elsewhere` (a runtime for those behind readers), `consult` (asks the shared store first), `settling` (what a
//!   response means), `desk` (who gets it), `supervision` (of a run's deadline, its panics, and whether anybody
//!   wants it), `audit` (behind a fresh hit).
//! * **Protocols**: `typed`, `http` with a file for each group of rules (in `http/audit` those of the auditor), and `grpc`,
//!   which stores what `http` stores.
//! * Beside them `telemetry` and `stats`: every event once, and counted; `testing`, for the tests of users; and `models`:
//!   what threads share, in every order of its steps. `guide` holds pages of docs. In `benches/cases` stands what benches
//!   compare, in `benches/peers`, a workspace of its own, what others make of the same.

mod audit;
mod authority;
mod builder;
mod cache;
mod clock;
mod codec;
mod consult;
mod demands;
mod desk;
mod elsewhere;
mod entry;
mod error;
mod explain;
mod flight;
mod freshness;
pub mod future;
pub mod grpc;
pub mod guide;
mod http;
mod index;
mod interest;
mod journal;
mod judgement;
mod key;
mod layer;
mod memory;
mod miss;
#[cfg(all(test, cacheback_model))]
mod models;
mod peek;
mod permits;
mod placeholder;
mod protocol;
mod put;
mod room;
mod route;
mod run;
mod scope;
mod seeker;
mod service;
mod settling;
mod shared;
mod sighting;
mod slot;
mod stats;
mod status;
mod store;
mod supervision;
mod sync;
mod tables;
mod tags;
mod telemetry;
pub mod testing;
mod typed;

pub use crate::{
    builder::CacheBuilder,
    cache::{Cache, Reached},
    codec::{Codec, CodecError},
    error::{Error, ErrorKind},
    explain::{Explanation, Plan},
    freshness::Freshness,
    grpc::Grpc,
    http::{Background, Body, ForceRefresh, Http, NoStore, StoredResponse},
    key::Key,
    layer::CachebackLayer,
    peek::Peeked,
    placeholder::Placeholder,
    protocol::{Capture, Prepare, Protocol},
    scope::Scope,
    service::Cacheback,
    stats::Stats,
    status::{CacheStatus, Detail, Outcome},
    store::Store,
    tags::Tags,
    typed::{CachedFunction, Function, KeyFn, Typed},
};

#[cfg(feature = "redis")]
pub use crate::store::redis::{RedisStore, RedisStoreBuilder};

#[cfg(feature = "serde")]
pub use crate::codec::{Json, Postcard};

/// The README's code, compiled.
#[cfg(all(doctest, feature = "axum", feature = "serde"))]
#[doc = include_str!("../README.md")]
struct Readme;
