//! Whatever becomes of a Redis no request fails for it, none waits for long, and instances share again without a restart.

use std::{net::Ipv4Addr, time::Duration};

use cacheback::{ErrorKind, Scope};

use crate::{
    figures::Figures,
    instance::{Instance, Place, connected, named},
    servers::{Nonsense, Nowhere, Proxy, Server, in_time, until},
    support::http::Reply,
};

/// How long a request waits, unless told otherwise: the figures are about this.
const PATIENCE: Duration = Duration::from_millis(100);

/// Two instances before, in and after trouble.
pub(crate) struct Scenario {
    figures: Figures,
    one: Instance,
    two: Instance,
    pages: usize,
    /// Pages that are in both memories, and what they say.
    kept: (&'static str, String),
    gone: (&'static str, String),
    purged: bool,
}

/// What becomes of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breaker {
    Opens,
    /// Answers come, and some of them are refusals; or they come late, but in time.
    StaysClosed,
}

impl Scenario {
    /// All is well at first.
    pub(crate) async fn begin(name: &'static str, place: &impl Place) -> Self {
        let place = place.store().patience(PATIENCE);
        let (one, two) = (Instance::at(&place, "one").await, Instance::at(&place, "two").await);
        let mut scenario = Self::of(name, one, two);
        scenario.share_all().await;
        for page in [&mut scenario.kept, &mut scenario.gone] {
            page.1 = scenario.one.get(page.0).await;
            assert_eq!(scenario.two.get(page.0).await, page.1);
        }
        scenario
    }

    /// It begins with trouble.
    fn late(name: &'static str, place: &impl Place) -> Self {
        let place = place.store().patience(PATIENCE);
        Self::of(name, Instance::lazy(&place, "one"), Instance::lazy(&place, "two"))
    }

    fn of(name: &'static str, one: Instance, two: Instance) -> Self {
        let (kept, gone) = (("http://a/kept", String::new()), ("http://a/gone", String::new()));
        Self { figures: Figures::of(name), one, two, pages: 0, kept, gone, purged: false }
    }

    /// Something is wrong by now.
    pub(crate) async fn in_trouble(&mut self, breaker: Breaker) {
        self.figures.trouble();
        if breaker == Breaker::StaysClosed {
            for _ in 0..10 {
                self.miss().await;
            }
            return;
        }
        for instance in [self.one.clone(), self.two.clone()] {
            until("the breaker opens", async || {
                self.miss().await;
                instance.cache.stats().store_is_down
            })
            .await;
        }
        self.figures.is_down();
        for _ in 0..20 {
            self.miss().await;
        }
        if !self.kept.1.is_empty() {
            for instance in [&self.one, &self.two] {
                let reply = self.ask(instance, self.kept.0).await;
                assert_eq!(reply.text(), self.kept.1, "memory serves for itself");
            }
            let told = self.one.cache.purge(Scope::uri(self.gone.0).unwrap()).await;
            assert_eq!(told.map_err(|error| error.kind()), Err(ErrorKind::Store));
            self.purged = true;
            assert_ne!(self.ask(&self.one, self.gone.0).await.text(), self.gone.1);
        }
    }

    /// Nothing is wrong any more.
    pub(crate) async fn ends_well(mut self) {
        self.figures.is_back();
        until("they share again", async || self.share().await).await;
        self.figures.works_again();
        self.share_all().await;
        if self.purged {
            // What was purged meanwhile the other one lets go of, too: it was told as soon as anybody could be.
            until("it is gone", async || self.two.get(self.gone.0).await != self.gone.1).await;
        }
        self.figures.end();
    }

    /// Both are asked for what nobody has.
    async fn miss(&mut self) {
        self.pages += 1;
        let page = format!("http://a/{}", self.pages);
        let (one, two) = tokio::join!(self.ask(&self.one, &page), self.ask(&self.two, &page));
        assert!(!one.text().is_empty() && !two.text().is_empty());
    }

    /// Whether the other one has what one has made.
    async fn share(&mut self) -> bool {
        self.pages += 1;
        let page = format!("http://a/{}", self.pages);
        let made = self.ask(&self.one, &page).await;
        in_time("runs end", self.one.cache.settled()).await;
        made.text() == self.ask(&self.two, &page).await.text()
    }

    async fn share_all(&mut self) {
        // Also where the machine is so busy that the breaker opens now and then.
        for _ in 0..10 {
            until("they share", async || self.share().await).await;
        }
    }

    async fn ask(&self, instance: &Instance, page: &str) -> Reply {
        let reply = async {
            let reply = instance.reply(page).await;
            if reply.status.is_success() { Ok(reply) } else { Err(reply) }
        };
        self.figures.request(reply).await.expect("the service never fails")
    }
}

#[tokio::test] // P74
async fn absent_at_start() {
    let mut server = Server::start().await;
    server.kill();
    let mut scenario = Scenario::late("absent at start", &server);
    scenario.in_trouble(Breaker::Opens).await;
    server.restart_empty().await;
    scenario.ends_well().await;
}

#[tokio::test] // P74
async fn at_an_address_where_nobody_answers() {
    let nowhere = Nowhere::new();
    let mut scenario = Scenario::late("nobody answers at its address", &nowhere);
    scenario.in_trouble(Breaker::Opens).await;
    scenario.figures.end();
}

#[tokio::test] // P71, P74
async fn killed_and_started_again_empty() {
    let mut server = Server::start().await;
    let mut scenario = Scenario::begin("killed, and started again empty", &server).await;
    server.kill();
    scenario.in_trouble(Breaker::Opens).await;
    server.restart_empty().await;
    scenario.ends_well().await;
}

#[tokio::test] // P71, P74
async fn killed_and_started_again_with_what_it_had_once() {
    let mut server = Server::start().await;
    let mut scenario = Scenario::begin("killed, and started again with old data", &server).await;
    server.save().await;
    server.kill();
    scenario.in_trouble(Breaker::Opens).await;
    server.start_again().await;
    scenario.ends_well().await;
}

#[tokio::test] // P74
async fn frozen() {
    let mut server = Server::start().await;
    let mut scenario = Scenario::begin("frozen (SIGSTOP)", &server).await;
    server.stop();
    scenario.in_trouble(Breaker::Opens).await;
    server.go_on();
    scenario.ends_well().await;
}

#[tokio::test] // P74
async fn frozen_until_nobody_waits_for_it_any_more() {
    let mut server = Server::start().await;
    let mut scenario = Scenario::begin("frozen for longer than connections last", &server).await;
    server.stop();
    scenario.in_trouble(Breaker::Opens).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    server.go_on();
    scenario.ends_well().await;
}

#[tokio::test] // P74
async fn out_of_memory() {
    let server = Server::start().await;
    let mut scenario = Scenario::begin("out of memory (noeviction)", &server).await;
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    scenario.in_trouble(Breaker::StaysClosed).await;
    // What takes no room is done all the same.
    scenario.one.cache.purge_path("/path").await.expect("a token is deleted");
    scenario.one.cache.purge_tag("tag").await.expect("the buckets are deleted");
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    scenario.ends_well().await;
}

#[tokio::test] // P74
async fn without_enough_replicas_to_take_writes() {
    let server = Server::start().await;
    let mut scenario = Scenario::begin("refusing writes (NOREPLICAS)", &server).await;
    server.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    scenario.in_trouble(Breaker::StaysClosed).await;
    server.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    scenario.ends_well().await;
}

#[tokio::test] // P74
async fn read_only() {
    let server = Server::start().await;
    let mut scenario = Scenario::begin("made a replica (READONLY)", &server).await;
    server.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    scenario.in_trouble(Breaker::Opens).await;
    server.ask::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    scenario.ends_well().await;
}

#[tokio::test] // P74
async fn with_a_password_that_nobody_knows() {
    let server = Server::with(&["requirepass right"]).await;
    let port = server.address().port();
    let wrong = format!("redis://:wrong@{}:{port}/", Ipv4Addr::LOCALHOST);
    let wrong = cacheback::RedisStore::builder().url(wrong);
    let error = wrong.clone().connect().await.expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(!error.to_string().contains("wrong@"), "{error}");
    let mut scenario = Scenario::late("with another password", &wrong);
    scenario.in_trouble(Breaker::Opens).await;
    server.ask::<()>(&["CONFIG", "SET", "requirepass", ""]).await;
    scenario.ends_well().await;
    // And with the right one it was never refused.
    let server = Server::with(&["requirepass right"]).await;
    Scenario::begin("with its password", &server).await.ends_well().await;
}

#[tokio::test] // P64, P74
async fn talking_nonsense() {
    let nonsense = [
        ("answering with a length of 4 GiB", Nonsense::Bytes(b"$4294967295\r\n")),
        ("answering with an array of 4 G", Nonsense::Bytes(b"*4294967295\r\n")),
        ("answering with errors", Nonsense::Bytes(b"-ERR no\r\n")),
        ("answering to something else", Nonsense::Bytes(b"+OK\r\n")),
        ("answering at random", Nonsense::Random),
        ("hanging up in the middle of an answer", Nonsense::Cut),
    ];
    let scenarios = nonsense.map(async |(name, nonsense)| {
        let server = Server::start().await;
        let proxy = Proxy::to(server.address()).await;
        let mut scenario = Scenario::begin(name, &proxy).await;
        proxy.answer(Some(nonsense));
        scenario.in_trouble(Breaker::Opens).await;
        proxy.answer(None);
        scenario.ends_well().await;
    });
    for scenario in scenarios {
        scenario.await;
    }
}

#[tokio::test] // P74
async fn slow() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address()).await;
    let mut scenario = Scenario::begin("slow: 5 ms each way", &proxy).await;
    proxy.delay(Duration::from_millis(5), Duration::from_millis(5));
    scenario.in_trouble(Breaker::StaysClosed).await;
    proxy.delay(Duration::ZERO, Duration::ZERO);
    scenario.ends_well().await;
}

#[tokio::test] // P74
async fn too_slow() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address()).await;
    let mut scenario = Scenario::begin("slow: 300 ms each way", &proxy).await;
    proxy.delay(Duration::from_millis(300), Duration::from_millis(300));
    scenario.in_trouble(Breaker::Opens).await;
    proxy.delay(Duration::ZERO, Duration::ZERO);
    scenario.ends_well().await;
}

#[tokio::test] // P72, P74
async fn cut_off() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address()).await;
    let mut scenario = Scenario::begin("cut off: connections refused", &proxy).await;
    proxy.refuse(true);
    proxy.cut();
    scenario.in_trouble(Breaker::Opens).await;
    proxy.refuse(false);
    scenario.ends_well().await;
}

#[tokio::test] // P72, P74
async fn cut_off_without_a_word() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address()).await;
    let mut scenario = Scenario::begin("cut off: nothing comes through", &proxy).await;
    proxy.hold(true);
    scenario.in_trouble(Breaker::Opens).await;
    proxy.hold(false);
    scenario.ends_well().await;
}

#[tokio::test] // P71
async fn what_a_server_brings_back_from_before_is_believed_by_those_who_trust_it() {
    let mut server = Server::start().await;
    let page = "http://a/page";
    let one = Instance::at(&server, "one").await;
    assert_eq!(one.get(page).await, "one 1");
    server.restart_with_its_data().await;
    assert!(!server.ask::<Vec<String>>(&["KEYS", "*:r"]).await.is_empty(), "it is there");
    let two = Instance::at(&server, "two").await;
    assert_eq!(two.get(page).await, "two 1");

    let mut server = Server::start().await;
    let trusting = |server: &Server| server.store().trust_restarts();
    let one = Instance::over(connected(&trusting(&server)).await, "one");
    assert_eq!(one.get(page).await, "one 1");
    server.restart_with_its_data().await;
    let two = Instance::with(connected(&trusting(&server)).await, named("two", &[]), |layer| layer);
    assert_eq!(two.get(page).await, "one 1");
}
