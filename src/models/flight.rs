//! Whoever waits is woken, whoever may lead leads alone, and no run is closed to one who has come aboard.

use std::future::poll_fn;

use super::*;
use crate::{
    flight::{Boarding, Flights, Follow, Joined},
    scope::Scope,
};

type Of = Arc<Flights<()>>;

fn flights() -> Of {
    Arc::new(Flights::new(Arc::default()))
}

fn lead(flights: &Of) -> Lead<()> {
    match flights.join(&course("k")) {
        Joined::Lead(lead) => lead,
        Joined::Follow(_) => panic!("somebody leads"),
    }
}

fn follow(flights: &Of) -> Follow<()> {
    flights.follow_one(&course("k")).expect("somebody leads")
}

/// Whether somebody leads whom others can join.
fn is_led(flights: &Of) -> bool {
    flights.follow_one(&course("k")).is_some()
}

fn land(lead: &Lead<()>) {
    lead.land(Landing::Shared(Landed { entry: entry(lead, Tags::default()), refusal: None, status: None }));
}

/// Waits for a run that lands: its number.
fn wait(follow: Follow<()>) -> Option<u64> {
    match block_on(follow) {
        Landing::Shared(landed) => Some(landed.entry.run),
        Landing::Vacated => None,
        _ => panic!("nobody landed that"),
    }
}

/// Leads a run or waits for one, until one lands: its number. `leading` counts those who lead.
fn seek(flights: &Of, leading: &AtomicUsize) -> u64 {
    loop {
        match flights.join(&course("k")) {
            Joined::Lead(lead) => {
                assert_eq!(leading.fetch_add(1, SeqCst), 0, "two lead at once");
                leading.fetch_sub(1, SeqCst);
                land(&lead);
                return lead.number();
            }
            Joined::Follow(follow) => match wait(follow) {
                Some(run) => return run,
                None => continue,
            },
        }
    }
}

#[test] // P10, P14
fn one_leads_at_a_time_and_everybody_else_gets_its_landing() {
    with_preemptions(3, || {
        let (flights, leading) = (flights(), Arc::new(AtomicUsize::new(0)));
        let others = [(); 2].map(|()| {
            let (flights, leading) = (Arc::clone(&flights), Arc::clone(&leading));
            thread::spawn(move || seek(&flights, &leading))
        });
        seek(&flights, &leading);
        for other in others {
            other.join().unwrap();
        }
        assert!(!is_led(&flights));
    });
}

#[test] // P12
fn a_lead_that_is_dropped_wakes_all_who_wait_and_one_of_them_leads() {
    with_preemptions(3, || {
        let (flights, leading) = (flights(), Arc::new(AtomicUsize::new(0)));
        let abandoned = lead(&flights);
        let number = abandoned.number();
        let others = [(); 2].map(|()| {
            let (flights, leading) = (Arc::clone(&flights), Arc::clone(&leading));
            thread::spawn(move || seek(&flights, &leading))
        });
        drop(abandoned);
        assert!(others.into_iter().all(|other| other.join().unwrap() > number));
        assert!(!is_led(&flights));
    });
}

#[test] // P14
fn one_who_leaves_takes_nobody_elses_seat_along() {
    with_preemptions(3, || {
        let flights = flights();
        let lead = lead(&flights);
        let (mut stays, mut leaves, comes) = (follow(&flights), follow(&flights), follow(&flights));
        let stays = thread::spawn(move || {
            let _landed_or_not = poll_elsewhere(&mut stays);
            wait(stays)
        });
        let changes = thread::spawn(move || {
            let _landed_or_not = poll_elsewhere(&mut leaves);
            drop(leaves);
            // This one takes the seat that has become free.
            wait(comes)
        });
        land(&lead);
        assert_eq!(stays.join().unwrap(), Some(lead.number()));
        assert_eq!(changes.join().unwrap(), Some(lead.number()));
    });
}

#[test] // P13
fn of_those_who_give_up_one_leads_and_the_others_join_it() {
    in_every_order(|| {
        let flights = flights();
        let hung = lead(&flights);
        let number = hung.number();
        let impatient = [follow(&flights), follow(&flights)].map(|follow| {
            let flights = Arc::clone(&flights);
            thread::spawn(move || {
                follow.give_up(&flights);
                flights.join(&course("k"))
            })
        });
        // It ends after all, and must not end the run that took its place.
        drop(hung);
        let joined = impatient.map(|one| one.join().unwrap());
        assert!(is_led(&flights));
        let (lead, follow) = match joined {
            [Joined::Lead(lead), Joined::Follow(follow)] | [Joined::Follow(follow), Joined::Lead(lead)] => {
                (lead, follow)
            }
            [Joined::Lead(_), Joined::Lead(_)] => panic!("two lead at once"),
            [Joined::Follow(_), Joined::Follow(_)] => panic!("nobody leads"),
        };
        assert!(lead.number() > number);
        land(&lead);
        assert_eq!(wait(follow), Some(lead.number()));
    });
}

#[test] // P13
fn who_has_led_for_too_long_is_replaced_once() {
    const OVERDUE: Duration = Duration::from_secs(120);
    in_every_order(|| {
        let flights = flights();
        let (hung, waits) = (lead(&flights), follow(&flights));
        block_on(tokio::time::advance(2 * OVERDUE));
        let [one, other] = [(); 2].map(|()| {
            let flights = Arc::clone(&flights);
            thread::spawn(move || flights.lead(&course("k"), Boarding::Open, clock::now(), OVERDUE))
        });
        drop(hung);
        assert_eq!(wait(waits), None);
        let leads = [one.join().unwrap(), other.join().unwrap()];
        assert_eq!(leads.iter().flatten().count(), 1);
        assert!(is_led(&flights));
        drop(leads);
        assert!(!is_led(&flights));
    });
}

#[test] // P11
fn a_run_is_closed_or_goes_on_for_all_who_came_aboard() {
    // One kind of newcomer leads where nobody does, the other one only waits for those who do.
    let joins = |flights: &Of| match flights.join(&course("k")) {
        Joined::Follow(follow) => Some(follow),
        Joined::Lead(_) => None,
    };
    let follows = |flights: &Of| flights.follow_one(&course("k"));
    for comes in [joins, follows] {
        in_every_order(move || {
            let flights = flights();
            let (lead, leaves) = (lead(&flights), follow(&flights));
            let newcomer = {
                let flights = Arc::clone(&flights);
                thread::spawn(move || comes(&flights).map(wait))
            };
            let leaves = thread::spawn(move || drop(leaves));
            let closed = lead.close_unless_wanted(|| 0);
            if closed {
                lead.land(Landing::Vacated);
            } else {
                land(&lead);
            }
            if let Some(landed) = newcomer.join().unwrap() {
                assert!(!closed, "it waited for a run that nobody wanted");
                assert_eq!(landed, Some(lead.number()));
            }
            leaves.join().unwrap();
        });
    }
}

#[test] // P11
fn a_run_hears_of_it_when_the_last_interest_goes() {
    in_every_order(|| {
        let flights = flights();
        let (lead, follow) = (lead(&flights), follow(&flights));
        let leader = lead.interest();
        let leader = thread::spawn(move || drop(leader));
        let follow = thread::spawn(move || drop(follow));
        let mut unwanted = poll_fn(|cx| lead.poll_unwanted(cx));
        if poll_elsewhere(&mut unwanted).is_pending() {
            block_on(unwanted);
        }
        assert!(lead.close_unless_wanted(|| 0));
        assert!(!is_led(&flights));
        leader.join().unwrap();
        follow.join().unwrap();
    });
}

#[test] // P30
fn after_an_invalidation_one_leads_anew_and_the_old_run_does_not_end_the_new_one() {
    with_preemptions(3, || {
        let flights = flights();
        let (old, waits) = (lead(&flights), follow(&flights));
        let number = old.number();
        let old = thread::spawn(move || land(&old));
        let anew = {
            let flights = Arc::clone(&flights);
            thread::spawn(move || {
                flights.detach(&Scope::from(Key::from("k")));
                lead(&flights)
            })
        };
        assert_eq!(wait(waits), Some(number), "those who wait already may have it");
        old.join().unwrap();
        let anew = anew.join().unwrap();
        assert!(is_led(&flights));
        drop(anew);
        assert!(!is_led(&flights));
    });
}
