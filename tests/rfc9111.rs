//! Storing and freshness as RFC 9111 has them, through a layer: in application mode and in protocol mode, which differ only
//! where it is said.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "rfc9111/authorization.rs"]
mod authorization;
#[path = "rfc9111/fields.rs"]
mod fields;
#[path = "rfc9111/lifetimes.rs"]
mod lifetimes;
#[path = "rfc9111/stale.rs"]
mod stale;
#[path = "rfc9111/storing.rs"]
mod storing;
mod support;

use axum::Router;
use cacheback::{CacheStatus, CachebackLayer, Freshness, Http};
use http::{HeaderMap, StatusCode};
use support::http::{Origin, Reply, get, headers, pass, secs};

/// A layer of each mode. In application mode it has a lifetime of its own, of half a minute, and no windows.
fn both() -> [CachebackLayer<Http>; 2] {
    [application(), CachebackLayer::http()]
}

fn application() -> CachebackLayer<Http> {
    CachebackLayer::new(Freshness::exact(secs(30)))
}

/// An origin whose first answer has this status and these fields; each says which run it is of. Later runs fail.
fn once(status: u16, fields: HeaderMap) -> Origin {
    let status = StatusCode::from_u16(status).unwrap();
    Origin::new(move |seen| match seen.run {
        1 => (status, fields.clone(), "1".to_owned()),
        run => (StatusCode::BAD_GATEWAY, HeaderMap::new(), run.to_string()),
    })
}

/// An origin whose answers all have this status and these fields; each says which run it is of.
fn always(status: u16, fields: HeaderMap) -> Origin {
    let status = StatusCode::from_u16(status).unwrap();
    Origin::new(move |seen| (status, fields.clone(), seen.run.to_string()))
}

/// How an answer came: fresh or stale from the store, in place of a failure, or from the service.
fn came(reply: &Reply) -> &'static str {
    let said = reply.outcome();
    match said.status() {
        CacheStatus::Hit if said.is_stale() => "stale",
        CacheStatus::Hit => "fresh",
        CacheStatus::Stale if said.is_stale() => "instead",
        _ => "asked",
    }
}

/// How an answer comes, of a response with these fields, at an age.
async fn at(layer: &CachebackLayer<Http>, fields: &[(&str, &str)], age: f64) -> &'static str {
    let app = once(200, headers(fields)).behind(layer.clone());
    get(&app, "/at").await;
    pass(age).await;
    let reply = get(&app, "/at").await;
    layer.cache().purge(cacheback::Scope::everything()).await.unwrap();
    came(&reply)
}

/// Whether a second request like the first is answered from the store.
async fn is_stored(app: &Router) -> bool {
    get(app, "/x").await;
    came(&get(app, "/x").await) == "fresh"
}
