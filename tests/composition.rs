//! Wherever tower and axum let a layer stand, this one stands and works; around its own kind as well.
//!
//! Each file shows one theme. What the guide (`src/guide/composition.md`) says of other middleware has its tests here, and
//! names them.

#![cfg(feature = "axum")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test may spawn, and expects what it says")]

mod support;

#[path = "composition/stand.rs"]
mod stand;

#[path = "composition/clients.rs"]
mod clients;
#[path = "composition/content.rs"]
mod content;
#[path = "composition/failures.rs"]
mod failures;
#[path = "composition/files.rs"]
mod files;
#[path = "composition/functions.rs"]
mod functions;
#[path = "composition/grpc.rs"]
mod grpc;
#[path = "composition/identity.rs"]
mod identity;
#[path = "composition/limits.rs"]
mod limits;
#[path = "composition/nesting.rs"]
mod nesting;
#[path = "composition/observing.rs"]
mod observing;
#[path = "composition/opting_in.rs"]
mod opting_in;
#[path = "composition/page.rs"]
mod page;
#[path = "composition/paths.rs"]
mod paths;
#[path = "composition/routers.rs"]
mod routers;
#[path = "composition/services.rs"]
mod services;
#[path = "composition/settings.rs"]
mod settings;
#[path = "composition/streams.rs"]
mod streams;
