//! Who takes part: a file for each, headed by its settings.

mod axum_response_cache;
mod bare;
mod cacheback;
mod constant;
mod hitbox;
mod http_cache_tower_server;
mod ideal;
mod tower_http_cache;

use std::error::Error;

use ::axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use tower::Service;

use crate::origin::Inner;

/// In the order of the table.
pub const ALL: [&str; 9] = [
    CONSTANT,
    IDEAL,
    "cacheback",
    BARE,
    "axum-response-cache",
    "tower-http-cache",
    "hitbox-bincode",
    "hitbox-json",
    "http-cache-tower-server",
];

/// The axum handler that nothing stands before.
pub const BARE: &str = "bare";

/// A service that has one response and gives it to everybody.
pub const CONSTANT: &str = "constant";

/// The hand-written hit.
pub const IDEAL: &str = "ideal";

/// The caches: those that run the handler when they have nothing.
pub fn caches() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().filter(|name| ![CONSTANT, IDEAL, BARE].contains(name))
}

/// Those of them that answer a stale hit while a refresh is under way.
pub fn stale() -> impl Iterator<Item = &'static str> {
    caches().filter(|name| !["axum-response-cache", "http-cache-tower-server"].contains(name))
}

/// And those that can keep everything in Redis.
pub const OVER_REDIS: [&str; 4] = ["cacheback", "tower-http-cache", "hitbox-bincode", "hitbox-json"];

/// How many responses each may keep: more than any case makes.
const ENTRIES: u64 = 100_000;

/// What a cache around a handler is, whoever has made it.
pub trait Answers:
    Service<Request<Body>, Response = Response<Self::Body>, Error: Into<BoxError>, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
    /// Its responses' bodies.
    type Body: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> Answers for S
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
}

/// Any error.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// How long what is stored lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Fresh for longer than any case runs.
    Fresh,
    /// Stale as soon as can be, and servable while it is refreshed for longer than any case runs.
    Stale,
}

/// What is done with a contender, whatever its type.
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<S: Answers>(self, service: S) -> Self::Output;
}

/// Puts the contender of this name around a service.
///
/// # Panics
///
/// Where there is none of that name.
pub fn meet<S: Inner, V: Visitor>(name: &str, inner: S, life: Life, visitor: V) -> V::Output {
    match name {
        CONSTANT => visitor.visit(constant::service()),
        IDEAL => visitor.visit(ideal::service()),
        BARE => visitor.visit(bare::around(inner)),
        "cacheback" => visitor.visit(cacheback::around(inner, life)),
        "axum-response-cache" => visitor.visit(axum_response_cache::around(inner)),
        "tower-http-cache" => visitor.visit(tower_http_cache::around(inner, life)),
        "hitbox-bincode" => visitor.visit(hitbox::around(inner, life, hitbox::BincodeFormat)),
        "hitbox-json" => visitor.visit(hitbox::around(inner, life, hitbox::JsonFormat)),
        "http-cache-tower-server" => visitor.visit(http_cache_tower_server::around(inner)),
        _ => panic!("no contender of the name {name}"),
    }
}

/// The same, nothing kept but in the Redis of this URL.
///
/// # Panics
///
/// Where there is none of that name, or no server.
pub async fn meet_over_redis<S: Inner, V: Visitor>(name: &str, inner: S, url: &str, visitor: V) -> V::Output {
    match name {
        "cacheback" => visitor.visit(cacheback::over_redis(inner, url).await),
        "tower-http-cache" => visitor.visit(tower_http_cache::over_redis(inner, url).await),
        "hitbox-bincode" => visitor.visit(hitbox::over_redis(inner, url, hitbox::BincodeFormat)),
        "hitbox-json" => visitor.visit(hitbox::over_redis(inner, url, hitbox::JsonFormat)),
        _ => panic!("{name} knows no Redis"),
    }
}
