//! What is left of an instance when it ends, and of a store when its runtime does.

use std::time::Duration;

use tokio::{
    runtime::{self, Runtime},
    task::JoinHandle,
};

use crate::{
    instance::{HOUR, Instance, connected, named},
    servers::{Server, in_time},
    support::http::Reply,
    together::somebody_waits,
};

const PAGE: &str = "http://a/page";

#[tokio::test] // P27, P70
async fn one_that_is_drained_gives_its_leases_back_and_another_takes_over() {
    let server = Server::start().await;
    let (one, two) = (Instance::at(&server, "one").await, Instance::at(&server, "two").await);
    one.origin.only_the_first(0);
    let there = one.getting(PAGE);
    one.begun(1).await;
    let here = two.getting(PAGE);
    somebody_waits(&server).await;
    assert_eq!(two.origin.runs(), 0);
    one.cache.drain(Duration::from_millis(1)).await;
    assert_eq!(in_time("an answer", here).await.unwrap().text(), "two 1", "while the other one is still at it");
    one.origin.release();
    assert_eq!(in_time("an answer", there).await.unwrap().text(), "one 1");
}

#[test] // P27, P74
fn a_store_outlives_the_runtime_on_which_it_was_made() {
    let (first, second) = (runtime(), runtime());
    let server = second.block_on(Server::start());
    let one = first.block_on(Instance::at(&server, "one"));
    assert_eq!(first.block_on(one.get(PAGE)), "one 1");
    drop(first);
    second.block_on(async {
        let two = Instance::at(&server, "two").await;
        assert_eq!(two.get(PAGE).await, "one 1");
        // What the first one makes is shared again, over connections of its new runtime.
        let mut page = 0;
        crate::servers::until("they share again", async || {
            page += 1;
            let page = format!("http://a/{page}");
            one.get(&page).await == two.get(&page).await
        })
        .await;
    });
}

#[test] // P27, P70
fn the_lease_of_a_run_that_is_gone_with_its_runtime_runs_out() {
    let (first, second) = (runtime(), runtime());
    let server = second.block_on(Server::start());
    let one = first.block_on(Instance::at(&server, "one"));
    one.origin.only_the_first(0);
    let _there = getting_on(&first, &one);
    first.block_on(one.begun(1));
    second.block_on(async {
        let two = Instance::with(connected(&server).await, named("two", &[]), |layer| layer.wait_timeout(HOUR));
        let here = two.getting(PAGE);
        somebody_waits(&server).await;
        first.shutdown_background();
        assert_eq!(in_time("an answer", here).await.unwrap().text(), "two 1");
        // The cache whose run it was goes on, here.
        one.origin.release();
        assert_eq!(one.get(PAGE).await, "two 1");
    });
}

#[test] // P27, P70
fn when_a_run_is_gone_with_its_runtime_its_cache_runs_on_that_of_the_next_reader() {
    let (first, second) = (runtime(), runtime());
    let server = second.block_on(Server::start());
    let one = first.block_on(Instance::at(&server, "one"));
    one.origin.only_the_first(0);
    let _there = getting_on(&first, &one);
    first.block_on(one.begun(1));
    let here = getting_on(&second, &one);
    first.shutdown_background();
    second.block_on(async {
        one.begun(2).await;
        one.origin.release();
        assert_eq!(in_time("an answer", here).await.unwrap().text(), "one 2");
        in_time("runs end", one.cache.settled()).await;
    });
}

fn runtime() -> Runtime {
    runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A GET that is under way on this runtime.
fn getting_on(runtime: &Runtime, instance: &Instance) -> JoinHandle<Reply> {
    let _here = runtime.enter();
    instance.getting(PAGE)
}
