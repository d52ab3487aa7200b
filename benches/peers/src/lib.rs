//! cacheback beside every other cache: the same request, the same response, the same cases for all.
//!
//! `all.sh` beside this runs everything and prints one table. What is here, in reading order:
//!
//! * `cases` (shared with the benches of cacheback itself): the request, the response, the ideal hit.
//! * [`origin`]: the handler behind each cache, which counts its runs.
//! * [`contenders`]: who takes part, one file each, with its settings and why they are the best for it.
//! * [`hits`], [`misses`], [`readers`]: what is done to each in process. `src/main.rs` measures it.
//! * [`table`]: all figures as one table in Markdown; [`notes`]: how each contender was set.
//!
//! In `src/bin`, `allocations` counts those of a hit, `redis` measures hits of caches that keep everything there, and `serve`
//! puts one contender behind a socket; `sockets.sh` asks it, nginx and Varnish in turn. `instructions.sh` counts what
//! main.rs does.

#[allow(clippy::type_complexity, reason = "as the workspace that it belongs to has it")]
#[path = "../../cases/mod.rs"]
mod cases;
pub mod contenders;
pub mod hits;
pub mod misses;
pub mod notes;
pub mod origin;
pub mod readers;
pub mod table;

/// The request of all cases.
#[must_use]
pub fn request() -> http::Request<axum::body::Body> {
    cases::request()
}

/// The runtime of a case: nobody drives it but the case.
///
/// # Panics
///
/// Where the system gives none.
#[must_use]
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}
