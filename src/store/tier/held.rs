//! What passes between a cache and its store: what was looked for, what was found, what is to be saved.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Instant,
    entry::{Course, Entry, Fields, Variant, united},
    freshness::{Freshness, Verdict},
    judgement::Judgement,
    store::{BoxFuture, Left, Since},
};

/// What the store says of a run that is to begin, and by what it knows the run again.
pub(crate) struct Begun<V> {
    pub(crate) found: Option<Held<V>>,
    pub(crate) known: Known,
    /// Another instance is at it: ready when that has ended.
    pub(crate) held: Option<BoxFuture<'static, Left>>,
}

/// What the store knows of a run and of its key.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) course: Course,
    pub(crate) since: Since,
    /// When it answered: its own clock is that of the run's beginning.
    pub(crate) at: Instant,
    /// The fields that select among the variants of the key, as far as anybody has saved any.
    pub(crate) fields: Option<Fields>,
}

/// What was looked for, and what the store held.
pub(crate) struct Looked<V> {
    pub(crate) found: Option<Held<V>>,
    pub(crate) course: Course,
    pub(crate) fields: Option<Fields>,
}

/// A response that the store held.
#[derive(Debug)]
pub(crate) struct Held<V> {
    pub(crate) value: V,
    /// Its age counts from now.
    pub(crate) judged: Judgement,
    pub(crate) cost: Duration,
    /// How long ago its run claimed: what reaches it and was invalidated since would have reached it.
    pub(crate) claimed: Duration,
}

/// What is to be done in the store once a run has landed.
pub(crate) enum Afterwards<V> {
    Save(Saving<V>),
    /// What is there is not to be given out any more, unless it came from a later run than the one that is known.
    Forget(Option<Known>),
}

/// A response that is to be saved.
pub(crate) struct Saving<V> {
    pub(crate) entry: Arc<Entry<V>>,
    pub(crate) variant: Option<Variant>,
    /// The fields that select it and its like. The store is told each time: what it knew of them when it was asked may have
    /// been invalidated since, or be over before this is.
    pub(crate) signpost: Option<Fields>,
    pub(crate) known: Known,
}

impl Known {
    /// What is to be saved of this. `variant` gives the values of fields in the request that it answers.
    pub(crate) fn saving<V>(&self, entry: &Arc<Entry<V>>, variant: impl Fn(&Fields) -> Variant) -> Saving<V> {
        let (entry, known) = (Arc::clone(entry), self.clone());
        let fields = united(self.fields.as_ref(), entry.judged.fields.as_ref());
        let variant = fields.as_ref().map(variant);
        Saving { entry, variant, signpost: fields, known }
    }
}

impl<V> Looked<V> {
    /// Whether both were looked for in the same place.
    pub(crate) fn is_for_what(&self, other: &Self) -> bool {
        self.course == other.course
    }
}

impl<V> Held<V> {
    /// The verdict on it at this moment.
    pub(crate) fn verdict(&self) -> Verdict {
        self.judged.freshness.at(self.judged.age)
    }
}

/// What of a judgement is yes or no, as a record keeps it.
pub(crate) struct Flags(pub(crate) u8);

impl Flags {
    pub(crate) fn of(judged: &Judgement) -> Self {
        let all = [judged.failed, judged.explicit, judged.said, judged.on_demand, judged.validate, judged.for_all];
        Self(all.iter().enumerate().map(|(at, flag)| u8::from(*flag) << at).sum())
    }

    pub(crate) fn judgement(&self, freshness: Freshness) -> Judgement {
        let is_set = |at: u8| self.0 >> at & 1 == 1;
        let mut judged = Judgement::storable(freshness);
        (judged.failed, judged.explicit, judged.said) = (is_set(0), is_set(1), is_set(2));
        (judged.on_demand, judged.validate, judged.for_all) = (is_set(3), is_set(4), is_set(5));
        // Its lifetime was jittered when it was first stored.
        judged.drawn = true;
        judged.found = true;
        judged
    }
}
