//! What a hit costs, beside the least that any hit could cost and beside a bare axum handler.
//!
//! `cargo bench --bench hit` prints one table. All cases run in one process, in turn, many rounds of each; a figure is
//! the median of its rounds less the harness (making and dropping the request), and the ratios are what to look at:
//! nanoseconds differ from machine to machine and from hour to hour. (That is why none of the usual harnesses is used: they
//! measure one case after the other, and a machine that is slower for a minute is so for one of two.)
//! Allocations are counted by another program, `allocations`: to count them takes time.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod cases;

use std::time::Instant;

use cases::{Call, KIB};

struct Case {
    name: &'static str,
    call: Call,
    rounds: Vec<f64>,
}

fn main() {
    // `cargo test --benches` asks whether the bench runs, not how fast.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let (rounds, calls) = if quick { (1, 10) } else { (101, 10_000) };

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let mut cases = cases();
    for case in &mut cases {
        (0..100).for_each(|_| (case.call)());
    }
    for _ in 0..rounds {
        for case in &mut cases {
            let begin = Instant::now();
            (0..calls).for_each(|_| (case.call)());
            case.rounds.push(begin.elapsed().as_nanos() as f64 / f64::from(calls));
        }
    }
    if !quick {
        report(&mut cases);
    }
}

/// The first three are those that the others are held against.
fn cases() -> Vec<Case> {
    [
        ("harness: make and drop the request", cases::harness()),
        ("ideal hit", cases::ideal(KIB)),
        ("bare axum handler", cases::handler(KIB)),
        ("fresh hit", cases::fresh(KIB)),
        ("fresh hit, 1 MiB", cases::fresh(KIB * KIB)),
        ("fresh hit, no extensions", cases::without_extensions(KIB)),
        ("stale hit while a refresh runs", cases::stale(KIB)),
        ("stale hit, one more field", cases::stale_by_the_layer(KIB)),
        ("fresh hit in an axum router", cases::in_a_router(KIB)),
        ("bare axum handler, new pages", cases::handler_of_new_pages(KIB)),
        ("miss", cases::miss(KIB)),
        ("typed, the engine alone", cases::lookup()),
        ("typed, fresh hit", cases::typed()),
    ]
    .map(|(name, call)| Case { name, call, rounds: Vec::new() })
    .into()
}

fn report(cases: &mut [Case]) {
    let median = |case: &mut Case| {
        case.rounds.sort_by(f64::total_cmp);
        case.rounds[case.rounds.len() / 2]
    };
    let medians: Vec<f64> = cases.iter_mut().map(median).collect();
    let (harness, ideal, bare) = (medians[0], medians[1] - medians[0], medians[2] - medians[0]);
    println!("| case | ns | net | net / ideal | net / bare handler |\n|---|--:|--:|--:|--:|");
    for (case, median) in cases.iter().zip(medians) {
        // The last two make no HTTP request: nothing is to be taken off.
        let of_http = !case.name.starts_with("typed");
        let net = if of_http { median - harness } else { median };
        let name = case.name;
        println!("| {name} | {median:.0} | {net:.0} | {:.2} | {:.2} |", net / ideal, net / bare);
    }
}
