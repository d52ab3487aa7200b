//! The record of what happened, and questions to it.
//!
//! What is *certain* is so whichever way the engine took; what *may* be is so on one of them.

use std::{ops::Range, time::Duration};

use super::{Answer, End, FILL, Force, Front, LIFETIME, MARK, REFRESH, Reach, Rules, TICK, language};
use crate::support::typed::secs;

/// The record of what happened.
#[derive(Debug)]
pub struct Model {
    pub(super) rules: Rules,
    pub(super) asks: Vec<Ask>,
    pub(super) runs: Vec<Run>,
    pub(super) invalidations: Vec<Invalidation>,
    pub(super) now: Moment,
    /// When it was calm for the last time.
    pub(super) calm: Moment,
    pub(super) refreshes_dropped: u64,
}

/// Which event, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moment {
    pub(super) nr: u64,
    pub(super) at: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Ask {
    pub(super) nr: usize,
    pub(super) client: usize,
    pub(super) key: usize,
    pub(super) forced: bool,
    pub(super) asked: Moment,
    pub(super) polled: Option<Moment>,
    pub(super) answered: bool,
    pub(super) left: bool,
    /// The run that it must be answered with at once.
    pub(super) must: Option<usize>,
    /// The run that is better than a failure.
    pub(super) fallback: Option<usize>,
    /// The run that it waits for.
    pub(super) follows: Option<usize>,
    /// The run that it was answered with at once though it was stale: somebody has to refresh it.
    pub(super) to_refresh: Option<usize>,
    /// How many refreshes had been dropped when it came.
    pub(super) dropped: u64,
}

#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) nr: usize,
    /// Whose request it answers; nobody's if it was put.
    pub(super) ask: Option<usize>,
    pub(super) client: usize,
    pub(super) key: usize,
    pub(super) background: bool,
    pub(super) started: Moment,
    /// The calm before its start: not earlier did the engine decide to run.
    pub(super) since: u64,
    pub(super) answer: Option<Answer>,
    pub(super) head: Option<Moment>,
    /// What became of its body, if that came later.
    pub(super) end: Option<End>,
    /// When it was let land, and as what. The engine took note by `settled`.
    pub(super) landed: Option<(Moment, Landing)>,
    pub(super) settled: Option<u64>,
    /// Nothing else can have landed it.
    pub(super) sure: bool,
    /// The run whose response was certainly stored when it started.
    pub(super) replaces: Option<usize>,
    /// Nothing was stored when it started.
    pub(super) cold: bool,
    /// The response of a newer run was certainly stored when it landed: it knew no better.
    pub(super) outdone: bool,
    /// It may be one that nobody can join.
    pub(super) alone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// For everybody, now and later.
    Stored,
    /// For those who wait.
    Shared,
    /// For the one who leads.
    Personal,
    Failed,
    Panicked,
    Dropped,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Invalidation {
    pub(super) nr: u64,
    pub(super) force: Force,
    pub(super) reach: Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fresh,
    Stale,
    TooStale,
    Gone,
}

/// The first pause after a failed run, and the longest.
const FIRST_PAUSE: Duration = secs(1);
const LAST_PAUSE: Duration = secs(60);

/// From now on.
pub(super) const EVER: u64 = u64::MAX;

impl Model {
    pub fn new(rules: Rules) -> Self {
        let (asks, runs, invalidations, now) = (vec![], vec![], vec![], Moment { nr: 0, at: Duration::ZERO });
        Self { rules, asks, runs, invalidations, now, calm: now, refreshes_dropped: 0 }
    }

    /// Runs that were called and did not answer yet.
    pub fn unanswered(&self) -> Vec<usize> {
        self.runs.iter().filter(|run| run.head.is_none() && run.is_under_way()).map(|run| run.nr).collect()
    }

    /// When a run started, counted from the last one.
    pub fn start_of_last(&self, run: usize) -> Option<Duration> {
        let run = run.checked_rem(self.runs.len())?;
        Some(self.runs[self.runs.len() - 1 - run].started.at)
    }

    // ---- what is taken down ----

    pub(super) fn note_answer(&mut self, run: usize, with: Answer, later: bool) {
        let now = self.now;
        (self.runs[run].head, self.runs[run].answer) = (Some(now), Some(with));
        if !later || matches!(with, Answer::Personal | Answer::Fail | Answer::Panic) {
            self.land(run, with.lands_as());
        }
    }

    pub(super) fn note_end(&mut self, run: usize, end: End) {
        let now = self.now;
        let ended = &mut self.runs[run];
        ended.end = Some(end);
        if let (Some(answer), None) = (ended.answer, ended.landed) {
            ended.sure = !ended.may_have_landed_early(now.at);
            self.land(run, if end == End::Broken { Landing::Failed } else { answer.lands_as() });
        }
    }

    fn land(&mut self, run: usize, landing: Landing) {
        let Run { key, started, .. } = self.runs[run];
        let newer = |client| self.kept(key, client).is_some_and(|kept| kept.since > started.nr);
        self.runs[run].outdone = newer(0) || newer(1);
        self.runs[run].landed = Some((self.now, landing));
    }

    /// P53: a body that is not complete in time is its reader's.
    pub(super) fn note_slow_bodies(&mut self) {
        let now = self.now;
        for run in self.runs.iter_mut().filter(|run| run.is_under_way()) {
            if let Some(head) = run.head.filter(|head| now.at >= head.at + FILL + TICK) {
                run.landed = Some((Moment { nr: now.nr, at: head.at + FILL }, Landing::Personal));
                run.sure = false;
            }
        }
    }

    /// The engine has taken note of all that was let happen.
    pub(super) fn note_calm(&mut self) {
        let now = self.now;
        for run in self.runs.iter_mut().filter(|run| run.landed.is_some() && run.settled.is_none()) {
            run.settled = Some(now.nr);
        }
        self.calm = now;
    }

    // ---- what is stored ----

    /// The runs of a key.
    pub(super) fn of(&self, key: usize) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.key == key)
    }

    /// What is certainly stored for a request: of the newest run that suits it, if nothing can have kept that out, or
    /// taken it away since.
    pub(super) fn kept(&self, key: usize, client: usize) -> Option<&Run> {
        let stored = self.of(key).filter(|run| run.has_landed_as(Landing::Stored) && run.suits(client));
        let kept = stored.max_by_key(|run| run.started.nr)?;
        let (landed, settled) = (kept.landed?.0, kept.settled?);
        let after = |other: &Run| other.landed.is_none_or(|(at, _)| at.nr > landed.nr);
        let taken_away = self.of(key).any(|other| other.may_take_away(self.now.at) && after(other));
        let purged = self.is_reached(kept, settled..EVER, Some(Force::Purge));
        (self.is_unhindered(kept, settled) && !taken_away && !purged).then_some(kept)
    }

    /// Whether the run's response was certainly stored when it landed.
    pub(super) fn is_admitted(&self, run: &Run) -> bool {
        let (Some((landed, Landing::Stored)), Some(settled)) = (run.landed, run.settled) else { return false };
        let gone = landed.at >= run.started.at + LIFETIME + self.windows();
        !gone && self.is_unhindered(run, settled)
    }

    /// Whether no invalidation and no newer run can have kept it from being stored.
    fn is_unhindered(&self, run: &Run, settled: u64) -> bool {
        let newer = |other: &Run| other.nr != run.nr && other.started.nr > run.since;
        let beaten = |other: &Run| {
            let excluded = other.ask.is_none() || other.excludes(run);
            let stored = other.has_landed_as(Landing::Stored) && excluded;
            newer(other) && (stored || other.may_take_away(self.now.at))
        };
        run.sure && !self.is_reached(run, run.since..settled + 1, None) && !self.of(run.key).any(beaten)
    }

    /// What may be done with a response at a moment.
    pub(super) fn verdict(&self, run: &Run, when: Moment) -> Verdict {
        let landed = run.landed.map_or(EVER, |(landed, _)| landed.nr);
        let age = when.at.saturating_sub(run.started.at);
        // P34: stale from now on, and not a moment longer than before.
        let expired = self.is_reached(run, landed..when.nr + 1, Some(Force::Expire));
        match if expired { age.max(LIFETIME) } else { age } {
            age if age < LIFETIME => Verdict::Fresh,
            age if age < LIFETIME + secs(self.rules.stale) => Verdict::Stale,
            age if age < LIFETIME + self.windows() => Verdict::TooStale,
            _ => Verdict::Gone,
        }
    }

    fn windows(&self) -> Duration {
        secs(self.rules.stale.max(self.rules.error))
    }

    // ---- what was invalidated ----

    /// Whether an invalidation of this kind, or of any, reaches the run's response.
    pub(super) fn is_reached(&self, run: &Run, when: Range<u64>, force: Option<Force>) -> bool {
        let tagged = |tag| matches!(run.answer, Some(Answer::Store(own) | Answer::Vary(own)) if own == tag);
        self.invalidations.iter().filter(|i| when.contains(&i.nr)).any(|invalidation| {
            let by_tag =
                matches!(invalidation.reach, Reach::Tag(tag) if tagged(tag) && self.rules.front == Front::Http);
            let reaches = by_tag || self.reaches_key(invalidation.reach, run.key);
            reaches && force.is_none_or(|force| force == invalidation.force)
        })
    }

    /// Whether an invalidation lets nobody join the run any more. What a tag reaches is not known before it landed.
    pub(super) fn is_detached(&self, run: &Run, when: Range<u64>) -> bool {
        let mut then = self.invalidations.iter().filter(|i| when.contains(&i.nr));
        then.any(|invalidation| self.reaches_key(invalidation.reach, run.key))
    }

    /// P25, P33: whether something was put since the run's start, or a later run may have taken away what was stored: the
    /// run counts for nothing any more.
    pub(super) fn is_overtaken(&self, run: &Run) -> bool {
        self.of(run.key).any(|other| {
            let later = other.nr != run.nr && other.started.nr > run.since;
            later && (other.ask.is_none() || other.may_take_away(self.now.at))
        })
    }

    fn reaches_key(&self, reach: Reach, key: usize) -> bool {
        match reach {
            Reach::Key(named) | Reach::Path(named) => named == key,
            Reach::Below(parent) => key / 2 == parent,
            Reach::Namespace(own) => own && self.rules.front == Front::Http,
            Reach::Everything => true,
            Reach::Tag(_) => false,
        }
    }

    // ---- who runs beside whom ----

    /// Whether a new run for this client may start while this one is under way, though neither is alone.
    pub(super) fn may_run_beside(&self, other: &Run, client: usize) -> bool {
        // By variants, as soon as it is known that there are some. What was not stored taught those alone who waited for
        // it, and a purge may have let the others forget.
        let told_apart = |run: &Run| {
            let Some((landed, _)) = run.landed.filter(|_| matches!(run.answer, Some(Answer::Vary(_)))) else {
                return false;
            };
            landed.nr > other.since
                || language(other.client) != language(client)
                || !self.is_admitted(run)
                || self.is_reached(run, run.since..EVER, Some(Force::Purge))
        };
        other.alone
            || self.is_detached(other, other.since..EVER)
            || self.is_overtaken(other)
            || self.now.at - other.started.at >= super::WAIT
            || self.of(other.key).any(told_apart)
    }

    /// P15: whether the key's responses could not be shared lately, so that requests need not wait for one another.
    pub(super) fn may_be_marked(&self, key: usize) -> bool {
        let mut marks = self.of(key).filter(|run| run.may_be_personal(self.now.at) && !run.outdone);
        marks.any(|mark| {
            let landed = mark.landed.map_or(self.now, |(landed, _)| landed);
            let lifts = |run: &Run| run.landed.is_some_and(|(at, _)| mark.settled.is_some_and(|mark| at.nr > mark));
            let admitted = |run: &Run| self.is_admitted(run) && run.settled <= Some(self.calm.nr);
            let lifted = self.of(key).any(|run| lifts(run) && admitted(run));
            self.now.at < landed.at + MARK + TICK && !lifted
        })
    }

    /// P15: whether they certainly could not, and nothing was stored since, nor forgotten.
    pub(super) fn is_marked(&self, key: usize, when: Moment) -> bool {
        self.of(key).any(|mark| {
            let Some((landed, Landing::Personal)) = mark.landed.filter(|_| mark.sure) else { return false };
            let stored = |run: &Run| run.landed.is_some_and(|(at, how)| how == Landing::Stored && at.nr > mark.since);
            let lifted = self.of(key).any(stored);
            let lately = mark.settled.is_some_and(|settled| settled < when.nr) && when.at < landed.at + MARK;
            lately && !lifted && !self.is_detached(mark, mark.since..EVER)
        })
    }

    /// P12, P15, P16: whether a run that the request may have waited for let it go on by itself.
    pub(super) fn may_be_released(&self, ask: &Ask) -> bool {
        let awaited = || self.of(ask.key).filter(|run| run.may_be_awaited_by(ask));
        awaited().any(|run| run.may_be_personal(self.now.at) || run.has_landed_as(Landing::Failed))
            || awaited().filter(|run| run.has_landed_as(Landing::Panicked)).count() > 1
    }

    // ---- what failed ----

    /// P22: whether the key is certainly put off. The pause doubles with every failure to replace what is kept, and up to
    /// half of it is left out.
    pub(super) fn backs_off(&self, kept: &Run) -> bool {
        let Some((stored, _)) = kept.landed else { return false };
        let mut failures: Vec<_> = self.of(kept.key).filter(|run| run.has_failed()).collect();
        failures.retain(|run| run.settled.is_none_or(|settled| settled > stored.nr));
        let after = |run: &Run| run.nr != kept.nr && run.landed.is_some_and(|(landed, _)| landed.nr > stored.nr);
        if self.of(kept.key).any(|run| run.has_landed_as(Landing::Stored) && after(run)) {
            return false;
        }
        let mut pause = FIRST_PAUSE;
        let (mut from, mut until) = (Duration::ZERO, Duration::ZERO);
        for failure in failures {
            let Some((landed, how)) = failure.landed else { return false };
            // The next one counts if it comes after the pause.
            let counts = landed.nr > kept.settled.unwrap_or(EVER) && landed.at >= from;
            let certain = failure.replaces == Some(kept.nr) && failure.sure && failure.settled.is_some();
            if !counts || !certain || how == Landing::Dropped {
                return false;
            }
            (from, until) = (landed.at + pause, landed.at + pause / 2);
            pause = (2 * pause).min(LAST_PAUSE);
        }
        self.now.at < until
    }

    /// P22: whether the key may be put off: the pause doubles with every failure since something was stored.
    pub(super) fn may_back_off(&self, key: usize, when: Moment) -> bool {
        // What fails in the middle of a body shows to nobody.
        let hidden = |run: &Run| {
            run.answer == Some(Answer::Unavailable) && run.is_under_way()
                || run.head.is_some_and(|head| head.at + FILL >= run.started.at + REFRESH)
        };
        let mut landings: Vec<_> = self.of(key).filter_map(|run| Some((run.landed?.0, run))).collect();
        landings.sort_by_key(|(landed, _)| landed.nr);
        let varies = self.of(key).any(|run| matches!(run.answer, Some(Answer::Vary(_))));
        let (mut failures, mut until) = (0, Duration::ZERO);
        for (landed, run) in landings {
            if run.has_failed() && !run.cold && (!run.outdone || varies) {
                until = until.max(landed.at + LAST_PAUSE.min(FIRST_PAUSE * (1 << failures.min(6))));
                failures += 1;
            } else if self.is_admitted(run) && run.settled <= Some(when.nr) {
                (failures, until) = (0, Duration::ZERO);
            }
        }
        when.at < until || self.of(key).any(hidden)
    }

    /// Whether a run that the request may have waited for failed.
    pub(super) fn may_have_failed(&self, ask: &Ask) -> bool {
        self.of(ask.key).any(|run| run.has_failed() && run.may_be_awaited_by(ask))
    }
}

impl Ask {
    pub(super) fn is_over(&self) -> bool {
        self.answered || self.left
    }
}

impl Run {
    pub(super) fn is_under_way(&self) -> bool {
        self.landed.is_none()
    }

    pub(super) fn has_landed_as(&self, landing: Landing) -> bool {
        self.landed.is_some_and(|(_, how)| how == landing)
    }

    pub(super) fn has_failed(&self) -> bool {
        let failure = |how| matches!(how, Landing::Failed | Landing::Panicked | Landing::Dropped);
        self.landed.is_some_and(|(_, how)| failure(how) || self.answer == Some(Answer::Unavailable))
    }

    /// Whether it may have landed before its body ended: a timer may have rung, or nobody but its reader wanted it.
    pub(super) fn may_have_landed_early(&self, now: Duration) -> bool {
        let to_store = matches!(self.answer, Some(Answer::Store(_) | Answer::Vary(_)));
        self.head.is_some_and(|head| !to_store || now >= head.at + FILL || now >= self.started.at + REFRESH)
    }

    pub(super) fn may_be_personal(&self, now: Duration) -> bool {
        let early = self.is_under_way() && self.may_have_landed_early(now);
        self.has_landed_as(Landing::Personal) || !self.sure || early
    }

    /// Whether it may have put nothing in the place of what was stored.
    pub(super) fn may_take_away(&self, now: Duration) -> bool {
        let answered = self.answer != Some(Answer::Unavailable);
        answered && (self.may_be_personal(now) || self.has_landed_as(Landing::Shared))
    }

    /// Whether it certainly did, before this moment.
    pub(super) fn took_away(&self, before: u64) -> bool {
        let answered = self.answer != Some(Answer::Unavailable);
        let unstored = self.has_landed_as(Landing::Shared) || self.has_landed_as(Landing::Personal);
        self.sure && unstored && answered && self.settled.is_some_and(|settled| settled <= before)
    }

    /// Whether it landed after the request came, as far as the record can tell.
    pub(super) fn may_be_awaited_by(&self, ask: &Ask) -> bool {
        self.settled.is_none_or(|settled| settled > ask.asked.nr)
    }

    /// Whether the response is one for this client (RFC 9111 §4.1).
    pub(super) fn suits(&self, client: usize) -> bool {
        !matches!(self.answer, Some(Answer::Vary(_))) || language(self.client) == language(client)
    }

    /// Whether only one of the two can be stored.
    fn excludes(&self, other: &Self) -> bool {
        self.suits(other.client) || other.suits(self.client)
    }
}

impl Answer {
    /// What it lands as when all of it is there.
    fn lands_as(self) -> Landing {
        match self {
            Self::Store(_) | Self::Vary(_) => Landing::Stored,
            Self::NotFound | Self::Unavailable => Landing::Shared,
            Self::Personal | Self::TooLarge => Landing::Personal,
            Self::Fail => Landing::Failed,
            Self::Panic => Landing::Panicked,
        }
    }
}
