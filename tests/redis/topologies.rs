//! The same over a cluster, and over the master that Sentinels name; also when one that is master dies.

use cacheback::Scope;

use crate::{
    instance::{Instance, Place},
    invalidation,
    servers::{Cluster, Sentinels, Server, until},
    together,
    trouble::{Breaker, Scenario},
};

const PAGE: &str = "http://a/page";
/// Whoever reads anything asks for this.
const TOKEN: &str = "cacheback:t:all";

#[tokio::test] // P70, P71, P72, P73
async fn over_a_cluster_instances_are_one_cache() {
    let mut cluster = Cluster::start().await;
    together::a_cold_key_has_one_run(&cluster, 3).await;
    invalidation::a_purge_reaches_all(&cluster).await;
    for node in &cluster.nodes()[..3] {
        assert!(node.ask::<usize>(&["DBSIZE"]).await > 0, "each has its part");
    }
    // Each read compares all tokens, wherever they are: what an operator deletes is gone at once.
    let two = Instance::strict(&cluster, "two").await;
    for token in ["cacheback:t:uri://a/tagged/page", "cacheback:t:tag:quotes", TOKEN] {
        let mut before = String::new();
        // A cluster that has just begun may take a connection away once more: then the page is made anew.
        until("the page is shared", async || {
            let last = std::mem::replace(&mut before, two.get("http://a/tagged/page").await);
            before == last
        })
        .await;
        assert_eq!(cluster.master_of(token).await.ask::<usize>(&["DEL", token]).await, 1);
        assert_ne!(two.get("http://a/tagged/page").await, before, "{token}");
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
    cluster.master_of(TOKEN).await.kill();
    scenario.in_trouble(Breaker::Opens).await;
    scenario.ends_well().await;
}

#[tokio::test] // P71, P73
async fn a_slot_moves_from_one_master_of_a_cluster_to_another() {
    let mut cluster = Cluster::start().await;
    let (one, two) = (Instance::strict(&cluster, "one").await, Instance::strict(&cluster, "two").await);
    assert_eq!((one.get(PAGE).await, two.get(PAGE).await), ("one 1".to_owned(), "one 1".to_owned()));
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
    assert_eq!((one.get(PAGE).await, two.get(PAGE).await), ("one 1".to_owned(), "one 1".to_owned()));
    cluster.end_move(&record, to).await;
    // In another's hands it is another's word: it is made anew, and shared there.
    let new = one.get(PAGE).await;
    assert_ne!(new, "one 1");
    assert_eq!((one.get(PAGE).await, two.get(PAGE).await), (new.clone(), new));
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

#[tokio::test] // P70, P71, P72, P73
async fn over_the_master_that_sentinels_name_instances_are_one_cache() {
    let sentinels = Sentinels::start().await;
    together::a_cold_key_has_one_run(&sentinels, 3).await;
    invalidation::a_purge_reaches_all(&sentinels).await;
}

#[tokio::test] // P71, P73
async fn what_was_purged_does_not_come_back_with_a_replica_that_has_not_heard_of_it() {
    let mut sentinels = Sentinels::start().await;
    let both = sharing(&sentinels).await;
    let [master, replica] = sentinels.servers();
    let token = purged_behind(&both, master, replica).await;
    sentinels.lose_master(Server::kill).await;
    assert_eq!(sentinels.master().await.ask::<Vec<u8>>(&["GET", TOKEN]).await, token, "as if nothing had happened");
    stays_purged(&both).await;
}

#[tokio::test] // P71, P73
async fn what_was_purged_does_not_come_back_with_a_replica_in_a_cluster() {
    let mut cluster = Cluster::start().await;
    let both = sharing(&cluster).await;
    let address = cluster.master_of(TOKEN).await.address();
    let nodes = cluster.nodes();
    let place = nodes.iter().position(|node| node.address() == address).unwrap();
    let token = purged_behind(&both, &nodes[place], &nodes[place + 3]).await;
    cluster.lose_master_of(TOKEN, Server::kill).await;
    assert_eq!(
        cluster.master_of(TOKEN).await.ask::<Vec<u8>>(&["GET", TOKEN]).await,
        token,
        "as if nothing had happened"
    );
    stays_purged(&both).await;
}

#[tokio::test] // P71, P73, P74
async fn a_master_that_was_frozen_until_another_took_over_is_not_read_when_it_goes_on() {
    let mut sentinels = Sentinels::start().await;
    let both = sharing(&sentinels).await;
    sentinels.lose_master(Server::stop).await;
    until("they share again", async || share(&both).await).await;
    until("it is purged", async || both[0].cache.purge(Scope::everything()).await.is_ok()).await;
    let old = &mut sentinels.servers()[0];
    old.go_on();
    until("it follows the other one", async || {
        stays_purged(&both).await;
        let three = Instance::lazy(&sentinels, "three");
        assert_ne!(three.get(PAGE).await, "one 1");
        sentinels.servers()[0].info("role").await.as_deref() == Some("slave")
    })
    .await;
}

/// Two instances, the second one without memory, that have the page from what they share.
async fn sharing(place: &impl Place) -> [Instance; 2] {
    let both = [Instance::at(place, "one").await, Instance::strict(place, "two").await];
    for instance in &both {
        assert_eq!(instance.get(PAGE).await, "one 1");
    }
    both
}

/// Purges everything when the replica, which has all, hears no more of it. Gives the token that it still has.
async fn purged_behind(both: &[Instance; 2], master: &Server, replica: &Server) -> Vec<u8> {
    let size = async |server: &Server| server.ask::<usize>(&["DBSIZE"]).await;
    until("the replica has all", async || size(replica).await == size(master).await).await;
    let token = master.ask(&["GET", TOKEN]).await;
    replica.lose_touch().await;
    until("it is purged", async || both[0].cache.purge(Scope::everything()).await.is_ok()).await;
    token
}

/// Nobody is given what there was, neither before they share again nor after that.
async fn stays_purged(both: &[Instance; 2]) {
    until("they share again", async || {
        for instance in both {
            assert_ne!(instance.get(PAGE).await, "one 1");
        }
        share(both).await
    })
    .await;
}

/// Whether one has what the other one makes.
async fn share([one, two]: &[Instance; 2]) -> bool {
    let page = format!("http://a/{}", one.origin.runs());
    one.get(&page).await == two.get(&page).await
}
