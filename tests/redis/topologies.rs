//! The same over a cluster, and over the master that Sentinels name; also when one that is master dies.

use crate::{
    instance::Instance,
    invalidation,
    servers::{Cluster, Sentinels},
    together,
    trouble::{Breaker, Scenario},
};

#[tokio::test] // P70, P71, P72, P73
async fn over_a_cluster_instances_are_one_cache() {
    let cluster = Cluster::start().await;
    together::a_cold_key_has_one_run(&cluster, 3).await;
    invalidation::a_purge_reaches_all(&cluster).await;
    for node in &cluster.nodes()[..3] {
        assert!(node.ask::<usize>(&["DBSIZE"]).await > 0, "each has its part");
    }
}

#[tokio::test] // P70, P73
async fn over_a_cluster_a_stale_key_has_one_run() {
    together::a_stale_key_has_one_run_behind_the_readers(&Cluster::start().await, 3).await;
}

#[tokio::test] // P71, P73, P74
async fn a_master_of_a_cluster_dies() {
    let mut cluster = Cluster::start().await;
    let mut scenario = Scenario::begin("a master of a cluster killed", &cluster).await;
    // Whoever reads anything asks for this.
    cluster.master_of("cacheback:t:all").await.kill();
    scenario.in_trouble(Breaker::Opens).await;
    scenario.ends_well().await;
}

#[tokio::test] // P71, P73
async fn a_slot_moves_from_one_master_of_a_cluster_to_another() {
    let mut cluster = Cluster::start().await;
    let page = "http://a/page";
    let (one, two) = (Instance::strict(&cluster, "one").await, Instance::strict(&cluster, "two").await);
    assert_eq!((one.get(page).await, two.get(page).await), ("one 1".to_owned(), "one 1".to_owned()));
    let mut record = Vec::new();
    for node in &cluster.nodes()[..3] {
        record.extend(node.ask::<Vec<String>>(&["KEYS", "*:r"]).await);
    }
    let record = record.remove(0);
    let from = cluster.master_of(&record).await.address();
    let mut to = None;
    for key in ["a", "b", "c"] {
        if cluster.master_of(key).await.address() != from {
            to = Some(key);
        }
    }
    let to = to.expect("three keys, not all on one master");
    cluster.begin_to_move(&record, to).await;
    assert_eq!((one.get(page).await, two.get(page).await), ("one 1".to_owned(), "one 1".to_owned()));
    cluster.end_move(&record, to).await;
    // In another's hands it is another's word: it is made anew, and shared there.
    let new = one.get(page).await;
    assert_ne!(new, "one 1");
    assert_eq!((one.get(page).await, two.get(page).await), (new.clone(), new));
    assert_eq!(one.cache.stats().store_failures + two.cache.stats().store_failures, 0);
}

#[tokio::test] // P71, P73, P74
async fn a_master_that_sentinels_watch_dies() {
    let mut sentinels = Sentinels::start().await;
    let mut scenario = Scenario::begin("a master behind Sentinels killed", &sentinels).await;
    sentinels.master().await.kill();
    scenario.in_trouble(Breaker::Opens).await;
    scenario.ends_well().await;
}
