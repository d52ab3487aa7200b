//! How often a fresh hit of each contender allocates: a line for each, `who|fresh allocations|count`.
//!
//! A program of its own, as to be counted makes each allocation dearer. A count is the median of some calls: now and then
//! a store puts its house in order.

use peers::{contenders::ALL, hits, table::median};

fn main() {
    let runtime = peers::runtime();
    let calls = ALL.map(|who| (who, hits::fresh(who, 1_024, &runtime).call));
    let _entered = runtime.enter();
    for (who, mut call) in [("harness", hits::harness())].into_iter().chain(calls) {
        let mut counts = [0.0; 21];
        for count in &mut counts {
            *count = allocation_counter::measure(&mut call).count_total as f64;
        }
        println!("{who}|fresh allocations|{}", median(&mut counts));
    }
}
