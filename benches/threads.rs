//! What a hit costs when two threads read at once, beside the ideal hit that is read in the same way.
//!
//! `cargo bench --bench threads` prints one table: hits per second of one thread and of two, of one page that both read
//! and of 10,000 pages in the order of a Zipf distribution. The ideal hit and ours take turns, many short rounds of each;
//! a figure is the median of its rounds, and what making and dropping the requests takes is a part of it, for both alike.
//! Two processors that share a core give even an empty service less than twice as many.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod cases;

use std::{sync::Barrier, time::Instant};

use bytes::Bytes;
use cases::Answer;
use http::Request;
use http_body_util::Full;

const PAGES: u32 = 10_000;

fn main() {
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let (rounds, calls) = if quick { (1, 10) } else { (31, 40_000) };
    println!("| pages | threads | ideal hit, per second | fresh hit, per second | ratio |\n|---|--:|--:|--:|--:|");
    for (pages, words) in [(1, "1"), (PAGES, "10,000, zipf")] {
        // Made before: parsing a URI takes as long as a hit.
        let requests: Vec<Vec<_>> = (0..2)
            .map(|thread| {
                (0..if pages == 1 { 1 } else { 4_000 }).map(|at| request(pages, thread * 4_000 + at)).collect()
            })
            .collect();
        for threads in [1, 2] {
            let mut contenders = cases::shared(threads, if quick { pages.min(10) } else { pages });
            let mut figures = [const { Vec::new() }; 2];
            for _ in 0..rounds {
                for ((_, answers), figures) in contenders.iter_mut().zip(&mut figures) {
                    figures.push(round(answers, &requests, calls));
                }
            }
            let [ideal, ours] = figures.map(|mut figures| {
                figures.sort_by(f64::total_cmp);
                figures[figures.len() / 2]
            });
            println!("| {words} | {threads} | {ideal:.0} | {ours:.0} | {:.2} |", ours / ideal);
        }
    }
}

/// All threads answer so many requests each: how many that are in a second.
fn round(answers: &mut [Answer], requests: &[Vec<Request<Full<Bytes>>>], calls: usize) -> f64 {
    let (barrier, threads) = (Barrier::new(answers.len()), answers.len());
    let slowest = std::thread::scope(|scope| {
        let threads = answers.iter_mut().zip(requests).map(|(answer, requests)| {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                let begin = Instant::now();
                requests.iter().cycle().take(calls).for_each(|request| answer(request.clone()));
                begin.elapsed().as_secs_f64()
            })
        });
        threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().expect("no panic")).fold(0.0, f64::max)
    });
    (threads * calls) as f64 / slowest
}

/// The request for a page that is the rarer the greater its number: the lots are the same in each run.
fn request(pages: u32, lot: u32) -> Request<Full<Bytes>> {
    let lot = f64::from(lot.wrapping_mul(0x9E37_79B9)) / f64::from(u32::MAX);
    // The sum of 1/n up to a page is nearly the logarithm of its number.
    let page = (f64::from(pages + 1).powf(lot) - 1.0) as u32;
    cases::page_request(page.min(pages - 1))
}
