//! The verdict on a response, as a protocol gives it and the engine keeps to it.

use std::time::Duration;

use crate::{entry::Fields, freshness::Freshness, status::Detail, tags::Tags};

/// What may be done with a response, by its head.
#[derive(Clone, Debug)]
pub struct Judgement {
    pub(crate) class: Class,
    /// The service could not do its work: what is stored is better than this.
    pub(crate) failed: bool,
    pub(crate) freshness: Freshness,
    /// How old the response was when it came.
    pub(crate) age: Duration,
    /// Whether the response itself granted its freshness, so that caches further down know of it too.
    pub(crate) explicit: bool,
    /// Whether the service stated the freshness beside the response's fields.
    pub(crate) said: bool,
    /// Whether one who says that it may be stale gets it for as long as it is kept.
    pub(crate) on_demand: bool,
    pub(crate) tags: Tags,
    pub(crate) fields: Option<Fields>,
    /// What of the response is not stored with it, since it says so.
    pub(crate) withheld: Option<Fields>,
    /// Whether each reader has to have it validated for himself.
    pub(crate) validate: bool,
    /// Those who wait for it may have it only where it could be reused.
    pub(crate) by_the_letter: bool,
    /// Whether it may be stored whoever asked for it, by its own word.
    pub(crate) for_all: bool,
    /// Its lifetime was jittered already.
    pub(crate) drawn: bool,
    /// It was found in the shared store: whoever asks for a new response has not got one by that.
    pub(crate) found: bool,
    /// Whether it fails, if it does, after its head: where something is stored to fall back on, nobody gets it before all
    /// of it is there.
    pub(crate) hold: bool,
    /// Why it is not stored.
    pub(crate) detail: Option<Detail>,
}

/// Who may have a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Everybody, now and later.
    Storable,
    /// Those who wait for it; it is not kept.
    Shareable,
    /// The one whose request it answers. With a mark, the requests that follow do not wait for one another for a while.
    Personal { mark: bool },
}

impl Judgement {
    pub(crate) fn storable(freshness: Freshness) -> Self {
        Self {
            class: Class::Storable,
            failed: false,
            freshness,
            age: Duration::ZERO,
            explicit: false,
            said: false,
            on_demand: false,
            tags: Tags::default(),
            fields: None,
            withheld: None,
            validate: false,
            by_the_letter: false,
            for_all: false,
            drawn: false,
            found: false,
            hold: false,
            detail: None,
        }
    }

    pub(crate) fn refuse(&mut self, class: Class, detail: Detail) {
        self.class = class;
        self.detail = Some(detail);
    }
}
