#![allow(clippy::unwrap_used)]
use axum::response::IntoResponse;
use cacheback::{Cache, Freshness, Scope, Tags};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
mod support;
use support::http::get_with;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_purge_nobody_reads_what_was_before() {
    let version = Arc::new(AtomicU64::new(0));
    let cache = Cache::builder().memory(200_000).build();
    let v = Arc::clone(&version);
    let app = axum::Router::new()
        .fallback(move || {
            let v = Arc::clone(&v);
            async move {
                let now = v.load(SeqCst);
                tokio::task::yield_now().await;
                ([("vary", "accept")], Tags::new(["t"]), now.to_string()).into_response()
            }
        })
        .layer(cache.layer(Freshness::new(Duration::from_secs(60))));
    let done = Arc::new(AtomicUsize::new(0));
    let old = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    let floor = Arc::new(AtomicU64::new(0));
    for task in 0..6 {
        let (app, done, old, floor) = (app.clone(), done.clone(), old.clone(), floor.clone());
        tasks.spawn(async move {
            let mut n = task;
            while done.load(SeqCst) == 0 {
                n += 1;
                let least = floor.load(SeqCst);
                let accept = (n % 5).to_string();
                let uri = if n % 3 == 0 { format!("/flood{n}-{task}") } else { format!("/k{}", n % 4) };
                let reply = get_with(&app, &uri, &[("accept", &accept)]).await;
                let got: u64 = reply.text().parse().unwrap();
                if got < least {
                    old.fetch_add(1, SeqCst);
                    eprintln!("{got} < {least}: {} {uri}", reply.said());
                }
            }
        });
    }
    let scopes = [Scope::tag("t"), Scope::path("/k1").unwrap(), Scope::everything()];
    for n in 0..30_000_u64 {
        let new = version.fetch_add(1, SeqCst) + 1;
        let scope = &scopes[(n % 8).min(2) as usize];
        match n % 8 {
            1 => {
                cache.purge(scope.clone()).await.unwrap();
            }
            _ => {
                cache.purge(Scope::tag("t")).await.unwrap();
                floor.store(new, SeqCst);
            }
        }
        tokio::task::yield_now().await;
    }
    done.store(1, SeqCst);
    tasks.join_all().await;
    assert_eq!(old.load(SeqCst), 0);
}
