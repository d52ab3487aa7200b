//! draft
mod cache;
mod clock;
mod entry;
mod error;
mod flight;
mod freshness;
pub mod future;
mod http;
mod index;
mod journal;
mod key;
mod layer;
mod memory;
mod miss;
mod permits;
mod protocol;
mod run;
mod scope;
mod service;
mod slot;
mod status;
mod store;
mod telemetry;
mod typed;

pub use crate::{
    cache::{Cache, CacheBuilder, Reached, Stats},
    error::{Error, ErrorKind},
    freshness::Freshness,
    http::{Background, Body, Http, NoStore, StoredResponse},
    key::Key,
    layer::CachebackLayer,
    protocol::{Capture, Prepare, Protocol},
    scope::{Scope, Tags},
    service::Cacheback,
    status::{CacheStatus, Detail, Outcome},
    typed::Typed,
};
