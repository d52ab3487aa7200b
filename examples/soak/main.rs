//! Run with `cargo run --release --example soak -- --seconds 60`, and read `0 violations` at the end.
//!
//! Keeps caches under fire on real threads, in real time: origins that fail in every way, clients that leave, lifetimes
//! of some milliseconds, hardly any memory, invalidations of every kind. Every answer says which run made it and what was
//! true when that run began, so that whoever gets it can tell whether it was right to get it. What is checked:
//!
//! * No answer is older than its horizons allow; one of a run of one's own began after one asked.
//! * Who asks after a purge was done, a POST was answered or something was put sees nothing of a run that began before;
//!   after an expiry only what is marked as stale.
//! * Nobody gets another page, another variant, or what is personal to another client.
//! * A body is whole, or fails; what came out of memory is whole.
//! * A key has one run at a time (asked of one layer whose origin never fails; on the others exceptions are counted).
//! * Nobody waits for ever, and nothing panics but what panics on purpose.
//! * In the end no run is under way, no permit is missing, the caches have counted what their clients saw, and a purge of
//!   everything leaves nothing.
//!
//! `--seconds 60 --threads 4 --clients 192 --seed 1`: the seed decides what each client does and what comes over each run
//! of an origin, in the order in which threads come to it; that order is another one each time.

#![allow(clippy::disallowed_methods, reason = "real time and real threads are what this is for")]

use std::{
    panic,
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::sleep,
};

use crate::{clients::Client, figures::Count, origin::Planned, world::World};

mod body;
mod by_hand;
mod checks;
mod clients;
mod faults;
mod figures;
mod origin;
mod pages;
mod stamp;
mod track;
mod truth;
mod world;

/// From the command line.
#[derive(Clone, Copy, Debug)]
struct Options {
    seconds: u64,
    threads: usize,
    clients: usize,
    seed: u64,
}

impl Options {
    fn read(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { seconds: 60, threads: 4, clients: 192, seed: fastrand::u64(..1 << 32) };
        let mut args = args.skip(1);
        while let Some(name) = args.next() {
            let number = args.next().and_then(|number| number.parse::<u64>().ok());
            let number = number.ok_or_else(|| format!("{name} wants a number"))?;
            let size = usize::try_from(number).unwrap_or(usize::MAX).max(1);
            match name.as_str() {
                "--seconds" => options.seconds = number,
                "--threads" => options.threads = size,
                "--clients" => options.clients = size,
                "--seed" => options.seed = number,
                _ => return Err(format!("{name}: there are --seconds, --threads, --clients and --seed")),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let options = match Options::read(std::env::args()) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::FAILURE;
        }
    };
    println!("{options:?}");
    let world = Arc::new(World::new(options.seed));
    report_panics(&world);
    let visitors = thread::spawn({
        let world = Arc::clone(&world);
        move || visit(&world, options.seed)
    });
    let runtime = runtime(options.threads);
    runtime.block_on(soak(&world, options));
    if visitors.join().is_err() {
        world.figures.violation("a runtime panicked as it was dropped");
    }
    runtime.block_on(world.check_at_the_end());
    println!("{}\n{}", world.told(), world.figures.table());
    if world.figures.violations() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Lets the clients live until the time is up, and tells how they fare.
async fn soak(world: &Arc<World>, options: Options) {
    let mut clients: JoinSet<()> = (0..options.clients).map(|_| Client::new(world, options.seed).live()).collect();
    let (begin, time) = (Instant::now(), Duration::from_secs(options.seconds));
    while begin.elapsed() < time {
        sleep(Duration::from_secs(5).min(time.saturating_sub(begin.elapsed()))).await;
        world.check_now();
        println!("{:>5} s: {}", begin.elapsed().as_secs(), world.figures.line());
    }
    world.end();
    while let Some(ended) = clients.join_next().await {
        if ended.is_err() {
            world.figures.violation("a client panicked");
        }
    }
}

/// Clients on runtimes that are dropped while they wait, read, and lead runs for others.
fn visit(world: &Arc<World>, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(!seed);
    while !world.is_over() {
        let runtime = if rng.bool() { runtime(1) } else { runtime_of_this_thread() };
        for _ in 0..6 {
            drop(runtime.spawn(Client::new(world, seed).live()));
        }
        let visit = Duration::from_millis(rng.u64(5..150));
        runtime.block_on(async { sleep(visit).await });
        drop(runtime);
        world.figures.count(Count::Runtimes);
        thread::sleep(Duration::from_millis(rng.u64(..200)));
    }
}

fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_time().build().expect("a runtime")
}

fn runtime_of_this_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// Nothing is to panic but what panics on purpose.
fn report_panics(world: &Arc<World>) {
    let (usual, figures) = (panic::take_hook(), Arc::clone(&world.figures));
    panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Planned>() {
            usual(info);
            figures.violation("a panic that nobody planned");
        }
    }));
}
