//! What a hit costs that is read from Redis each time, beside a bare GET of as many bytes over one connection.
//!
//! It starts a `redis-server` of its own. 64 tasks ask at a time; raw GETs and the contenders take turns, many short rounds
//! of each. Prints `who|redis|throughput by that of raw GETs`.

use std::{
    pin::Pin,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use peers::{
    contenders::{self, Answers, OVER_REDIS, Visitor},
    misses::read,
    origin::{Manner, Origin},
    table::median,
};

const CONCURRENT: usize = 64;
const CALLS: usize = 50;
const ROUNDS: usize = 15;

/// What a record of the response takes, more or less.
const RECORD: usize = 1_300;

/// Asks once.
type Ask = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>>>;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

#[tokio::main]
async fn main() {
    let port = (23_000 + std::process::id() % 5_000).to_string();
    let server = Command::new("redis-server").args(["--save", "", "--port", &port]).stdout(Stdio::null()).spawn();
    let _server = Server(server.expect("redis-server is installed"));
    let url = format!("redis://127.0.0.1:{port}/");
    let client = redis::Client::open(&*url).expect("a URL");
    let connection = loop {
        match client.get_multiplexed_async_connection().await {
            Ok(connection) => break connection,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let mut set = redis::cmd("SET");
    set.arg("raw").arg(vec![b'q'; RECORD]).exec_async(&mut connection.clone()).await.expect("it is stored");
    let raw: Ask = Box::new(move || {
        let mut connection = connection.clone();
        Box::pin(async move {
            let bytes: Vec<u8> = redis::cmd("GET").arg("raw").query_async(&mut connection).await.expect("an answer");
            assert_eq!(bytes.len(), RECORD);
        })
    });

    let mut cases = Vec::new();
    for (database, who) in OVER_REDIS.into_iter().enumerate() {
        // A database for each: some of them name a key alike.
        let url = format!("{url}{database}");
        let origin = Origin::new(1_024, Manner::AtOnce);
        let ask = contenders::meet_over_redis(who, origin.handler(), &url, Over).await;
        ask().await;
        // Some store behind the response's back.
        tokio::time::sleep(Duration::from_millis(200)).await;
        cases.push((who, ask, origin, Vec::new()));
    }
    for _ in 0..ROUNDS {
        let one = together(&raw).await;
        for (_, ask, _, rounds) in &mut cases {
            rounds.push(one / together(ask).await);
        }
    }
    for (who, _, origin, mut rounds) in cases {
        assert_eq!(origin.runs(), 1, "{who}: all were hits");
        println!("{who}|redis|{:.3}", median(&mut rounds));
    }
}

/// How long so many take that ask at a time.
async fn together(ask: &Ask) -> f64 {
    let begin = Instant::now();
    let tasks = (0..CONCURRENT).map(|_| {
        let calls: Vec<_> = (0..CALLS).map(|_| ask()).collect();
        tokio::spawn(async move {
            for call in calls {
                call.await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no panic");
    }
    begin.elapsed().as_secs_f64()
}

struct Over;

impl Visitor for Over {
    type Output = Ask;

    fn visit<S: Answers>(self, service: S) -> Ask {
        Box::new(move || {
            let mut service = service.clone();
            Box::pin(async move {
                let Ok(response) = service.call(peers::request()).await else { panic!("nothing fails") };
                read(response).await;
            })
        })
    }
}
