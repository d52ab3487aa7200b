//! A reference model: what a reader may see, said of a record of what happened and not by a second engine.
//!
//! Here are the words: what a layer is told, and what can happen. [`Model`] takes one [`Event`] after another; `record`
//! keeps who asked, who ran and what was invalidated, and answers questions about it; `laws` are what has to be true of
//! each event. Things that happen between two calms have no order that is promised. Where the record leaves open what
//! the engine did first, a law about what a reader *may* see takes the milder answer, and one about what it *must* see
//! asks nothing.

use std::time::Duration;

use super::typed::secs;

mod laws;
mod record;

pub use record::Model;

/// How long a response is fresh. Windows and limits differ, so that each has a moment of its own.
pub const LIFETIME: Duration = secs(10);
/// `wait_timeout`.
pub const WAIT: Duration = secs(7);
/// `refresh_timeout`.
pub const REFRESH: Duration = secs(17);
/// `fill_timeout`.
pub const FILL: Duration = secs(3);
/// `hit_for_miss`.
pub const MARK: Duration = secs(25);
/// Timers ring on whole milliseconds.
pub const TICK: Duration = Duration::from_millis(1);
/// As many refreshes as nobody uses up.
pub const PLENTY: usize = 64;

/// What a layer and its cache are told.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub front: Front,
    /// `stale_while_revalidate`, in seconds.
    pub stale: u64,
    /// `stale_if_error`, in seconds.
    pub error: u64,
    /// `soft_timeout`, in seconds.
    pub soft: Option<u64>,
    /// `max_refreshes`.
    pub refreshes: usize,
    pub share_errors: bool,
    pub early_refresh: bool,
}

/// What kind of layer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    Http,
    Typed,
}

/// What a run answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A response for everybody, with this tag.
    Store(u8),
    /// One that its client's language selects.
    Vary(u8),
    /// One that sets a cookie.
    Personal,
    /// One with a body over the cap.
    TooLarge,
    NotFound,
    Unavailable,
    Fail,
    Panic,
}

/// What becomes of a body that comes after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    Expire,
    Purge,
}

/// What an invalidation names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Key(usize),
    /// With every query.
    Path(usize),
    /// The keys below a path: 0 and 1, or 2 and 3.
    Below(usize),
    Tag(u8),
    /// The namespace of the layer, or another one.
    Namespace(bool),
    Everything,
}

/// Something that happened. Requests and runs are numbered as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The layer was called; `forced` asks for a new response.
    Asked { client: usize, key: usize, forced: bool },
    /// The request was polled for the first time.
    Polled { ask: usize },
    /// The request was answered with the response of a run, and told whether that is stale.
    Got { ask: usize, run: usize, stale: Option<bool> },
    /// The body was read to its end.
    Read { ask: usize, run: usize, end: End },
    /// The request ended in the error of a run.
    Erred { ask: usize, run: usize },
    /// The request panicked.
    Panicked { ask: usize },
    /// The reader went away.
    Left { ask: usize },
    /// The service was called.
    Started { ask: usize, background: bool },
    /// The service was let answer; `later` is when its body comes.
    Answered { run: usize, with: Answer, later: bool },
    /// Its body was let end.
    Ended { run: usize, end: End },
    /// The call, or the body, was dropped before its end.
    Dropped { run: usize },
    /// Somebody begins to put a response, which counts as a run.
    Putting { client: usize, key: usize, with: Answer },
    /// It was put.
    Put { run: usize },
    /// An invalidation begins.
    Invalidated { force: Force, reach: Reach },
    /// All that can happen has happened.
    Calm { refreshes_dropped: u64 },
}

/// The language of a client: it selects among variants.
pub fn language(client: usize) -> usize {
    client % 2
}
