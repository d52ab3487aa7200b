//! What each contender costs in process. `all.sh` runs it; by hand:
//!
//! * `peers time` prints times, allocations and what a crowd of readers sees, a line for each figure: `who|what|value`.
//!   Times are medians of many rounds, in which all contenders take turns.
//! * `peers call CASE WHO TIMES` does one case so many times, for whoever counts its instructions from outside.
//! * `peers table` makes one table of all such lines on its standard input, and says below how each was set.

use std::{
    env,
    error::Error,
    io,
    time::{Duration, Instant},
};

use peers::{
    contenders::{self, ALL, BARE},
    hits::{self, Hit},
    misses, notes, readers, table,
};

const KIB: usize = 1_024;
const ROUNDS: usize = 61;
const CROWDS: usize = 5;

/// How long a case is called in one round.
const TURN: Duration = Duration::from_millis(3);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["time"] => {
            time();
            crowds();
        }
        ["call", case, who, times] => call(case, who, times.parse()?),
        ["table"] => print!("{}\n{}", table::of(&io::read_to_string(io::stdin())?), notes::all()),
        _ => return Err("what to do? time, call or table".into()),
    }
    Ok(())
}

/// One case of one contender.
struct Case {
    who: &'static str,
    what: &'static str,
    call: Box<dyn FnMut(usize)>,
    /// How often it is called in a round.
    calls: usize,
    rounds: Vec<f64>,
}

impl Case {
    fn new(who: &'static str, what: &'static str, mut call: Box<dyn FnMut(usize)>) -> Self {
        call(10);
        let begin = Instant::now();
        call(10);
        let calls = TURN.as_nanos() * 10 / begin.elapsed().as_nanos().max(1);
        Self { who, what, call, calls: (calls as usize).clamp(1, 10_000), rounds: Vec::new() }
    }

    fn hit(who: &'static str, what: &'static str, mut hit: Hit) -> Self {
        let bare = who == BARE;
        let call = move |calls| {
            (0..calls).for_each(|_| (hit.call)());
            assert!(bare || hit.was_one(), "{who}: not a {what} hit");
        };
        Self::new(who, what, Box::new(call))
    }

    /// Misses fill a store: there are fewer of them.
    fn miss(who: &'static str, call: Box<dyn FnMut(usize)>) -> Self {
        let case = Self::new(who, "miss", call);
        Self { calls: case.calls.min(200), ..case }
    }
}

fn time() {
    let runtime = peers::runtime();
    let mut cases = Vec::new();
    let mut harness = hits::harness();
    cases.push(Case::new("harness", "fresh", Box::new(move |calls| (0..calls).for_each(|_| harness()))));
    for who in ALL {
        cases.push(Case::hit(who, "fresh", hits::fresh(who, KIB, &runtime)));
    }
    for who in contenders::caches().chain([BARE]) {
        cases.push(Case::hit(who, "fresh 64", hits::fresh(who, 64 * KIB, &runtime)));
    }
    for who in contenders::stale() {
        cases.push(Case::hit(who, "stale", hits::stale(who, KIB, &runtime)));
    }
    {
        // What hits spawn, if they spawn, waits for ever.
        let _entered = runtime.enter();
        rounds(&mut cases);
    }
    let mut cases = vec![Case::miss("harness", misses::harness())];
    cases.extend(contenders::caches().chain([BARE]).map(|who| Case::miss(who, misses::of(who))));
    rounds(&mut cases);
}

fn rounds(cases: &mut [Case]) {
    for _ in 0..ROUNDS {
        for case in &mut *cases {
            let begin = Instant::now();
            (case.call)(case.calls);
            case.rounds.push(begin.elapsed().as_nanos() as f64 / case.calls as f64);
        }
    }
    for case in cases {
        println!("{}|{}|{}", case.who, case.what, table::median(&mut case.rounds));
    }
}

fn crowds() {
    for _ in 0..CROWDS {
        for who in contenders::caches().chain([BARE]) {
            let (runs, p99) = readers::of(who);
            println!("{who}|runs|{runs}");
            println!("{who}|p99|{}", p99.as_secs_f64() * 1e3);
        }
    }
}

fn call(case: &str, who: &str, times: usize) {
    let runtime = peers::runtime();
    match (case, who) {
        ("miss", "harness") => misses::harness()(times),
        ("miss", _) => misses::of(who)(times),
        (_, "harness") => {
            let mut call = hits::harness();
            (0..times).for_each(|_| call());
        }
        _ => {
            let mut hit = match case {
                "stale" => hits::stale(who, KIB, &runtime),
                _ => hits::fresh(who, KIB, &runtime),
            };
            let _entered = runtime.enter();
            (0..times).for_each(|_| (hit.call)());
            assert!(who == BARE || hit.was_one(), "{who}: not a {case} hit");
        }
    }
}
