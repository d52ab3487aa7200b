//! Whatever requests, answers, failures, invalidations and disconnects come, in whatever order and at whatever moment:
//! what a reader sees is what the reference model (`tests/support/model`) lets it see.
//!
//! `PROPTEST_CASES` says how many sequences are tried. Seeds of those that failed are kept beside this file and tried
//! first. What a failure prints can be pasted below as a test of its own.
#![allow(clippy::disallowed_methods, reason = "a test may spawn and wait")]

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{FileFailurePersistence, TestCaseError},
};

mod support;
use support::{
    model::{Answer, End, Front, PLENTY, Reach, Rules},
    world::{Age, Pace, Step, Story, live},
};

fn rules() -> impl Strategy<Value = Rules> {
    let front = prop_oneof![Just(Front::Http), Just(Front::Typed)];
    let soft = prop_oneof![3 => Just(None), 1 => Just(Some(2))];
    let refreshes = prop_oneof![4 => Just(PLENTY), 1 => 0..3_usize];
    let early_refresh = prop::bool::weighted(0.2);
    (front, select(vec![10, 0]), select(vec![30, 0]), soft, refreshes, any::<bool>(), early_refresh).prop_map(
        |(front, stale, error, soft, refreshes, share_errors, early_refresh)| Rules {
            front,
            stale,
            error,
            soft,
            refreshes,
            share_errors,
            early_refresh,
        },
    )
}

fn storable() -> impl Strategy<Value = Answer> {
    prop_oneof![2 => (0..2_u8).prop_map(Answer::Store), 1 => (0..2_u8).prop_map(Answer::Vary)]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        9 => storable(),
        2 => Just(Answer::Unavailable),
        2 => Just(Answer::Fail),
        1 => Just(Answer::Panic),
        1 => Just(Answer::NotFound),
        2 => Just(Answer::Personal),
        1 => Just(Answer::TooLarge),
    ]
}

fn reach() -> impl Strategy<Value = Reach> {
    prop_oneof![
        4 => key().prop_map(Reach::Key),
        1 => key().prop_map(Reach::Path),
        2 => (0..2_usize).prop_map(Reach::Below),
        2 => (0..2_u8).prop_map(Reach::Tag),
        1 => any::<bool>().prop_map(Reach::Namespace),
        2 => Just(Reach::Everything),
    ]
}

fn key() -> impl Strategy<Value = usize> {
    prop_oneof![5 => Just(0_usize), 2 => Just(1), 1 => Just(2)]
}

fn age() -> impl Strategy<Value = Age> {
    select(vec![Age::Fresh, Age::Stale, Age::Gone, Age::Wait, Age::Refresh, Age::Fill, Age::Mark])
}

fn step() -> impl Strategy<Value = Step> {
    // The oldest, mostly.
    let one = || prop_oneof![3 => Just(0_usize), 1 => 0..4_usize];
    prop_oneof![
        12 => (0..3_usize, key()).prop_map(|(client, key)| Step::Ask { client, key }),
        1 => (0..3_usize, key()).prop_map(|(client, key)| Step::Force { client, key }),
        1 => (0..3_usize, key(), storable()).prop_map(|(client, key, with)| Step::Put { client, key, with }),
        8 => (one(), answer()).prop_map(|(run, with)| Step::Respond { run, with }),
        2 => (one(), answer()).prop_map(|(run, with)| Step::Begin { run, with }),
        2 => (one(), select(vec![End::Whole, End::Whole, End::Broken])).prop_map(|(run, end)| Step::Finish { run, end }),
        2 => reach().prop_map(Step::Expire),
        2 => reach().prop_map(Step::Purge),
        1 => key().prop_map(|key| Step::Post { key }),
        2 => one().prop_map(|ask| Step::Leave { ask }),
        3 => prop_oneof![Just(1_000), 0..2_000_u64, 0..20_000_u64].prop_map(|millis| Step::Pass { millis }),
        4 => (one(), age(), -1..2_i8).prop_map(|(run, age, nanos)| Step::Until { run, age, nanos }),
    ]
}

fn pace() -> impl Strategy<Value = Pace> {
    prop_oneof![6 => Just(Pace::Calm), 2 => Just(Pace::Rush), 1 => Just(Pace::Held), 2 => Just(Pace::Amid)]
}

fn story() -> impl Strategy<Value = Story> {
    (rules(), vec((step(), pace()), 1..40)).prop_map(|(rules, steps)| Story { rules, steps })
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000);
    let beside = FileFailurePersistence::WithSource("proptest-regressions");
    ProptestConfig { cases, failure_persistence: Some(Box::new(beside)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test] // P1-P6, P8, P10-P16, P22-P26, P30, P31, P33, P34, P36, P44, P53
    fn a_reader_sees_nothing_but_what_the_model_lets_it_see(story in story()) {
        live(&story).map_err(TestCaseError::fail)?;
    }
}

/// Moments that chance seldom finds.
mod by_hand {
    use super::{
        Answer::Store,
        Front::Typed,
        PLENTY,
        Pace::{self, Amid, Calm, Rush},
        Reach::{Below, Everything, Key},
        Rules,
        Step::{self, Ask, Expire, Purge, Respond},
        Story, live,
    };

    fn holds(steps: &[(Step, Pace)]) {
        let rules = Rules {
            front: Typed,
            stale: 10,
            error: 30,
            soft: None,
            refreshes: PLENTY,
            share_errors: false,
            early_refresh: false,
        };
        let story = Story { rules, steps: steps.to_vec() };
        live(&story).unwrap_or_else(|law| panic!("{law}\n{story:?}"));
    }

    #[test] // P32
    fn what_lands_while_a_purge_removes_something_else_is_not_stored() {
        for scope in [Below(0), Everything] {
            holds(&[
                (Ask { client: 0, key: 0 }, Calm),
                (Respond { run: 0, with: Store(0) }, Calm),
                (Ask { client: 0, key: 1 }, Calm),
                (Respond { run: 0, with: Store(0) }, Rush),
                (Purge(scope), Amid),
                (Ask { client: 0, key: 1 }, Calm),
            ]);
        }
    }

    #[test] // P10
    fn what_lands_while_a_stale_response_is_handed_out_is_not_refreshed_again() {
        holds(&[
            (Ask { client: 0, key: 0 }, Calm),
            (Respond { run: 0, with: Store(0) }, Calm),
            (Expire(Key(0)), Calm),
            (Ask { client: 0, key: 0 }, Calm),
            (Respond { run: 0, with: Store(0) }, Rush),
            (Ask { client: 0, key: 0 }, Amid),
        ]);
    }
}
