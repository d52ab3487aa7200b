//! The cells of the matrix, and what is to be expected in each: arithmetic that knows no cache.
#![allow(unreachable_pub, reason = "a test is a crate of its own")]

use cacheback::{Freshness, Key, Scope};
use http::StatusCode;

use crate::support::http::{Fields, secs};

/// A dimension: an enum that knows all of its values, so that none is left out of the matrix.
macro_rules! dimension {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $value:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum $name { $($(#[$of])* $value,)* }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$value),*];
        }
    };
}

/// One race: a run, and who overtakes it.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    pub kind: Kind,
    pub stage: Stage,
    pub page: Page,
    /// Whether somebody else waits for the run when it is overtaken.
    pub followed: bool,
    pub by: By,
    pub late: Late,
    pub order: Order,
}

dimension! {
    /// What brings the run about.
    Kind {
        /// Nothing is stored.
        Cold,
        /// The same, and the client goes away: the run is adopted, or goes on for those who follow.
        Left,
        /// The reader is answered, and it runs behind.
        Stale,
        /// The reader waits.
        TooStale,
        /// A request with `ForceRefresh`, though what is stored is fresh.
        Forced,
        /// The same by `Cacheback::refresh`.
        Refreshed,
        /// What is stored is fresh, and drawn early.
        Early,
        /// No run at all: a response that is put.
        Put,
    }
}

dimension! {
    /// How far the run has come when it is overtaken.
    Stage {
        /// Its task was not polled yet.
        Spawned,
        /// Its task was polled once, and has let others go first, as those behind a reader do.
        Yielded,
        /// The service has been called, and there is no head.
        Begun,
        /// The head has landed, and a part of the body.
        Streaming,
        Stored,
    }
}

dimension! {
    /// What is known of the page, and how long it lives: fresh for 60 s in any case.
    Page {
        /// Then stale at once until 70 s, and instead of a failure until 240 s.
        Plain,
        /// The same, and its responses vary: another variant is stored.
        Varied,
        /// Instead of a failure until 240 s.
        IfError,
        /// Then gone.
        Exact,
    }
}

/// Who overtakes the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum By {
    Expire(Aim),
    Purge(Aim),
    Unsafe(Post),
    Put(Via),
}

dimension! {
    /// A scope, in relation to the page.
    Aim {
        Key,
        Uri,
        UriOnHost,
        Path,
        PathOnHost,
        Prefix,
        PrefixOnHost,
        /// A tag of what was stored before and of what the run brings.
        Tag,
        /// A tag of what was stored before alone.
        FormerTag,
        /// A tag of what the run brings alone: nobody knows it before.
        NewTag,
        Namespace,
        Everything,
        OtherKey,
        OtherQuery,
        OtherPath,
        /// It begins as the page's path does, and ends in mid-segment.
        OtherPrefix,
        BelowThePage,
        UriOnOtherHost,
        PathOnOtherHost,
        PrefixOnOtherHost,
        OtherTag,
        OtherNamespace,
    }
}

dimension! {
    /// A request with an unsafe method.
    Post {
        ToPage,
        ToPageThatRedirects,
        ToPageThroughAnotherLayer,
        Location,
        ContentLocation,
        Refused,
        Failed,
        ToOtherQuery,
        ToOtherHost,
        LocationOnOtherHost,
        TurnedOff,
    }
}

dimension! {
    /// A response that is put.
    Via {
        Layer,
        Cache,
        /// First the page is purged.
        LayerAfterPurge,
        /// Then what was put is purged, by a tag that nothing else has.
        LayerBeforePurge,
        LayerOnOtherPage,
    }
}

dimension! {
    /// Who comes afterwards.
    Late {
        /// Two who read.
        Readers,
        /// One who asks for a new response.
        Forcing,
    }
}

dimension! {
    /// Which run lands first: the one that was overtaken, or the one that those who come late bring about.
    Order {
        OldFirst,
        NewFirst,
    }
}

/// What a [`By`] reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// What was stored before the run.
    pub before: bool,
    /// What the run brings.
    pub run: bool,
    /// The run itself, whatever it brings: nobody joins it any more.
    pub course: bool,
}

/// Something that is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kept {
    pub text: &'static str,
    /// When its run began, in seconds.
    pub since: u64,
    pub expired: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Life {
    Fresh,
    Stale,
    TooStale,
    Gone,
}

/// When what was stored before the run is in.
pub const FILLED: u64 = 1;
const FRESH: u64 = 50;
const STALE: u64 = 65;
const TOO_STALE: u64 = 80;

impl Cell {
    /// All cells of a kind of run.
    pub fn all(kind: Kind) -> Vec<Self> {
        let mut cells = Vec::new();
        for &stage in Stage::ALL {
            for &page in Page::ALL {
                for followed in [false, true] {
                    for by in By::all() {
                        for &late in Late::ALL {
                            for &order in Order::ALL {
                                cells.push(Self { kind, stage, page, followed, by, late, order });
                            }
                        }
                    }
                }
            }
        }
        cells.retain(Self::exists);
        cells
    }

    /// Whether the world can be so.
    fn exists(&self) -> bool {
        // For how long it may be served stale matters to an expiry of something that is stored, and to nothing else.
        let expires = matches!(self.by, By::Expire(_)) && self.before().is_some();
        let has_page = matches!(self.page, Page::Plain | Page::Varied) || expires;
        let has_kind = match self.kind {
            // It is another way to ask for the same.
            Kind::Refreshed => self.page == Page::Plain,
            Kind::Stale => self.page.at(STALE, false) == Life::Stale,
            Kind::TooStale => self.page.at(TOO_STALE, false) == Life::TooStale,
            _ => true,
        };
        let has_stage = match self.stage {
            Stage::Yielded => self.kind.is_background(),
            // What is put has no task, and its head is there from the first.
            Stage::Spawned | Stage::Begun => self.kind != Kind::Put,
            Stage::Streaming | Stage::Stored => true,
        };
        let has_follower = match (self.kind, self.stage) {
            (Kind::Put, _) | (_, Stage::Stored) => !self.followed,
            // What is stored answers whoever comes, until time has passed.
            (kind, Stage::Spawned | Stage::Yielded) => !self.followed || !kind.is_answered_from_memory(),
            _ => true,
        };
        // Those who force a run look neither at what is stored nor at who waits.
        let has_late = self.late == Late::Readers || (self.page == Page::Plain && !self.followed);
        let has_order = self.order == Order::OldFirst || (self.stage != Stage::Stored && self.new_may_be_first());
        has_page && has_kind && has_stage && has_follower && has_late && has_order
    }

    /// Whether a new run may begin before the old one lands.
    fn new_may_be_first(&self) -> bool {
        let forced = self.late == Late::Forcing;
        let nothing = forced || self.finds() == Life::Gone;
        self.wants_new() && (self.is_free() || (nothing && !self.followed))
    }

    /// When the run begins.
    pub fn begins(&self) -> u64 {
        match self.kind {
            Kind::Cold | Kind::Left => FILLED,
            Kind::Forced | Kind::Refreshed | Kind::Early | Kind::Put => FRESH,
            Kind::Stale => STALE,
            Kind::TooStale => TOO_STALE,
        }
    }

    /// When it is overtaken: not before those who follow are made to wait by what is stored.
    pub fn overtaken(&self) -> u64 {
        if self.followed && self.kind.has_something_stored() { TOO_STALE } else { self.begins() }
    }

    /// What is stored of the page before it is overtaken.
    pub fn before(&self) -> Option<Kept> {
        let kept = match self.stage {
            Stage::Stored => Some(Kept::new("old", self.begins())),
            _ => self.kind.has_something_stored().then(|| Kept::new("kept", 0)),
        };
        kept.filter(|kept| self.life(*kept) != Life::Gone)
    }

    /// What is stored of its other variant.
    pub fn sibling(&self) -> Option<Kept> {
        (self.page == Page::Varied).then(|| Kept::new("sibling", 0))
    }

    /// Whether what is stored is reached.
    pub fn reaches(&self, kept: Kept) -> bool {
        if kept.text == "old" { self.by.reach().run } else { self.by.reach().before }
    }

    /// What is stored of the page afterwards.
    pub fn after(&self) -> Option<Kept> {
        match self.by {
            By::Put(Via::Layer | Via::Cache | Via::LayerAfterPurge) => Some(Kept::new("put", self.overtaken())),
            By::Put(Via::LayerBeforePurge) => None,
            _ => self.before().and_then(|kept| self.left(kept)),
        }
    }

    /// What is left of something stored, unless something is put in its place.
    pub fn left(&self, kept: Kept) -> Option<Kept> {
        match self.by {
            By::Put(Via::LayerAfterPurge) => None,
            By::Put(_) => Some(kept),
            _ if !self.reaches(kept) => Some(kept),
            By::Expire(_) => Some(Kept { expired: true, ..kept }).filter(|kept| self.life(*kept) != Life::Gone),
            By::Purge(_) | By::Unsafe(_) => None,
        }
    }

    /// What may be done with something that is stored.
    pub fn life(&self, kept: Kept) -> Life {
        self.page.at(self.overtaken() - kept.since, kept.expired)
    }

    /// How those who come late find the page.
    pub fn finds(&self) -> Life {
        self.after().map_or(Life::Gone, |kept| self.life(kept))
    }

    /// Whether they are answered at once.
    pub fn hits(&self) -> bool {
        self.late == Late::Readers && matches!(self.finds(), Life::Fresh | Life::Stale)
    }

    /// Whether they ask for a new response.
    pub fn wants_new(&self) -> bool {
        self.late == Late::Forcing || self.finds() != Life::Fresh
    }

    /// Whether a new run may begin though the old one has not landed.
    pub fn is_free(&self) -> bool {
        self.kind == Kind::Put || self.stage == Stage::Stored || self.by.reach().course
    }

    /// Whether it begins as soon as the old one has landed: for those who waited for that one.
    pub fn begins_when_old_lands(&self) -> bool {
        let waits = self.order == Order::OldFirst && self.wants_new() && !self.is_free() && !self.hits();
        waits && (self.is_void() || self.late == Late::Forcing)
    }

    /// Whether what the run brings must not be stored.
    pub fn is_void(&self) -> bool {
        self.by.reach().run
    }
}

impl Kind {
    pub fn has_something_stored(self) -> bool {
        !matches!(self, Self::Cold | Self::Left)
    }

    /// Whether the reader who brings the run about does not wait for it.
    pub fn is_background(self) -> bool {
        matches!(self, Self::Stale | Self::Early)
    }

    fn is_answered_from_memory(self) -> bool {
        self.has_something_stored() && self != Self::TooStale
    }
}

impl Stage {
    /// Whether the run has called the service by then.
    pub fn has_called(self) -> bool {
        !matches!(self, Self::Spawned | Self::Yielded)
    }
}

impl Page {
    pub fn freshness(self) -> Freshness {
        let exact = Freshness::exact(secs(60));
        match self {
            Self::Plain | Self::Varied => exact.stale_while_revalidate(secs(10)).stale_if_error(secs(180)),
            Self::IfError => exact.stale_if_error(secs(180)),
            Self::Exact => exact,
        }
    }

    /// What may be done with a response of this age.
    pub fn at(self, age: u64, expired: bool) -> Life {
        let at_once = matches!(self, Self::Plain | Self::Varied);
        match age {
            0..60 if !expired => Life::Fresh,
            0..70 if at_once => Life::Stale,
            0..240 if self != Self::Exact => Life::TooStale,
            _ => Life::Gone,
        }
    }
}

impl By {
    pub fn all() -> impl Iterator<Item = Self> {
        let scopes = Aim::ALL.iter().flat_map(|aim| [Self::Expire(*aim), Self::Purge(*aim)]);
        let others = Post::ALL.iter().copied().map(Self::Unsafe).chain(Via::ALL.iter().copied().map(Self::Put));
        scopes.chain(others)
    }

    fn reach(self) -> Reach {
        match self {
            Self::Expire(aim) | Self::Purge(aim) => aim.reach(),
            Self::Unsafe(post) if post.purges() => Reach::ALL,
            Self::Unsafe(_) | Self::Put(Via::LayerOnOtherPage) => Reach::NONE,
            Self::Put(_) => Reach::ALL,
        }
    }
}

impl Aim {
    /// The page is `/quotes/1?q=1` on `a.example`, of the namespace `acme`. Its responses are tagged `quotes`, with
    /// `former` before the run and with `new` by the run.
    pub fn scope(self, page: &Key, other: &Key) -> Scope {
        let scope = match self {
            Self::Key => Ok(Scope::from(page)),
            Self::Uri => Scope::uri("/quotes/1?q=1"),
            Self::UriOnHost => Scope::uri("http://A.example:80/quotes/1?q=1"),
            Self::Path => Scope::path("/quotes/1"),
            Self::PathOnHost => Scope::path("https://a.example/quotes/1"),
            Self::Prefix => Scope::path_prefix("/quotes"),
            Self::PrefixOnHost => Scope::path_prefix("http://a.example/quotes/"),
            Self::Tag => Ok(Scope::tag("quotes")),
            Self::FormerTag => Ok(Scope::tag("former")),
            Self::NewTag => Ok(Scope::tag("new")),
            Self::Namespace => Ok(Scope::namespace("acme")),
            Self::Everything => Ok(Scope::everything()),
            Self::OtherKey => Ok(Scope::from(other)),
            Self::OtherQuery => Scope::uri("/quotes/1"),
            Self::OtherPath => Scope::path("/quotes/1/"),
            Self::OtherPrefix => Scope::path_prefix("/quote"),
            Self::BelowThePage => Scope::path_prefix("/quotes/1/"),
            Self::UriOnOtherHost => Scope::uri("http://b.example/quotes/1?q=1"),
            Self::PathOnOtherHost => Scope::path("http://b.example/quotes/1"),
            Self::PrefixOnOtherHost => Scope::path_prefix("http://b.example/quotes"),
            Self::OtherTag => Ok(Scope::tag("quote")),
            Self::OtherNamespace => Ok(Scope::namespace("acm")),
        };
        scope.expect("a scope")
    }

    fn reach(self) -> Reach {
        match self {
            Self::Tag => Reach { course: false, ..Reach::ALL },
            Self::FormerTag => Reach { before: true, ..Reach::NONE },
            Self::NewTag => Reach { run: true, ..Reach::NONE },
            Self::Key
            | Self::Uri
            | Self::UriOnHost
            | Self::Path
            | Self::PathOnHost
            | Self::Prefix
            | Self::PrefixOnHost
            | Self::Namespace
            | Self::Everything => Reach::ALL,
            Self::OtherKey
            | Self::OtherQuery
            | Self::OtherPath
            | Self::OtherPrefix
            | Self::BelowThePage
            | Self::UriOnOtherHost
            | Self::PathOnOtherHost
            | Self::PrefixOnOtherHost
            | Self::OtherTag
            | Self::OtherNamespace => Reach::NONE,
        }
    }
}

impl Post {
    /// Where the request goes.
    pub fn target(self) -> (&'static str, &'static str) {
        match self {
            Self::Location | Self::ContentLocation | Self::LocationOnOtherHost => ("a.example", "/quotes"),
            Self::ToOtherQuery => ("a.example", "/quotes/1"),
            Self::ToOtherHost => ("b.example", "/quotes/1?q=1"),
            _ => ("a.example", "/quotes/1?q=1"),
        }
    }

    /// What it is answered.
    pub fn answer(self) -> (StatusCode, Fields) {
        match self {
            Self::ToPageThatRedirects => (StatusCode::SEE_OTHER, &[("location", "/done")]),
            Self::Location => (StatusCode::CREATED, &[("location", "/quotes/1?q=1")]),
            Self::ContentLocation => (StatusCode::OK, &[("content-location", "quotes/1?q=1")]),
            Self::LocationOnOtherHost => (StatusCode::CREATED, &[("location", "http://b.example/quotes/1?q=1")]),
            Self::Refused => (StatusCode::CONFLICT, &[]),
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, &[]),
            _ => (StatusCode::NO_CONTENT, &[]),
        }
    }

    fn purges(self) -> bool {
        match self {
            Self::ToPage
            | Self::ToPageThatRedirects
            | Self::ToPageThroughAnotherLayer
            | Self::Location
            | Self::ContentLocation => true,
            Self::Refused
            | Self::Failed
            | Self::ToOtherQuery
            | Self::ToOtherHost
            | Self::LocationOnOtherHost
            | Self::TurnedOff => false,
        }
    }
}

impl Reach {
    const ALL: Self = Self { before: true, run: true, course: true };
    const NONE: Self = Self { before: false, run: false, course: false };
}

impl Kept {
    pub fn new(text: &'static str, since: u64) -> Self {
        Self { text, since, expired: false }
    }
}
