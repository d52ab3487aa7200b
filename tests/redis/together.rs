//! Of all instances one runs for a key, whichever process they are in; and another takes over when that one is gone.

use crate::{
    instance::{HOUR, Instance, Place, connected, crowd, named, runs},
    processes::{self, Process},
    servers::{Server, in_time, until},
};

const PAGE: &str = "http://a/page";

/// Many readers of each of so many instances ask for what nobody has.
pub(crate) async fn a_cold_key_has_one_run(place: &impl Place, size: usize) {
    let instances = Instance::several(place, size).await;
    hold(&instances);
    let readers = crowd(&instances, PAGE);
    release_once_all_are_at_it(&instances).await;
    let answers = in_time("answers", readers.join_all()).await;
    assert_eq!((runs(&instances), answers.len()), (1, size * 3));
    assert!(answers.iter().all(|answer| answer == &answers[0]), "{answers:?}");
}

/// Many readers of each of so many instances ask for what is stale.
pub(crate) async fn a_stale_key_has_one_run_behind_the_readers(place: &impl Place, size: usize) {
    let fields = [("cache-control", "max-age=60, stale-while-revalidate=3600"), ("age", "100")];
    let old = Instance::with(connected(place).await, named("old", &fields), |layer| layer);
    assert_eq!(old.get(PAGE).await, "old 1");
    let instances = Instance::several(place, size).await;
    hold(&instances);
    let answers = in_time("answers", crowd(&instances, PAGE).join_all()).await;
    assert!(answers.len() == size * 3 && answers.iter().all(|answer| answer == "old 1"), "{answers:?}");
    release_once_all_are_at_it(&instances).await;
    let mut new = Vec::new();
    for instance in &instances {
        in_time("runs end", instance.cache.settled()).await;
        new.push(instance.get(PAGE).await);
    }
    assert!(new[0] != "old 1" && new.iter().all(|answer| answer == &new[0]), "{new:?}");
    assert_eq!(runs(&instances), 1);
}

fn hold(instances: &[Instance]) {
    instances.iter().for_each(|instance| instance.origin.only_the_first(0));
}

async fn release_once_all_are_at_it(instances: &[Instance]) {
    for instance in instances {
        instance.is_at_it().await;
    }
    until("one has the lease", async || runs(instances) > 0).await;
    instances.iter().for_each(|instance| instance.origin.release());
}

#[tokio::test] // P70
async fn two_instances_and_eight_run_once_for_a_key_that_none_has() {
    let servers = [Server::start().await, Server::start().await];
    a_cold_key_has_one_run(&servers[0], 2).await;
    a_cold_key_has_one_run(&servers[1], 8).await;
    for server in &servers {
        // Who waited was told, once for all, and did not wait until the lease was over.
        assert_eq!(told(server).await, 1);
    }
}

/// How often anything was told on a server.
async fn told(server: &Server) -> usize {
    let stats: String = server.ask(&["INFO", "commandstats"]).await;
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_publish:calls="));
    calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test] // P5, P70
async fn two_instances_and_eight_run_once_for_a_stale_key_and_their_readers_do_not_wait() {
    let servers = [Server::start().await, Server::start().await];
    a_stale_key_has_one_run_behind_the_readers(&servers[0], 2).await;
    a_stale_key_has_one_run_behind_the_readers(&servers[1], 8).await;
}

#[tokio::test] // P70
async fn two_processes_run_once() {
    let server = Server::start().await;
    let [mut one, mut other] = [process(&server, "one").await, process(&server, "other").await];
    one.tell(&format!("hold\nget {PAGE}\nbegun")).await;
    assert_eq!(one.says().await, "begun");
    other.tell(&format!("get {PAGE}")).await;
    somebody_waits(&server).await;
    one.tell("release").await;
    assert_eq!(one.says().await, "one 1 (fwd=uri-miss; fwd-status=200; stored)");
    let found = other.says().await;
    assert!(found.starts_with("one 1 (hit; "), "{found}");
    other.tell("runs").await;
    assert_eq!(other.says().await, "0");
}

#[tokio::test] // P70
async fn when_the_process_that_runs_is_killed_another_takes_over_before_its_patience_is_over() {
    let server = Server::start().await;
    let mut there = process(&server, "there").await;
    there.tell(&format!("hold\nget {PAGE}\nbegun")).await;
    assert_eq!(there.says().await, "begun");
    let here = Instance::with(connected(&server).await, named("here", &[]), |layer| layer.wait_timeout(HOUR));
    let reader = here.getting(PAGE);
    somebody_waits(&server).await;
    there.kill().await;
    assert_eq!(reader.await.unwrap().text(), "here 1");
}

#[tokio::test] // P70
async fn a_lease_lasts_for_as_long_as_its_run() {
    let server = Server::start().await;
    let one = Instance::at(&server, "one").await;
    one.origin.only_the_first(0);
    let reader = one.getting(PAGE);
    one.begun(1).await;
    let lease = server.ask::<Vec<String>>(&["KEYS", "*:l"]).await.remove(0);
    let (mut least, mut renewed) = (i64::MAX, 0);
    until("it is renewed twice", async || {
        let left: i64 = server.ask(&["PTTL", &lease]).await;
        assert!((1..=5_000).contains(&left), "{left}");
        renewed += usize::from(left > least);
        least = left;
        renewed == 2
    })
    .await;
    one.origin.release();
    assert_eq!(reader.await.unwrap().text(), "one 1");
    in_time("runs end", one.cache.settled()).await;
    assert_eq!(server.ask::<usize>(&["EXISTS", &lease]).await, 0);
}

#[tokio::test] // P7
async fn what_a_process_has_made_is_as_old_as_it_is_whatever_time_of_day_it_is_there() {
    let server = Server::start().await;
    for time in ["+15m", "-15m"] {
        let mut there = Process::start_at("together::an_instance", time);
        there.tell(&format!("at {} there\nget http://a/{time}", server.url())).await;
        assert_eq!(there.says().await, "there 1 (fwd=uri-miss; fwd-status=200; stored)");
        there.tell("settle").await;
        assert_eq!(there.says().await, "settled");
        let here = Instance::at(&server, "here").await;
        let found = here.reply(&format!("http://a/{time}")).await;
        assert_eq!(found.text(), "there 1");
        assert_is_new(&found.said());
        assert!(found.field("age").parse::<u64>().unwrap() < 60, "{found:?}");
        here.get(&format!("http://a/{time}/here")).await;
        there.tell(&format!("get http://a/{time}/here")).await;
        let found = there.says().await;
        assert!(found.starts_with("here 1 (hit; "), "{found}");
        assert_is_new(&found);
    }
}

/// Of its hour less than a minute is over.
fn assert_is_new(said: &str) {
    let (_, rest) = said.split_once("ttl=").unwrap_or_else(|| panic!("{said}"));
    let ttl: i64 = rest.split(';').next().unwrap().parse().unwrap();
    assert!((3_540..=3_600).contains(&ttl), "{said}");
}

/// An instance in a process of its own.
async fn process(server: &Server, name: &str) -> Process {
    let mut process = Process::start("together::an_instance");
    process.tell(&format!("at {} {name}", server.url())).await;
    process
}

/// Waits until a run waits for that of another instance.
pub(crate) async fn somebody_waits(server: &Server) {
    until("somebody waits", async || !server.ask::<Vec<String>>(&["KEYS", "*}:w*"]).await.is_empty()).await;
}

#[tokio::test]
#[ignore = "other tests start it in a process of its own"]
async fn an_instance() {
    let (mut told, mut instance) = (processes::told(), None);
    while let Some(line) = told.next_line().await.unwrap() {
        let words: Vec<_> = line.split(' ').collect();
        if let ["at", url, name] = words[..] {
            let place = cacheback::RedisStore::builder().url(url);
            instance = Some(Instance::at(&place, name).await);
        }
        let instance = instance.as_ref().expect("it is told at first where it is");
        match words[..] {
            ["hold"] => instance.origin.only_the_first(0),
            ["release"] => instance.origin.release(),
            ["begun"] => {
                instance.begun(1).await;
                processes::say("begun");
            }
            ["settle"] => {
                instance.cache.settled().await;
                processes::say("settled");
            }
            ["runs"] => processes::say(&instance.origin.runs().to_string()),
            ["get", uri] => {
                let (instance, uri) = (instance.clone(), uri.to_owned());
                tokio::spawn(async move {
                    let reply = instance.reply(&uri).await;
                    processes::say(&format!("{} ({})", reply.text(), reply.said()));
                });
            }
            _ => {}
        }
    }
}
