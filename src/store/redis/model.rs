//! The tokens' protocol in every order of its steps: a reader that begins after an invalidation has returned is never
//! given what was made of the state before it.
//!
//! One command is one step. Those of one pipeline may be for different nodes, and so are in any order. The other files
//! must do things in the order that is written down here: NOTE `save`, `invalidate` and `claim` in `store`, `compare` and
//! `look_for` in `reading`.
//!
//! On one server a reader may go by what another one has found who compared all tokens, as long as the epoch is the same.

use std::collections::HashSet;

use Step::{
    AtOnce, Believe, Delete, Judge, Look, Lose, Observe, Recall, Remember, Save, See, Serve, Stir, Vouch, Write,
};
use What::{Bucket, Epoch, Key, Tag};

/// A token, with the life of the server that it was found in.
type Observed = (u8, u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    Key,
    /// Nobody knows it before the service has answered.
    Tag,
    Bucket,
    /// On one server.
    Epoch,
}

/// One command, or what is done without Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Reads a token into this place, and makes it if it is not there.
    Observe(What, usize),
    /// Reads a token into this place.
    See(What, usize),
    /// The service reads the database.
    Serve,
    /// Puts the record there, if what was seen last is what was seen first.
    Save,
    /// The database is written to.
    Write,
    Delete(What),
    /// Replaces the bucket, if it is there.
    Stir,
    /// A token runs out, or is evicted.
    Lose(What),
    Look,
    /// Gives out what was found, if its proofs are those of what was seen.
    Judge,
    /// Remembers what was found and the epoch, if its proofs are those of what was seen.
    Vouch,
    /// Gives out what was found, if it is what somebody has vouched for in the epoch that was seen.
    Believe,
    /// All of these in one command.
    AtOnce(&'static [Self]),
    /// Redis writes down all that it has …
    Remember,
    /// … and begins another life with it.
    Recall,
}

/// What somebody does: steps in any order, and when these are done the next ones.
type Program = &'static [&'static [Step]];

const RUN: Program = &[
    &[Observe(Key, 0), Observe(Bucket, 1)],
    &[Serve],
    &[Observe(Key, 2), Observe(Tag, 3)],
    &[See(Bucket, 4)],
    &[Save],
];
/// A run of which no tag matters.
const BRIEF_RUN: Program = &[&[Observe(Key, 0)], &[Serve], &[Observe(Key, 2), Observe(Tag, 3)], &[Save]];
const INVALIDATE_THE_KEY: Program = &[&[Write], &[Delete(Key)]];
const INVALIDATE_THE_TAG: Program = &[&[Write], &[Stir], &[Delete(Tag)]];
const INVALIDATE_THE_KEY_OF_ONE_SERVER: Program = &[&[Write], &[AtOnce(&[Delete(Key), Delete(Epoch)])]];
const INVALIDATE_THE_TAG_OF_ONE_SERVER: Program = &[&[Write], &[Stir], &[AtOnce(&[Delete(Tag), Delete(Epoch)])]];
const COMPARE: Program =
    &[&[Observe(Epoch, 5)], &[AtOnce(&[Look, See(Key, 2), See(Epoch, 5)])], &[See(Tag, 3)], &[Vouch]];
const BELIEVE: Program = &[&[AtOnce(&[Look, See(Epoch, 5)])], &[Believe]];
const READ: Program = &[&[Look, See(Key, 2)], &[See(Tag, 3)], &[Judge]];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Redis {
    era: u8,
    tokens: [Option<u8>; 4],
    record: Option<Record>,
}

/// What was made of the database, and the proofs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Record {
    is_new: bool,
    era: u8,
    key: Observed,
    tag: Observed,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Actor {
    phase: usize,
    /// Which steps of the phase are done.
    done: u8,
    seen: [Option<Observed>; 6],
    served: bool,
    found: Option<Record>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    redis: Redis,
    remembered: Option<Redis>,
    /// What somebody has vouched for, and the epoch.
    vouched: Option<(Record, Observed)>,
    /// The last token that was drawn.
    drawn: u8,
    is_written: bool,
    actors: Vec<Actor>,
}

/// Whether eras are a part of proofs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Restarts {
    Noticed,
    Trusted,
}

impl World {
    fn draw(&mut self) -> u8 {
        self.drawn += 1;
        self.drawn
    }

    /// What somebody has found, if its proofs are those of what he has seen.
    fn sound(&self, at: usize) -> Option<&Record> {
        let Actor { seen, found, .. } = &self.actors[at];
        found.as_ref().filter(|record| seen[2] == Some(record.key) && seen[3] == Some(record.tag))
    }

    fn see(&self, what: What) -> Option<Observed> {
        Some((self.redis.era, self.redis.tokens[what as usize]?))
    }

    /// Does a step of one of those that there are: whether something was given out that should not be.
    fn goes_wrong(&mut self, at: usize, step: Step, restarts: Restarts) -> bool {
        match step {
            Observe(what, to) => {
                if self.redis.tokens[what as usize].is_none() {
                    self.redis.tokens[what as usize] = Some(self.draw());
                }
                self.actors[at].seen[to] = self.see(what);
            }
            See(what, to) => self.actors[at].seen[to] = self.see(what),
            Serve => self.actors[at].served = self.is_written,
            Save => {
                let Actor { seen, served, .. } = self.actors[at].clone();
                if seen[0] == seen[2] && seen[1] == seen[4] {
                    let (Some(key), Some(tag)) = (seen[0], seen[3]) else { return false };
                    self.redis.record = Some(Record { is_new: served, era: key.0, key, tag });
                }
            }
            Write => self.is_written = true,
            Delete(what) | Lose(what) => self.redis.tokens[what as usize] = None,
            Stir if self.see(Bucket).is_some() => self.redis.tokens[Bucket as usize] = Some(self.draw()),
            Stir => {}
            Look => {
                let found = self.redis.record.clone();
                self.actors[at].found = found.filter(|record| record.era == self.redis.era);
            }
            Judge => return self.sound(at).is_some_and(|record| !record.is_new),
            Vouch => {
                let vouched = self.sound(at).cloned().zip(self.actors[at].seen[5]);
                self.vouched = vouched.or(self.vouched.take());
            }
            Believe => {
                let Actor { seen, found, .. } = &self.actors[at];
                let believed = self
                    .vouched
                    .as_ref()
                    .filter(|(record, epoch)| found.as_ref() == Some(record) && seen[5] == Some(*epoch));
                return believed.is_some_and(|(record, _)| !record.is_new);
            }
            AtOnce(steps) => return steps.iter().any(|step| self.goes_wrong(at, *step, restarts)),
            Remember => self.remembered = Some(self.redis.clone()),
            Recall => {
                let era = self.redis.era + u8::from(restarts == Restarts::Noticed);
                if let Some(remembered) = &self.remembered {
                    self.redis = Redis { era, ..remembered.clone() };
                }
            }
        }
        false
    }
}

/// Whether all of these, side by side in any order, may end with a reader who is given what he should not be. The first
/// one invalidates; the second one reads, and begins when the first one has returned.
fn can_go_wrong(programs: &[Program], restarts: Restarts) -> bool {
    let redis = Redis { era: 0, tokens: [None; 4], record: None };
    let actors = vec![Actor::default(); programs.len()];
    let mut open = vec![World { redis, remembered: None, vouched: None, drawn: 0, is_written: false, actors }];
    let mut known = HashSet::new();
    while let Some(world) = open.pop() {
        let has_ended = |at: usize| world.actors[at].phase == programs[at].len();
        // What happens once the reader has his answer is of no interest.
        let able = (0..programs.len()).filter(|at| !has_ended(1) && !has_ended(*at) && (*at != 1 || has_ended(0)));
        for at in able {
            let Actor { phase, done, .. } = world.actors[at];
            let steps = programs[at][phase];
            for (number, step) in steps.iter().enumerate().filter(|(number, _)| done >> number & 1 == 0) {
                let mut next = world.clone();
                let actor = &mut next.actors[at];
                actor.done |= 1 << number;
                if usize::try_from(actor.done.count_ones()) == Ok(steps.len()) {
                    (actor.phase, actor.done) = (phase + 1, 0);
                }
                if next.goes_wrong(at, *step, restarts) {
                    return true;
                }
                if known.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
    }
    false
}

fn holds(programs: &[Program]) {
    assert!(!can_go_wrong(programs, Restarts::Noticed));
}

fn fails(programs: &[Program]) {
    assert!(can_go_wrong(programs, Restarts::Noticed));
}

#[test] // P31, P71
fn an_invalidation_wins_over_runs_that_began_before_it_in_every_order() {
    for invalidate in [INVALIDATE_THE_KEY, INVALIDATE_THE_TAG] {
        holds(&[invalidate, READ, RUN, RUN]);
    }
}

#[test] // P71
fn so_it_does_whatever_is_lost_and_when() {
    const LOSSES: [Program; 3] = [&[&[Lose(Key)]], &[&[Lose(Tag)]], &[&[Lose(Bucket)]]];
    for invalidate in [INVALIDATE_THE_KEY, INVALIDATE_THE_TAG] {
        for lose in LOSSES {
            holds(&[invalidate, READ, RUN, lose]);
        }
    }
}

#[test] // P71
fn so_it_does_when_redis_comes_back_with_what_it_had() {
    const RESTART: Program = &[&[Remember], &[Recall]];
    for invalidate in [INVALIDATE_THE_KEY, INVALIDATE_THE_TAG] {
        holds(&[invalidate, READ, RUN, RESTART]);
        assert!(can_go_wrong(&[invalidate, READ, RUN, RESTART], Restarts::Trusted), "or eras were of no use");
    }
}

#[test] // P31, P71
fn so_it_does_over_readers_who_go_by_what_was_compared_in_the_same_epoch() {
    for invalidate in [INVALIDATE_THE_KEY_OF_ONE_SERVER, INVALIDATE_THE_TAG_OF_ONE_SERVER] {
        holds(&[invalidate, BELIEVE, RUN, COMPARE, &[&[Lose(Epoch)]]]);
    }
    const RESTART: Program = &[&[Remember], &[Recall]];
    for beside in [INVALIDATE_THE_KEY_OF_ONE_SERVER, RESTART] {
        holds(&[INVALIDATE_THE_KEY_OF_ONE_SERVER, BELIEVE, BRIEF_RUN, COMPARE, beside]);
    }
}

#[test] // P31, P71
fn an_epoch_ends_with_its_tokens_or_after_them_and_is_seen_with_them_or_before() {
    holds(&[&[&[Write], &[Delete(Key)], &[Delete(Epoch)]], BELIEVE, BRIEF_RUN, COMPARE]);
    fails(&[&[&[Write], &[Delete(Epoch)], &[Delete(Key)]], BELIEVE, BRIEF_RUN, COMPARE]);
    fails(&[&[&[Write], &[Stir], &[Delete(Epoch)], &[Delete(Tag)]], BELIEVE, RUN, COMPARE]);
    fails(&[INVALIDATE_THE_KEY, BELIEVE, BRIEF_RUN, COMPARE]);
    fails(&[INVALIDATE_THE_TAG, BELIEVE, RUN, COMPARE]);
    // The tokens before the epoch.
    const HASTY: Program = &[&[Look, See(Key, 2)], &[See(Tag, 3)], &[Observe(Epoch, 5)], &[Vouch]];
    fails(&[INVALIDATE_THE_KEY_OF_ONE_SERVER, BELIEVE, BRIEF_RUN, HASTY]);
    fails(&[INVALIDATE_THE_TAG_OF_ONE_SERVER, BELIEVE, RUN, HASTY]);
}

#[test] // P31, P71
fn no_step_may_be_left_out_or_change_its_place() {
    // The tag's token before its bucket.
    fails(&[&[&[Write], &[Delete(Tag)], &[Stir]], READ, RUN]);
    fails(&[&[&[Write], &[Delete(Tag)]], READ, RUN]);
    // The database after its tokens.
    fails(&[&[&[Delete(Key)], &[Write]], READ, RUN]);
    // The buckets before the tag's token.
    const HASTY: Program = &[
        &[Observe(Key, 0), Observe(Bucket, 1)],
        &[Serve],
        &[Observe(Key, 2), See(Bucket, 4)],
        &[Observe(Tag, 3)],
        &[Save],
    ];
    fails(&[INVALIDATE_THE_TAG, READ, HASTY]);
    // The service before the claim.
    const EAGER: Program = &[
        &[Serve],
        &[Observe(Key, 0), Observe(Bucket, 1)],
        &[Observe(Key, 2), Observe(Tag, 3)],
        &[See(Bucket, 4)],
        &[Save],
    ];
    fails(&[INVALIDATE_THE_KEY, READ, EAGER]);
    // The buckets at the end alone.
    const BLIND: Program = &[&[Observe(Key, 0)], &[Serve], &[Observe(Key, 2), Observe(Tag, 3)], &[Save]];
    fails(&[INVALIDATE_THE_TAG, READ, BLIND]);
}
