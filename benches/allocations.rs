//! How often a hit allocates, and what an entry takes in memory beyond what it holds.
//!
//! `cargo bench --bench allocations` prints both. Counts are the same on every machine: more than the ceilings that are
//! stated here end the program with an error, also where it runs as a test.

mod cases;

use std::convert::Infallible;

use allocation_counter::measure;
use bytes::Bytes;
use cacheback::Cache;
use cases::{Call, HOUR, KIB};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::Full;
use tokio::runtime::Runtime;
use tower::{Layer, Service, service_fn};

/// What an entry may take beyond what it holds, in bytes.
const BEYOND: i64 = 400;
/// How many entries are weighed.
const ENTRIES: u32 = 10_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    println!("| case | allocations | of bytes | at most |\n|---|--:|--:|--:|");
    let mut harness = cases::harness();
    let (made, bytes) = counted(&mut harness);
    for (name, mut call, ceiling) in [
        ("ideal hit", cases::ideal(KIB), 3),
        ("fresh hit", cases::fresh(KIB), 4),
        ("fresh hit, 1 MiB", cases::fresh(KIB * KIB), 4),
        ("fresh hit, no extensions", cases::without_extensions(KIB), 6),
        ("stale hit", cases::stale(KIB), 4),
        ("stale hit, one more field", cases::stale_by_the_layer(KIB), 5),
        ("bare axum handler", cases::handler(KIB), u64::MAX),
    ] {
        let (all, of) = counted(&mut call);
        let all = all - made;
        // A request without extensions is made by dropping those that the harness has made: they count for both.
        assert!(all <= ceiling, "{name}: {all} allocations, and {ceiling} are too many");
        let ceiling = if ceiling == u64::MAX { String::new() } else { ceiling.to_string() };
        println!("| {name} | {all} | {} | {ceiling} |", of - bytes);
    }
    let (all, of) = counted(&mut cases::typed());
    println!("| fresh hit, typed: its key | {all} | {of} | 1 |");
    assert!(all <= 1);
    let beyond = beyond_what_it_holds(&runtime);
    println!("\nAn entry takes {beyond} bytes beyond its key, its fields and its body, and {BEYOND} at most.");
    assert!(beyond <= BEYOND);
}

/// How many allocations there are in one call, and of how many bytes.
fn counted(call: &mut Call) -> (u64, u64) {
    (0..100).for_each(|_| call());
    let counted = measure(call);
    (counted.count_total, counted.bytes_total)
}

/// What an entry takes beyond its path and host, its fields (a `HeaderMap`, with those that a cache adds: `Age`,
/// `Cache-Status`, `Content-Length`), and its body (a `Bytes`).
fn beyond_what_it_holds(runtime: &Runtime) -> i64 {
    let cache = Cache::builder().memory(1 << 30).build();
    let inner = service_fn(async |_: Request<Full<Bytes>>| Ok::<_, Infallible>(cases::response(KIB).map(Full::new)));
    let mut service = cache.layer(HOUR).layer(inner);
    let held = measure(|| {
        runtime.block_on(async {
            for page in 0..ENTRIES {
                let mut request = cases::request::<Full<Bytes>>();
                *request.uri_mut() = format!("/quotes/{page:08}").parse().expect("a URI");
                cases::read(service.call(request).await.unwrap_or_else(|never| match never {}));
            }
            cache.settled().await;
        });
    });
    let (key, mut copies) = ("/quotes/00000000quotes.example".len() as i64, None);
    let mut fields = cases::headers();
    for name in ["age", "cache-status", "content-length"] {
        fields.insert(name, HeaderValue::from_static("0"));
    }
    let holds = measure(|| {
        let body = Bytes::from(vec![0; KIB]);
        copies = Some(Box::new((with_their_values(&fields).clone(), body.clone(), body)));
    });
    let holds = holds.bytes_current - size_of::<Bytes>() as i64;
    assert_eq!(cache.stats().keys, ENTRIES as usize);
    drop((copies, service));
    held.bytes_current / i64::from(ENTRIES) - key - holds
}

/// The fields with values of their own: all that have none in a program are parts of one allocation.
fn with_their_values(fields: &HeaderMap) -> HeaderMap {
    let values = Bytes::from(fields.values().map(HeaderValue::as_bytes).collect::<Vec<_>>().concat());
    let mut at = 0;
    let own = |value: &HeaderValue| {
        at += value.len();
        HeaderValue::from_maybe_shared(values.slice(at - value.len()..at)).expect("a value")
    };
    fields.values().map(own).zip(fields.keys().cloned()).map(|(value, name)| (name, value)).collect()
}
