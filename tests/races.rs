//! Whoever overtakes a run wins, by whatever scope, over every kind of run, wherever it is: every such race is run.
//!
//! A [`Cell`] says what runs, how far it has come, who overtakes it and who comes late; a [`Race`] runs it. Those who
//! waited before get the old response, and it is not stored. Those who come late get nothing of it: they wait for a new
//! run, or get what was expired once more and one refresh begins, and whichever run lands last, the new one stays. What
//! a scope does not reach goes on as if nothing had been.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "races/cells.rs"]
mod cells;
#[path = "races/race.rs"]
mod race;
mod support;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, Mutex, mpsc},
    thread::{self, ThreadId},
};

use axum::response::IntoResponse;
use cacheback::{Cache, CachebackLayer, Freshness, Key, Scope, Tags};
use tokio::task;
use tower::{Layer as _, ServiceExt as _, service_fn};

use cells::{Aim, By, Cell, Kind, Late, Order, Page, Post, Stage, Via};
use race::Race;
use support::{
    by_hand::{begin, now},
    http::{Clients, Origin, Reply, get_with, request, secs},
    net::infallible,
    typed::Gate,
};

/// Runs every race of a kind. The number of cells is written down, so that none is lost unseen.
async fn run_all(kind: Kind, cells: usize) {
    let all = Cell::all(kind);
    assert_eq!(all.len(), cells, "the races of {kind:?}");
    for cell in all {
        Race::run(cell).await;
    }
}

#[tokio::test(start_paused = true)] // P30, P31, P33, P34, P36
async fn a_cold_run_that_is_overtaken_loses() {
    run_all(Kind::Cold, 1_790).await;
}

#[tokio::test(start_paused = true)] // P11, P30, P31, P33, P34, P36
async fn a_run_that_its_client_has_left_loses() {
    run_all(Kind::Left, 1_790).await;
}

#[tokio::test(start_paused = true)] // P31, P33, P34, P36
async fn a_refresh_behind_the_reader_loses() {
    run_all(Kind::Stale, 1_684).await;
}

#[tokio::test(start_paused = true)] // P31, P33, P34, P36
async fn a_run_for_the_reader_of_something_too_stale_loses() {
    run_all(Kind::TooStale, 1_768).await;
}

#[tokio::test(start_paused = true)] // P26, P31, P33, P34, P36
async fn a_run_that_a_request_forces_loses() {
    run_all(Kind::Forced, 1_690).await;
}

#[tokio::test(start_paused = true)] // P26, P31, P33, P34, P36
async fn a_run_that_the_service_is_asked_for_loses() {
    run_all(Kind::Refreshed, 906).await;
}

#[tokio::test(start_paused = true)] // P8, P31, P33, P34, P36
async fn an_early_refresh_loses() {
    run_all(Kind::Early, 2_046).await;
}

#[tokio::test(start_paused = true)] // P33, P34, P36
async fn a_put_whose_body_is_still_coming_loses() {
    run_all(Kind::Put, 586).await;
}

#[test]
fn every_value_of_every_dimension_is_raced() {
    let cells: Vec<_> = Kind::ALL.iter().flat_map(|kind| Cell::all(*kind)).collect();
    let values = |of: fn(&Cell) -> String| cells.iter().map(of).collect::<BTreeSet<_>>().len();
    let by = Aim::ALL.len() * 2 + Post::ALL.len() + Via::ALL.len();
    let kinds = Kind::ALL.len();
    assert_eq!(values(|cell| format!("{:?} {:?}", cell.kind, cell.by)), kinds * by);
    // Only two kinds of runs let others go first. What is put has no task, and its head is there from the first.
    assert_eq!(values(|cell| format!("{:?} {:?}", cell.kind, cell.stage)), kinds * 4 + 2 - 2);
    assert_eq!(values(|cell| format!("{:?} {:?}", cell.kind, cell.late)), kinds * Late::ALL.len());
    assert_eq!(values(|cell| format!("{:?} {:?}", cell.kind, cell.order)), kinds * Order::ALL.len());
    assert_eq!(values(|cell| format!("{:?} {}", cell.kind, cell.followed)), kinds * 2 - 1);
    assert_eq!(values(|cell| format!("{:?} {:?}", cell.stage, cell.page)), Stage::ALL.len() * Page::ALL.len());
}

#[tokio::test(start_paused = true)] // P22, P34
async fn runs_that_fail_neither_bring_back_what_was_purged_nor_make_fresh_what_was_expired() {
    let mut raced = 0;
    for cell in Kind::ALL.iter().flat_map(|kind| Cell::all(*kind)) {
        let may_fail = cell.stage == Stage::Begun && !cell.followed;
        let plain = cell.late == Late::Readers && cell.order == Order::OldFirst;
        if may_fail && plain && matches!(cell.by, By::Expire(_) | By::Purge(_)) && cell.wants_new() {
            Race::run_failing(cell).await;
            raced += 1;
        }
    }
    assert_eq!(raced, 528);
}

#[tokio::test(start_paused = true)] // P30, P44
async fn the_runs_of_all_variants_of_a_page_are_overtaken_together() {
    for (scope, begun) in [
        (Scope::uri("/x").unwrap(), 5),
        (Scope::path_prefix("/").unwrap(), 5),
        // What selects among the variants is forgotten as well: one run first tells it anew.
        (Scope::everything(), 4),
        // Those who are late wait until the old runs have landed.
        (Scope::tag("t"), 3),
    ] {
        let origin = Origin::new(|seen| {
            let mut response = ([("vary", "accept-language")], seen.run.to_string()).into_response();
            response.extensions_mut().insert(Tags::new(["t"]));
            response
        });
        let cache = Cache::new();
        let app = origin.behind(cache.layer(secs(60)));
        get_with(&app, "/x", &[("accept-language", "en")]).await;
        origin.only_the_first(1);
        let both = async |clients: &mut Clients| {
            for language in ["de", "fr"] {
                clients.send(&app, request("GET", "/x", &[("accept-language", language)])).await;
            }
        };
        let (mut before, mut after) = (Clients::new(), Clients::new());
        both(&mut before).await;
        origin.begun(3).await;
        assert_eq!(cache.purge(&scope).await.unwrap().entries, 1);
        both(&mut after).await;
        assert_eq!(origin.runs(), begun, "{scope:?}");
        origin.release();
        let (before, after) = (before.answers().await, after.answers().await);
        assert_eq!(before.iter().map(Reply::text).collect::<Vec<_>>(), ["2", "3"], "{scope:?}");
        assert_eq!(after.iter().map(Reply::text).collect::<BTreeSet<_>>(), ["4", "5"].into(), "{scope:?}");
        let stored = cache.peek(Scope::everything());
        let stored: BTreeSet<_> = stored.iter().map(|stored| stored.value().content().to_vec()).collect();
        assert_eq!(stored, [b"4".to_vec(), b"5".to_vec()].into(), "{scope:?}");
    }
}

#[tokio::test] // P32
async fn what_lands_while_an_invalidation_removes_is_not_stored() {
    /// As another thread removes it, it lets a run land and waits until that has.
    struct Removed {
        land: Gate,
        landed: Mutex<mpsc::Receiver<()>>,
        made_by: ThreadId,
    }
    impl Drop for Removed {
        fn drop(&mut self) {
            if thread::current().id() != self.made_by {
                self.land.open();
                let _landed_or_failed = self.landed.lock().unwrap().recv();
            }
        }
    }

    for soft in [false, true] {
        let land = Gate::new();
        let layer = CachebackLayer::typed::<&'static str, Option<Arc<Removed>>>(|key| Key::from(*key))
            .freshness(Freshness::exact(secs(60)));
        let gate = land.clone();
        let service = layer.layer(service_fn(move |_| {
            let gate = gate.clone();
            async move {
                gate.passed().await;
                Ok::<_, Infallible>(None)
            }
        }));
        let (landed, told) = mpsc::channel();
        let (told, made_by) = (Mutex::new(told), thread::current().id());
        let removed = Arc::new(Removed { land: land.clone(), landed: told, made_by });
        let gone = Arc::downgrade(&removed);
        layer.put("stored", Some(removed)).await.unwrap();
        let run = begin(service.oneshot("under way"));
        let cache = layer.cache().clone();
        let invalidation = task::spawn_blocking(move || {
            let all = Scope::everything();
            let reached = if soft { now(cache.expire(all)) } else { now(cache.purge(all)) };
            land.open();
            reached.unwrap().entries
        });
        assert!(infallible(run.await.unwrap()).is_none());
        landed.send(()).unwrap();
        assert_eq!(invalidation.await.unwrap(), 1, "expired: {soft}");
        assert!(gone.upgrade().is_none(), "expired: {soft}");
        assert!(layer.cache().peek(Scope::everything()).is_empty(), "expired: {soft}");
    }
}
