//! The servers that the other tests are made with do as they are told.

use std::{pin::pin, time::Duration};

use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

use crate::{
    processes::{self, Process},
    servers::{self, Cluster, Nonsense, Nowhere, Proxy, Sentinels, Server, in_time, until},
};

#[tokio::test]
async fn a_server_is_killed_and_starts_again_with_what_it_had_saved_or_empty() {
    let mut server = Server::start().await;
    server.ask::<()>(&["SET", "x", "1"]).await;
    server.restart_with_its_data().await;
    server.ask::<()>(&["SET", "x", "2"]).await;
    server.kill();
    assert!(server.try_to_ask::<()>(&["PING"]).await.is_err());
    server.start_again().await;
    assert_eq!(server.ask::<u32>(&["GET", "x"]).await, 1, "as old as the snapshot");
    server.restart_empty().await;
    assert_eq!(server.ask::<u32>(&["EXISTS", "x"]).await, 0);
}

#[tokio::test]
async fn a_server_that_is_frozen_keeps_its_connections_and_answers_when_it_goes_on() {
    let mut server = Server::start().await;
    let mut connection = server.connect().await.unwrap();
    server.stop();
    let ping = redis::cmd("PING");
    let mut answer = pin!(ping.query_async::<String>(&mut connection));
    assert!(timeout(secs(1) / 10, &mut answer).await.is_err());
    server.go_on();
    assert_eq!(answer.await.unwrap(), "PONG");
}

#[tokio::test]
async fn a_server_is_configured_by_lines() {
    let server = Server::with(&["requirepass secret", "maxmemory 1mb", "maxmemory-policy noeviction"]).await;
    let stranger = redis::Client::open(format!("redis://{}/", server.address())).unwrap();
    let mut stranger = stranger.get_multiplexed_async_connection().await.unwrap();
    let refused = redis::cmd("GET").arg("x").query_async::<()>(&mut stranger).await.unwrap_err();
    assert_eq!(refused.code(), Some("NOAUTH"));
    let full = server
        .try_to_ask::<()>(&["SET", "x", &"x".repeat(1 << 20)])
        .await
        .and(server.try_to_ask::<()>(&["SET", "y", "1"]).await);
    assert_eq!(full.unwrap_err().code(), Some("OOM"));
}

#[tokio::test]
async fn a_cluster_moves_a_slot_and_goes_on_without_a_master() {
    let mut cluster = Cluster::start().await;
    let [there, elsewhere] = ["foo", "bar"];
    let old = cluster.master_of(there).await.address();
    let says = async |cluster: &Cluster, key: &str| {
        let node = cluster.nodes().iter().find(|node| node.address() == old).expect("it is one of them");
        node.try_to_ask::<Option<u8>>(&["GET", key]).await.map_err(|error| error.code().map(str::to_owned))
    };
    cluster.master_of(there).await.ask::<()>(&["SET", there, "1"]).await;
    cluster.begin_to_move(there, elsewhere).await;
    assert_eq!(says(&cluster, there).await, Ok(Some(1)));
    assert_eq!(says(&cluster, "{foo}not there").await, Err(Some("ASK".into())));
    cluster.end_move(there, elsewhere).await;
    assert_eq!(says(&cluster, there).await, Err(Some("MOVED".into())));

    let moved = cluster.master_of(there).await;
    assert_eq!(moved.ask::<u8>(&["GET", there]).await, 1);
    let moved = moved.address();
    cluster.lose_master_of(there, Server::stop).await;
    let new = cluster.master_of(there).await;
    assert_ne!(new.address(), moved);
    assert_eq!(new.info("role").await.as_deref(), Some("master"));
}

#[tokio::test]
async fn sentinels_name_another_master_when_theirs_is_gone() {
    let mut sentinels = Sentinels::start().await;
    let old = sentinels.master().await.address();
    sentinels.lose_master(Server::kill).await;
    let new = sentinels.master().await;
    assert_ne!(new.address(), old);
    assert_eq!(new.info("role").await.as_deref(), Some("master"));
}

#[tokio::test]
async fn a_test_that_is_killed_leaves_no_server_behind() {
    let mut process = Process::start("the_servers::a_server_in_a_process_of_its_own");
    let url = process.says().await;
    assert!(servers::connect(&url).await.is_ok());
    process.kill().await;
    until("the server is gone", async || servers::connect(&url).await.is_err()).await;
}

#[tokio::test]
#[ignore = "another test starts it in a process of its own"]
async fn a_server_in_a_process_of_its_own() {
    let server = Server::start().await;
    processes::say(&server.url());
    while processes::told().next_line().await.unwrap().is_some() {}
}

#[tokio::test]
async fn a_line_is_cut_refused_held_back_and_slow() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address()).await;
    let mut one = client(&proxy).await.unwrap();
    assert_eq!(ping(&mut one).await.unwrap(), "PONG");
    proxy.refuse(true);
    assert!(client(&proxy).await.is_err());
    assert_eq!(ping(&mut one).await.unwrap(), "PONG", "connections that there are go on");
    proxy.cut();
    assert!(ping(&mut one).await.is_err());
    proxy.refuse(false);
    let mut two = client(&proxy).await.unwrap();
    assert_eq!(proxy.connections(), 3);

    proxy.hold(true);
    let mut answer = Box::pin(ping(&mut two));
    assert!(timeout(secs(1) / 10, &mut answer).await.is_err());
    proxy.hold(false);
    assert_eq!(answer.await.unwrap(), "PONG", "it comes late");
    for (there, back) in [(1, 0), (0, 1)].map(|(there, back)| (secs(there), secs(back))) {
        let mut client = client(&proxy).await.unwrap();
        proxy.delay(there, back);
        assert!(timeout(secs(1) / 10, ping(&mut client)).await.is_err());
        proxy.delay(secs(0), secs(0));
    }
}

#[tokio::test]
async fn who_connects_to_nowhere_waits() {
    let nowhere = Nowhere::new();
    assert!(timeout(secs(1) / 10, TcpStream::connect(nowhere.address())).await.is_err());
}

#[tokio::test]
async fn a_line_loses_messages_and_nothing_else() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address()).await;
    let (sender, mut heard) = mpsc::unbounded_channel();
    let mut client = resp3(&proxy, sender).await.unwrap();
    client.subscribe("news").await.unwrap();
    proxy.lose_messages(true);
    client.subscribe("more").await.unwrap();
    assert_eq!(server.ask::<u8>(&["PUBLISH", "news", "lost"]).await, 1);
    assert_eq!(ping(&mut client).await.unwrap(), "PONG");
    proxy.lose_messages(false);
    server.ask::<()>(&["PUBLISH", "news", "heard"]).await;
    let message = loop {
        let push = in_time("a message", heard.recv()).await.unwrap();
        if push.kind == PushKind::Message {
            break push.data;
        }
    };
    assert_eq!(redis::from_redis_value::<(String, String)>(Value::Array(message)).unwrap().1, "heard");
}

#[tokio::test]
async fn a_line_says_something_else_in_place_of_an_answer() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address()).await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let mut hear = async |says, length| {
        proxy.answer(says);
        client.write_all(b"PING\r\n").await.unwrap();
        let mut heard = vec![0; length];
        in_time("something is said", client.read_exact(&mut heard)).await.unwrap();
        heard
    };
    assert_eq!(hear(Some(Nonsense::Bytes(b":42\r\n")), 5).await, b":42\r\n");
    assert_eq!(hear(None, 7).await, b"+PONG\r\n");
    assert_ne!(hear(Some(Nonsense::Random), 100).await, hear(Some(Nonsense::Random), 100).await);
    assert_eq!(hear(Some(Nonsense::EndlessLine), 64 << 20).await, vec![b'+'; 64 << 20]);
    assert_eq!(hear(Some(Nonsense::Cut), 1).await, b"+");
    assert_eq!(in_time("it hangs up", client.read(&mut [0])).await.unwrap(), 0);
}

async fn client(proxy: &Proxy) -> RedisResult<MultiplexedConnection> {
    servers::connect(&proxy.url()).await
}

async fn resp3(proxy: &Proxy, sender: mpsc::UnboundedSender<PushInfo>) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_push_sender(sender);
    let client = redis::Client::open(format!("{}?protocol=resp3", proxy.url()))?;
    client.get_multiplexed_async_connection_with_config(&config).await
}

async fn ping(client: &mut MultiplexedConnection) -> RedisResult<String> {
    redis::cmd("PING").query_async(client).await
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
