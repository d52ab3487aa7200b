//! Servers of a test's own: each is a process on a free port, in a directory that is gone with it, and ends with its test.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::time::Duration;

use tokio::time::{sleep, timeout};

mod cluster;
mod frame;
mod nowhere;
mod proxy;
mod sentinels;
mod server;

pub(crate) use cluster::Cluster;
pub(crate) use nowhere::Nowhere;
pub(crate) use proxy::{Nonsense, Proxy};
pub(crate) use sentinels::Sentinels;
pub(crate) use server::{Server, connect};

/// What a future gives, in half a minute: what never comes fails a test instead of keeping it for ever.
pub(crate) async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("{what}: not in half a minute"))
}

/// Waits until something is so that another process decides on: it is asked every few milliseconds.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    in_time(what, asking).await;
}
