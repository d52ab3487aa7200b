//! An invalidation beats every run that started before it, and none that started after it.

use super::*;
use crate::{
    Cache, Scope, Tags,
    flight::Joined,
    freshness::Verdict,
    key,
    scope::Force::{self, Expire, Purge},
    status::Detail,
};

const KEY: &str = "k";
const TAG: &str = "t";

fn cache() -> Cache<()> {
    <Cache>::builder().memory(64 << 10).build_for()
}

/// By what an invalidation reaches a response: what is known when its run starts, and what the response alone says.
fn ways() -> impl Iterator<Item = (Scope, Force)> {
    let scopes = [Scope::from(Key::from(KEY)), Scope::tag(TAG), Scope::everything()];
    scopes.into_iter().flat_map(|scope| [Expire, Purge].map(|force| (scope.clone(), force)))
}

fn start(cache: &Cache<()>) -> Lead<()> {
    cache.shared().flights.solo(&course(KEY))
}

/// Ends a run with a response.
fn end(cache: &Cache<()>, lead: &Lead<()>) -> Option<Detail> {
    let entry = entry(lead, Tags::new([TAG]));
    let refusal = cache.shared().land(lead.key(), &entry, None, 16);
    lead.land(Landing::Shared(Landed { entry, refusal, status: None }));
    refusal
}

/// The run whose response readers get.
fn shown(cache: &Cache<()>) -> Option<u64> {
    let slot = cache.shared().memory.get(key::bytes(&Key::from(KEY)))?;
    let newest = slot.variants.first()?;
    (newest.verdict(clock::now()).0 == Verdict::Fresh).then_some(newest.entry.run)
}

#[test] // P31, P32
fn what_was_invalidated_while_its_run_was_under_way_is_shown_to_nobody() {
    for (scope, force) in ways() {
        in_every_order(move || {
            let cache = cache();
            let run = start(&cache);
            let run = {
                let cache = cache.clone();
                thread::spawn(move || end(&cache, &run))
            };
            let reached = cache.invalidate(&scope, force);
            let refusal = run.join().unwrap();
            // It came too late to be stored, or it was stored and then invalidated: one of both.
            assert_eq!((refusal == Some(Detail::Invalidated), refusal.is_none()), (reached == 0, reached == 1));
            assert_eq!(shown(&cache), None);
        });
    }
}

#[test] // P31
fn a_run_is_void_if_it_started_before_and_stored_if_it_started_after() {
    for (scope, force) in ways() {
        in_every_order(move || {
            let cache = cache();
            let run = {
                let cache = cache.clone();
                thread::spawn(move || {
                    let run = start(&cache);
                    (run.number(), end(&cache, &run))
                })
            };
            let reached = cache.invalidate(&scope, force);
            // Runs and invalidations are numbered together.
            match run.join().unwrap() {
                (1, _) => assert_eq!(shown(&cache), None),
                // It may still be reached while the invalidation is under way.
                (run, refusal) => assert_eq!((refusal, shown(&cache)), (None, (reached == 0).then_some(run))),
            }
        });
    }
}

#[test] // P25
fn of_two_runs_the_one_that_started_later_stays_whichever_ends_first() {
    in_every_order(|| {
        let cache = cache();
        let (old, new) = (start(&cache), start(&cache));
        let number = new.number();
        let old = {
            let cache = cache.clone();
            thread::spawn(move || end(&cache, &old))
        };
        assert_eq!(end(&cache, &new), None);
        assert!(matches!(old.join().unwrap(), None | Some(Detail::Superseded)));
        assert_eq!(shown(&cache), Some(number));
    });
}

#[test] // P31, P33
fn an_old_run_that_ends_after_an_invalidation_and_a_new_run_changes_nothing() {
    for (scope, force) in ways() {
        with_preemptions(3, move || {
            let cache = cache();
            let old = start(&cache);
            let older = start(&cache);
            let old = [old, older].map(|run| {
                let cache = cache.clone();
                thread::spawn(move || end(&cache, &run))
            });
            cache.invalidate(&scope, force);
            let new = start(&cache);
            assert_eq!(end(&cache, &new), None);
            for run in old {
                run.join().unwrap();
            }
            assert_eq!(shown(&cache), Some(new.number()));
        });
    }
}

#[test] // P30, P31
fn those_who_wait_may_have_what_was_invalidated_and_those_who_come_later_may_not() {
    for (scope, force) in ways() {
        with_preemptions(3, move || {
            let cache = cache();
            let Joined::Lead(run) = cache.shared().flights.join(&course(KEY)) else { panic!("nobody leads") };
            let mut waits = cache.shared().flights.follow_one(&course(KEY)).expect("it can be joined");
            let run = {
                let cache = cache.clone();
                thread::spawn(move || end(&cache, &run))
            };
            let newcomer = {
                let (cache, scope) = (cache.clone(), scope.clone());
                thread::spawn(move || {
                    cache.invalidate(&scope, force);
                    match cache.shared().flights.follow_one(&course(KEY)) {
                        // By what it is tagged with, nobody knows of a run that it is void.
                        Some(mut follow) => match block_on(&mut follow) {
                            Landing::Shared(landed) if scope == Scope::tag(TAG) => {
                                assert!(follow.came_after_invalidation(&landed));
                            }
                            _ => panic!("nobody else is to wait for it"),
                        },
                        None => assert_eq!(shown(&cache), None),
                    }
                })
            };
            match block_on(&mut waits) {
                Landing::Shared(landed) => assert!(!waits.came_after_invalidation(&landed)),
                _ => panic!("nobody landed that"),
            }
            run.join().unwrap();
            newcomer.join().unwrap();
        });
    }
}
