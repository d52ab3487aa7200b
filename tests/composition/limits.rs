//! Limits of how many and how often.

use tokio::time::timeout;
use tower::{ServiceBuilder, load_shed::error::Overloaded};

use crate::{
    stand::secs,
    support::typed::{self, Act, Gate, Origin, ask, at_once, pass},
};

/// An origin that has answered for one key, if its layer is asked for it, and whose next run waits at a gate.
fn gated() -> (Origin, Gate) {
    let (origin, gate) = (Origin::that(Act::Answer), Gate::new());
    origin.next_time(Act::Answer).next_time(Act::AnswerAfter(gate.clone()));
    (origin, gate)
}

#[tokio::test(start_paused = true)] // P90, P3
async fn a_concurrency_limit_inside_counts_runs_and_one_outside_counts_hits_as_well() {
    let (origin, gate) = gated();
    let inside = ServiceBuilder::new().layer(typed::layer()).concurrency_limit(1).service(origin.service());
    assert_eq!(at_once(ask(&inside, "hit")).await, Ok(1));
    let crowd = typed::crowd(&inside, "slow", 1).await;
    assert_eq!(at_once(ask(&inside, "hit")).await, Ok(1));
    gate.open();
    assert_eq!(typed::answers(crowd).await, [2]);

    let (origin, gate) = gated();
    let outside = ServiceBuilder::new().concurrency_limit(1).layer(typed::layer()).service(origin.service());
    assert_eq!(at_once(ask(&outside, "hit")).await, Ok(1));
    let crowd = typed::crowd(&outside, "slow", 1).await;
    assert!(timeout(secs(1), ask(&outside, "hit")).await.is_err(), "it waits for the permit of the other");
    gate.open();
    assert_eq!(typed::answers(crowd).await, [2]);
}

#[tokio::test(start_paused = true)] // P90
async fn load_shed_inside_sheds_runs_and_one_outside_sheds_nothing() {
    let (origin, gate) = gated();
    let inside = ServiceBuilder::new().layer(typed::layer()).load_shed().concurrency_limit(1).service(origin.service());
    assert_eq!(at_once(ask(&inside, "hit")).await.unwrap(), 1);
    let crowd = typed::crowd(&inside, "slow", 1).await;
    assert!(at_once(ask(&inside, "other")).await.unwrap_err().is::<Overloaded>());
    assert_eq!(at_once(ask(&inside, "hit")).await.unwrap(), 1);
    gate.open();
    assert_eq!(typed::answers(crowd).await, [2]);

    // The layer is always ready: what it cannot answer waits in its future.
    let (origin, gate) = gated();
    let outside =
        ServiceBuilder::new().load_shed().layer(typed::layer()).concurrency_limit(1).service(origin.service());
    assert_eq!(at_once(ask(&outside, "hit")).await.unwrap(), 1);
    let slow = typed::crowd(&outside, "slow", 1).await;
    let other = typed::crowd(&outside, "other", 1).await;
    gate.open();
    assert_eq!((typed::answers(slow).await, typed::answers(other).await), (vec![2], vec![3]));
}

#[tokio::test(start_paused = true)] // P90, P3
async fn a_rate_limit_inside_counts_runs_and_one_outside_counts_hits_as_well() {
    let origin = Origin::new();
    let inside =
        ServiceBuilder::new().layer(typed::layer()).buffer(8).rate_limit(1, secs(30)).service(origin.service());
    for _ in 0..3 {
        assert_eq!(at_once(ask(&inside, "hit")).await.unwrap(), 1);
    }
    assert!(timeout(secs(1), ask(&inside, "other")).await.is_err());

    let origin = Origin::new();
    let outside =
        ServiceBuilder::new().buffer(8).rate_limit(1, secs(30)).layer(typed::layer()).service(origin.service());
    assert_eq!(at_once(ask(&outside, "hit")).await.unwrap(), 1);
    assert!(timeout(secs(1), ask(&outside, "hit")).await.is_err());
    pass(secs(30)).await;
    assert_eq!(at_once(ask(&outside, "hit")).await.unwrap(), 1);
    assert_eq!(origin.runs(), 1);
}
