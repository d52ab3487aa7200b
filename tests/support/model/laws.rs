//! The laws: what has to be true of each event, by what happened before it.

use std::time::Duration;

use super::{
    Answer, End, Event, Force, PLENTY, REFRESH, TICK, WAIT,
    record::{Ask, EVER, Invalidation, Landing, Model, Moment, Run, Verdict},
};
use crate::support::typed::secs;

type Law = Result<(), String>;

macro_rules! law {
    ($holds:expr, $($broken:tt)+) => {
        if !$holds {
            return Err(format!($($broken)+));
        }
    };
}

impl Model {
    /// Takes down what happened, or says which law it breaks.
    pub fn take(&mut self, at: Duration, event: Event) -> Law {
        self.now = Moment { nr: self.now.nr + 1, at };
        self.note_slow_bodies();
        match event {
            Event::Asked { client, key, forced } => self.asked(client, key, forced),
            Event::Polled { ask } => return self.polled(ask),
            Event::Got { ask, run, stale } => {
                self.asks[ask].answered = true;
                self.may_get(&self.asks[ask], &self.runs[run])?;
                return self.says_what_it_is(ask, run, stale);
            }
            Event::Read { ask, run, end } => return self.read(ask, &self.runs[run], end),
            Event::Erred { ask, run } => {
                self.asks[ask].answered = true;
                return self.may_err(&self.asks[ask], &self.runs[run]);
            }
            Event::Panicked { ask } => {
                self.asks[ask].answered = true;
                return self.may_panic(&self.asks[ask]);
            }
            Event::Left { ask } => self.asks[ask].left = true,
            Event::Started { ask, background } => return self.started(ask, background),
            Event::Answered { run, with, later } => self.note_answer(run, with, later),
            Event::Ended { run, end } => self.note_end(run, end),
            Event::Dropped { run } => return self.dropped(run),
            Event::Putting { client, key, with } => self.putting(client, key, with),
            Event::Put { run } => {
                self.runs[run].landed = Some((self.now, Landing::Stored));
                self.runs[run].settled = Some(self.now.nr);
            }
            Event::Invalidated { force, reach } => {
                self.invalidations.push(Invalidation { nr: self.now.nr, force, reach });
            }
            Event::Calm { refreshes_dropped } => return self.calm(refreshes_dropped),
        }
        Ok(())
    }

    // ---- readers ----

    fn asked(&mut self, client: usize, key: usize, forced: bool) {
        let (nr, asked) = (self.asks.len(), self.now);
        // P26: whoever asks for a new response gets none that was there before.
        let kept = self.kept(key, client).filter(|_| !forced);
        let fallback = kept.filter(|kept| self.verdict(kept, asked) != Verdict::Gone);
        let must = fallback.filter(|kept| self.verdict(kept, asked) != Verdict::TooStale || self.backs_off(kept));
        let (must, fallback) = (must.map(|must| must.nr), fallback.map(|fallback| fallback.nr));
        let dropped = self.refreshes_dropped;
        let ask = Ask { nr, client, key, forced, asked, must, fallback, dropped, ..Ask::default() };
        self.asks.push(ask);
    }

    /// P3, P5, P6: what may be served at once is served at once, before anything else is done.
    fn polled(&mut self, ask: usize) -> Law {
        let Ask { answered, must, .. } = self.asks[ask];
        self.asks[ask].polled = Some(self.now);
        law!(answered || must.is_none(), "request {ask} waits though run {must:?} may answer it at once");
        Ok(())
    }

    /// Whether a request may be answered with the response of a run.
    fn may_get(&self, ask: &Ask, run: &Run) -> Law {
        let (a, r) = (ask.nr, run.nr);
        law!(ask.must.is_none_or(|must| must == r), "request {a} is answered by run {r} in place of {:?}", ask.must);
        law!(run.key == ask.key && run.suits(ask.client), "run {r} is of another key or variant than request {a}"); // P44
        if run.answer == Some(Answer::Unavailable) {
            self.has_nothing_better(ask)?;
        }
        if run.ask == Some(a) {
            law!(run.head.is_some(), "request {a} is answered by run {r} before that one answered");
            return Ok(());
        }
        let after = run.started.nr > ask.asked.nr;
        law!(!ask.forced || after, "request {a} asked for a new response and gets run {r}"); // P26
        let waited = run.may_be_awaited_by(ask);
        let landed = match run.landed {
            Some((landed, Landing::Stored)) => landed,
            Some((landed, Landing::Shared)) if waited => landed,
            how => return Err(format!("run {r} is not for request {a}: {how:?}")), // P15
        };
        // P30, P31, P34: what was invalidated before the request came is not for it.
        let purged = self.is_reached(run, run.started.nr..ask.asked.nr, Some(Force::Purge));
        law!(!purged, "run {r} was purged before request {a}");
        let until = if waited { ask.asked.nr } else { landed.nr };
        let voided = self.is_reached(run, run.started.nr..until, None);
        law!(!voided, "run {r} was invalidated before it landed, and is kept");
        // P33: nothing older lands after what was put, whatever became of that.
        let since = |put: &&Run| put.ask.is_none() && put.since > run.started.nr;
        let before = |put: &&Run| put.settled.is_some_and(|put| put < landed.nr && put < ask.asked.nr);
        let put = self.of(ask.key).filter(since).find(before);
        law!(put.is_none(), "run {r} is older than what was put as {:?}", put.map(|put| put.nr));
        // P23: what another run took away is gone.
        let took_away = |other: &&Run| other.replaces == Some(r) && other.took_away(ask.asked.nr);
        let counts = |other: &Run| !self.is_reached(other, other.since..EVER, None) && !self.is_overtaken(other);
        let gone = self.runs.iter().filter(took_away).any(counts);
        law!(!gone, "run {r} was taken away before request {a}");
        if waited && landed.at == self.now.at {
            return Ok(()); // P1: born stale or not, it is for those who wait.
        }
        // P25, P33: what is stored never goes back to an older run.
        let looked = if ask.polled.is_some() { self.now } else { ask.asked };
        let then = |kept: &&Run| kept.settled.is_some_and(|settled| settled < looked.nr);
        let newer = self.kept(ask.key, ask.client).filter(then).filter(|kept| kept.since > run.started.nr);
        let newer = newer.filter(|kept| self.verdict(kept, looked) != Verdict::Gone);
        law!(newer.is_none(), "request {a} gets run {r} after run {:?} was stored", newer.map(|newer| newer.nr));
        // P1, P2, P4, P6
        let patient = self.now.at - ask.asked.at >= self.rules.soft.map_or(WAIT, secs).min(WAIT);
        let stands_in = patient || self.may_have_failed(ask) || self.may_back_off(ask.key, ask.asked);
        match self.verdict(run, looked) {
            Verdict::Fresh | Verdict::Stale => Ok(()),
            Verdict::TooStale if stands_in => Ok(()),
            verdict => Err(format!("request {a} gets run {r}, which is {verdict:?}")),
        }
    }

    /// P49: what is stale is said to be, and has to be refreshed.
    fn says_what_it_is(&mut self, ask: usize, run: usize, stale: Option<bool>) -> Law {
        let (a, r) = (&self.asks[ask], &self.runs[run]);
        if r.ask == Some(ask) || a.polled.is_some() || r.may_be_awaited_by(a) {
            return Ok(());
        }
        let verdict = self.verdict(r, a.asked);
        let so = stale.is_none_or(|stale| stale == (verdict != Verdict::Fresh));
        law!(so, "request {ask} is told of run {run}, which is {verdict:?}, that it is stale: {stale:?}");
        self.asks[ask].to_refresh = (verdict == Verdict::Stale).then_some(run);
        Ok(())
    }

    /// P11, P53: nobody but the one who leads reads a body that breaks.
    fn read(&self, ask: usize, run: &Run, end: End) -> Law {
        let own = run.ask == Some(ask) && run.end == Some(End::Broken);
        law!(end == End::Whole || own, "request {ask} reads of run {} what is not whole", run.nr);
        Ok(())
    }

    /// P16: an error is for the one who leads, and for those who wait if it can be shared.
    fn may_err(&self, ask: &Ask, run: &Run) -> Law {
        let new = !ask.forced || run.started.nr > ask.asked.nr;
        let shared = self.rules.share_errors && run.key == ask.key && run.may_be_awaited_by(ask) && new;
        let own = run.ask == Some(ask.nr);
        let right = run.answer == Some(Answer::Fail) && (own || shared) && ask.must.is_none();
        law!(right, "request {} gets the error of run {}", ask.nr, run.nr);
        self.has_nothing_better(ask)
    }

    /// P12: the one who leads sees the panic of its run.
    fn may_panic(&self, ask: &Ask) -> Law {
        let own = self.runs.iter().any(|run| run.ask == Some(ask.nr) && run.answer == Some(Answer::Panic));
        law!(own && ask.must.is_none(), "request {} panics", ask.nr);
        Ok(())
    }

    /// P6: a failure is for nobody who could have a stale response.
    fn has_nothing_better(&self, ask: &Ask) -> Law {
        let better = self.better_than_nothing(ask);
        law!(better.is_none(), "request {} gets a failure though there is run {:?}", ask.nr, better.map(|run| run.nr));
        Ok(())
    }

    /// What there was when the request came, and may stand in still.
    fn better_than_nothing(&self, ask: &Ask) -> Option<&Run> {
        let kept = self.kept(ask.key, ask.client).filter(|kept| ask.fallback == Some(kept.nr))?;
        (self.verdict(kept, self.now) != Verdict::Gone).then_some(kept)
    }

    // ---- runs ----

    fn started(&mut self, ask: usize, background: bool) -> Law {
        let nr = self.runs.len();
        let asked = &self.asks[ask];
        let Ask { client, key, forced, .. } = *asked;
        let background = background || asked.answered || asked.must.is_some();
        let alone = self.may_be_marked(key) || self.may_be_released(asked);
        let kept = self.kept(key, client).filter(|kept| self.verdict(kept, self.now) != Verdict::Gone);
        let kept = kept.filter(|kept| kept.settled <= Some(self.calm.nr));
        if let Some(kept) = kept.filter(|_| !forced) {
            // P3, P8, P10
            let again = self.runs.iter().any(|run| run.background && run.replaces == Some(kept.nr));
            let early = self.rules.early_refresh && background && !again;
            let due = early || self.verdict(kept, self.now) != Verdict::Fresh;
            law!(due, "run {nr} for request {ask} starts though run {} is stored and fresh", kept.nr);
            law!(!self.backs_off(kept), "run {nr} for request {ask} starts though the key backs off"); // P22
        }
        // P10, P13, P30
        let beside = |other: &&Run| other.is_under_way() && !self.may_run_beside(other, client);
        let beside = self.of(key).filter(|_| !alone).find(beside);
        law!(beside.is_none(), "run {nr} for request {ask} starts beside run {:?}", beside.map(|other| other.nr));
        let replaces = kept.map(|kept| kept.nr);
        let cold = !self.of(key).any(|run| run.has_landed_as(Landing::Stored));
        let run = Run { ask: Some(ask), background, replaces, cold, alone, ..self.run(client, key) };
        self.runs.push(run);
        // P24
        let refreshes = self.runs.iter().filter(|run| run.background && run.is_under_way()).count();
        law!(refreshes <= self.rules.refreshes, "{refreshes} refreshes at a time");
        Ok(())
    }

    /// P33: what is put counts as a run that nobody waits for.
    fn putting(&mut self, client: usize, key: usize, with: Answer) {
        let (since, head, answer) = (self.now.nr, Some(self.now), Some(with));
        self.runs.push(Run { since, head, answer, alone: true, ..self.run(client, key) });
    }

    /// A run that starts now.
    fn run(&self, client: usize, key: usize) -> Run {
        let (nr, started, since) = (self.runs.len(), self.now, self.calm.nr);
        Run { nr, client, key, started, since, sure: true, ..Run::default() }
    }

    /// P11, P13: a run is dropped at its deadline, or when nobody wants it and it may not become a refresh.
    fn dropped(&mut self, nr: usize) -> Law {
        let (now, run) = (self.now, &self.runs[nr]);
        if run.settled.is_some() || run.has_landed_as(Landing::Personal) {
            return Ok(()); // It is its reader's alone.
        }
        let early = run.may_have_landed_early(now.at);
        if !early && now.at < run.started.at + REFRESH {
            let waits = run.ask.is_some_and(|ask| !self.asks[ask].is_over());
            law!(!waits && !run.background, "run {nr} is dropped before its time");
            law!(run.alone || self.rules.refreshes < PLENTY, "run {nr} is dropped though it may become a refresh");
        }
        self.runs[nr].sure = !early;
        self.runs[nr].landed = Some((now, Landing::Dropped));
        Ok(())
    }

    // ---- all ----

    fn calm(&mut self, refreshes_dropped: u64) -> Law {
        // P24: a refresh is dropped when there is no permit for it, and not when one got lost.
        let under_way = self.runs.iter().filter(|run| run.settled.is_none()).count();
        let lost = refreshes_dropped > self.refreshes_dropped && under_way < self.rules.refreshes;
        law!(!lost, "a refresh is dropped beside {under_way} runs");
        let last = self.calm;
        self.note_calm();
        self.refreshes_dropped = refreshes_dropped;
        for ask in self.asks.iter().filter(|ask| !ask.is_over()) {
            self.waits_for_something(ask)?;
            self.waits_with_others(ask, last)?;
            self.is_let_go(ask, last)?;
        }
        for ask in 0..self.asks.len() {
            if let Some(run) = self.asks[ask].to_refresh.take() {
                law!(self.is_refreshed(&self.asks[ask]), "nobody refreshes run {run} behind request {ask}");
            }
            self.asks[ask].follows = self.leader_of(&self.asks[ask]);
        }
        self.runs.iter().filter(|run| run.is_under_way() && run.head.is_none()).try_for_each(|run| self.is_wanted(run))
    }

    /// P12, P13, P14: nobody waits for nothing, nor for long where there is something to stand in.
    fn waits_for_something(&self, ask: &Ask) -> Law {
        let (Some(polled), a) = (ask.polled, ask.nr) else { return Ok(()) };
        law!(self.of(ask.key).any(Run::is_under_way), "request {a} waits, and there is no run");
        let own = self.run_of(ask);
        let over = own.filter(|own| own.head.is_some() || !own.is_under_way());
        law!(over.is_none(), "request {a} waits for run {:?}, which is over", over.map(|own| own.nr));
        let landings = self.of(ask.key).filter_map(|run| Some(run.landed?.0.at));
        let since = landings.fold(polled.at, Duration::max);
        // Those who come to wait for a run wait that long, and others who came to wait for these.
        let last = self.of(ask.key).map(|run| run.started.at).fold(since, Duration::max);
        let hopeful = own.is_some() || self.now.at < last + 2 * (WAIT + TICK);
        law!(hopeful, "request {a} waits for ever, and nobody leads one more run");
        let in_time = self.now.at < since + self.rules.soft.map_or(REFRESH, secs).min(REFRESH) + TICK;
        let better = self.better_than_nothing(ask).filter(|_| !in_time);
        law!(better.is_none(), "request {a} waits too long: there is run {:?}", better.map(|better| better.nr));
        Ok(())
    }

    /// P15: where responses could not be shared nobody waits for another one's.
    fn waits_with_others(&self, ask: &Ask, last: Moment) -> Law {
        let new = ask.polled.is_some_and(|polled| polled.nr > last.nr);
        let marked = new && self.run_of(ask).is_none() && self.is_marked(ask.key, ask.asked);
        law!(!marked, "request {} waits for another one's response though the key is marked", ask.nr);
        Ok(())
    }

    /// P10, P15, P16: all who wait for a run are let go when it lands.
    fn is_let_go(&self, ask: &Ask, last: Moment) -> Law {
        let landed = |run: &&Run| run.settled == Some(self.now.nr) && run.sure && last.at == self.now.at;
        let Some(run) = ask.follows.map(|run| &self.runs[run]).filter(landed) else { return Ok(()) };
        let too_old = ask.forced && ask.polled.is_some_and(|polled| run.since < polled.nr);
        let voided = too_old || self.is_overtaken(run) || self.is_reached(run, run.since..EVER, None);
        let waits = match run.landed {
            Some((_, Landing::Stored | Landing::Shared)) => run.suits(ask.client) && !voided,
            Some((_, Landing::Personal | Landing::Failed)) => self.run_of(ask).is_none() && !voided,
            _ => false,
        };
        law!(!waits, "request {} waits on though run {} landed: {:?}", ask.nr, run.nr, run.landed);
        Ok(())
    }

    fn run_of(&self, ask: &Ask) -> Option<&Run> {
        self.runs.iter().find(|run| run.ask == Some(ask.nr))
    }

    /// The run that a request waits for, where there is no other.
    fn leader_of(&self, ask: &Ask) -> Option<usize> {
        let waits = ask.polled.is_some() && !ask.is_over() && self.run_of(ask).is_none();
        let mut runs = self.of(ask.key).filter(|run| waits && run.is_under_way());
        runs.next().filter(|_| runs.next().is_none()).map(|run| run.nr)
    }

    /// P5, P34: behind a stale response there is a refresh, unless the key backs off or there are too many.
    fn is_refreshed(&self, ask: &Ask) -> bool {
        let joined = |run: &Run| run.may_be_awaited_by(ask) && !self.is_detached(run, run.started.nr..ask.asked.nr);
        self.refreshes_dropped > ask.dropped
            || self.may_back_off(ask.key, ask.asked)
            || self.of(ask.key).any(|run| run.ask == Some(ask.nr) || joined(run))
    }

    /// P11, P13: a run that nobody waits for is a refresh, and ends at its deadline.
    fn is_wanted(&self, run: &Run) -> Law {
        if self.asks.iter().any(|ask| ask.key == run.key && !ask.is_over()) {
            return Ok(());
        }
        law!(self.now.at < run.started.at + REFRESH + TICK, "run {} goes on after its deadline", run.nr);
        law!(self.rules.refreshes > 0, "run {} goes on, and nobody wants it", run.nr);
        Ok(())
    }
}
