//! One run per key, step by step.

use std::{pin::pin, task::Wake};

use super::*;
use crate::entry::{Early, Generation};

type Of = Flights<()>;

fn flights() -> Arc<Of> {
    Arc::new(Flights::new(Arc::default()))
}

fn course(key: &str) -> Course {
    Course { key: Key::from(key), variant: None }
}

fn lead_one(flights: &Arc<Of>, key: &str) -> Option<Lead<()>> {
    flights.lead(&course(key), Boarding::Open, crate::clock::now(), std::time::Duration::MAX)
}

fn lead_closed(flights: &Arc<Of>, key: &str) -> Option<Lead<()>> {
    flights.lead(&course(key), Boarding::Closed, crate::clock::now(), std::time::Duration::MAX)
}

fn follow(flights: &Arc<Of>, key: &str) -> Follow<()> {
    match flights.join(&course(key)) {
        Joined::Follow(follow) => follow,
        Joined::Lead(_) => panic!("nobody leads"),
    }
}

fn poll(follow: &mut Follow<()>) -> Poll<Landing<()>> {
    pin!(follow).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn the_first_leads_and_the_others_follow_until_it_lands() {
    let flights = flights();
    let lead = lead_one(&flights, "k").expect("nobody leads yet");
    assert!(lead_one(&flights, "k").is_none());
    assert!(lead_one(&flights, "other").is_some());
    let mut follow = follow(&flights, "k");
    assert!(poll(&mut follow).is_pending());
    lead.land(Landing::Personal);
    lead.land(Landing::Panicked);
    assert!(matches!(poll(&mut follow), Poll::Ready(Landing::Personal)), "the first landing counts");
    assert!(lead_one(&flights, "k").is_some(), "it is free again");
}

#[test] // P12
fn a_lead_that_is_dropped_leaves_nobody_waiting() {
    let flights = flights();
    let lead = lead_one(&flights, "k");
    let mut follow = follow(&flights, "k");
    drop(lead);
    assert!(matches!(poll(&mut follow), Poll::Ready(Landing::Vacated)));
}

#[test] // P13
fn the_first_to_give_up_leads_and_the_next_joins_it() {
    let flights = flights();
    let hung = lead_one(&flights, "k");
    let (first, second) = (follow(&flights, "k"), follow(&flights, "k"));
    first.give_up(&flights);
    let lead = lead_one(&flights, "k");
    assert!(lead.is_some());
    second.give_up(&flights);
    assert!(lead_one(&flights, "k").is_none(), "the new run is not given up by those who waited for the old");
    drop(hung);
    assert!(lead_one(&flights, "k").is_none(), "nor ended by the end of the old one");
}

#[test] // P14
fn those_who_wait_are_woken_by_the_landing_and_by_nothing_else() {
    struct Count(std::sync::atomic::AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let flights = flights();
    let lead = lead_one(&flights, "k").expect("nobody leads yet");
    let woken = Arc::new(Count(0.into()));
    let waker = Waker::from(Arc::clone(&woken));
    let mut waiting: Vec<_> = (0..100).map(|_| follow(&flights, "k")).collect();
    for follow in &mut waiting {
        assert!(pin!(follow).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    waiting.truncate(60);
    assert_eq!(woken.0.load(std::sync::atomic::Ordering::SeqCst), 0);
    lead.land(Landing::Vacated);
    assert_eq!(woken.0.load(std::sync::atomic::Ordering::SeqCst), 60);
}

#[test] // P11
fn a_run_learns_when_the_last_one_loses_interest() {
    let flights = flights();
    let lead = lead_one(&flights, "k").expect("nobody leads yet");
    let mut cx = Context::from_waker(Waker::noop());
    let own = lead.interest();
    let other = follow(&flights, "k");
    assert!(!lead.close_unless_wanted(|| 1));
    drop(own);
    assert!(lead.poll_unwanted(&mut cx).is_pending());
    drop(other);
    assert!(lead.poll_unwanted(&mut cx).is_ready());
    assert!(lead.close_unless_wanted(|| 0));
    assert!(flights.follow_one(&course("k")).is_none());
    lead.interest().keep();
    assert!(lead.poll_unwanted(&mut cx).is_pending());
}

#[test] // P30
fn an_invalidation_lets_nobody_join_what_it_reaches() {
    let flights = flights();
    let (one, other) = (lead_one(&flights, "k"), lead_one(&flights, "other"));
    let mut waiting = follow(&flights, "k");
    flights.detach(&Scope::from(Key::from("k")));
    let again = lead_one(&flights, "k");
    assert!(again.is_some() && lead_one(&flights, "other").is_none());
    drop((one, other));
    assert!(poll(&mut waiting).is_ready());
    assert!(lead_one(&flights, "k").is_none(), "the old run does not end the new one");
    drop(again);
}

#[test] // P31
fn one_who_comes_after_a_purge_by_tag_is_not_handed_what_was_stored_before_it() {
    use crate::{clock, freshness::Freshness, judgement::Judgement, tags::Tags};
    let flights = flights();
    let lead = lead_one(&flights, "k").expect("nobody leads yet");
    let mut judged = Judgement::storable(Freshness::from(std::time::Duration::from_secs(60)));
    judged.tags = Tags::new(["t"]);
    let entry = Arc::new(Entry {
        value: (),
        started: clock::now(),
        early: Early::default(),
        run: lead.number(),
        judged,
        variant: None,
        weight: 1,
        generation: Generation::default(),
        refreshing: Default::default(),
    });
    // It is stored, and purged, and only then told to those who wait.
    assert!(!flights.journal.land(lead.number(), lead.key(), entry.tags(), |voided| voided));
    let before = follow(&flights, "k");
    flights.journal.record(&Scope::tag("t"));
    flights.detach(&Scope::tag("t"));
    let after = follow(&flights, "k");
    let landed = Landed { entry, refusal: None, status: None };
    assert!(!before.came_after_invalidation(&landed));
    assert!(after.came_after_invalidation(&landed));
}

#[test]
fn those_who_come_and_go_leave_no_seats_behind() {
    let flights = flights();
    let _lead = lead_one(&flights, "k");
    let mut stays = follow(&flights, "k");
    for _ in 0..1_000 {
        let mut comes_and_goes = follow(&flights, "k");
        assert!(poll(&mut comes_and_goes).is_pending());
        assert!(poll(&mut stays).is_pending());
    }
    assert!(stays.flight.lock().waiting.len() <= 2);
}

#[test] // P15
fn a_closed_run_has_no_followers_and_keeps_no_open_one_from_being_led() {
    let flights = flights();
    let closed = lead_closed(&flights, "k").expect("nobody leads");
    assert!(lead_closed(&flights, "k").is_none(), "one of them is enough");
    assert!(flights.follow_one(&course("k")).is_none());
    assert!(flights.is_under_way(&course("k"), Boarding::Closed));
    assert!(!flights.is_under_way(&course("k"), Boarding::Open));
    let Joined::Lead(open) = flights.join(&course("k")) else { panic!("nobody waits for a closed run") };
    assert!(lead_closed(&flights, "k").is_none() && lead_one(&flights, "k").is_none());
    closed.land(Landing::Personal);
    assert!(flights.follow_one(&course("k")).is_some(), "the open run is another one");
    drop(open);
    let closed = lead_closed(&flights, "k").expect("nobody leads");
    let open = lead_one(&flights, "k").expect("nobody leads an open run");
    drop((closed, open));
    assert!(lead_one(&flights, "k").is_some());
}
