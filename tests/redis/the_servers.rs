//! The servers that the other tests are made with do as they are told.

use std::{pin::pin, time::Duration};

use tokio::time::timeout;

use crate::servers::Server;

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
    let server = Server::start().await;
    let mut connection = server.connect().await.unwrap();
    server.stop();
    let ping = redis::cmd("PING");
    let mut answer = pin!(ping.query_async::<String>(&mut connection));
    assert!(timeout(Duration::from_millis(100), &mut answer).await.is_err());
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
