//! How many instructions each case takes: run under callgrind by `instructions.sh`, which says how, and holds the figures
//! against those that are recorded.
//!
//! With the name of a case it runs that one alone, a thousand times as often: for a profiler.

mod cases;

use std::hint::black_box;

use cases::{Call, KIB};

/// How often a case is called while it is looked at.
const CALLS: u64 = 1_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let cases: [(&str, Call); 13] = [
        ("harness", cases::harness()),
        ("ideal hit", cases::ideal(KIB)),
        ("bare axum handler", cases::handler(KIB)),
        ("fresh hit", cases::fresh(KIB)),
        ("fresh hit, 1 MiB", cases::fresh(KIB * KIB)),
        ("fresh hit, no extensions", cases::without_extensions(KIB)),
        ("stale hit", cases::stale(KIB)),
        ("stale hit, one more field", cases::stale_by_the_layer(KIB)),
        ("fresh hit in a router", cases::in_a_router(KIB)),
        ("bare axum handler, new pages", cases::handler_of_new_pages(KIB)),
        ("miss", cases::miss(KIB)),
        ("typed, the engine alone", cases::lookup()),
        ("typed, fresh hit", cases::typed()),
    ];
    let only = std::env::args().nth(1).filter(|only| !only.starts_with("--"));
    for (name, mut call) in cases {
        if let Some(only) = &only {
            let times = if only == name { 1_000 * CALLS } else { 0 };
            (0..times).for_each(|_| call());
            continue;
        }
        (0..100).for_each(|_| call());
        measured(&mut call);
        println!("{name}|{CALLS}");
    }
}

/// What callgrind looks at, and nothing else: it writes a file each time that this ends.
#[inline(never)]
fn measured(call: &mut Call) {
    (0..CALLS).for_each(|_| call());
    black_box(());
}
