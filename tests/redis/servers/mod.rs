//! Servers of a test's own: each is a process on a free port, in a directory that is gone with it, and ends with its test.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::time::Duration;

mod cluster;
mod frame;
mod proxy;
mod sentinels;
mod server;

pub(crate) use cluster::Cluster;
pub(crate) use proxy::{Nonsense, Proxy};
pub(crate) use sentinels::Sentinels;
pub(crate) use server::{Server, connect};

/// Waits until something is so that another process decides on: it is asked every few milliseconds, for half a minute.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking)
        .await
        .unwrap_or_else(|_| panic!("{what}: not in half a minute"));
}
