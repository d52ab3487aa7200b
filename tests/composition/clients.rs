//! Around a client.

use std::time::Duration;

use axum::{Router, extract::Request};
use bytes::Bytes;
use cacheback::{Cache, Detail, Freshness};
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};

use crate::{
    stand::{Runs, Seen, count, minute, secs},
    support::net::serve,
};

#[tokio::test] // P90
async fn a_client_is_wrapped_and_asks_its_server_once() {
    let runs = Runs::default();
    let address = serve(Router::new().fallback(count).with_state(runs.clone())).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let client = minute().layer(client);
    let request = || Request::get(format!("http://{address}/page?q=1")).body(Full::default()).unwrap();
    let first = Seen::of(client.clone().oneshot(request()).await.unwrap()).await;
    assert_eq!(first.body, "run 1 of /page?q=1");
    let second = Seen::of(client.clone().oneshot(request()).await.unwrap()).await;
    assert!(second.is_hit());
    assert_eq!((second.body, runs.count()), (first.body, 1));

    // Its errors are its own.
    let refused = Request::get("http://127.0.0.1:0/").body(Full::default()).unwrap();
    let error: hyper_util::client::legacy::Error = client.oneshot(refused).await.unwrap_err();
    assert!(error.is_connect());
}

#[tokio::test] // P90, P6
async fn a_server_that_cannot_be_reached_is_a_failed_run_and_the_stale_page_stands_in() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let app = Router::new().fallback(count).with_state(Runs::default());
    let server = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) });
    let server = tokio::spawn(server.into_future());
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http::<Full<Bytes>>();
    let layer = Cache::new().layer(Freshness::exact(Duration::ZERO).stale_if_error(secs(600)));
    let client = layer.layer(client);
    let get = async || {
        let request = Request::get(format!("http://{address}/")).body(Full::default()).unwrap();
        Seen::of(client.clone().oneshot(request).await.expect("something stands in")).await
    };
    assert_eq!(get().await.body, "run 1 of /");
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    let seen = get().await;
    assert_eq!((seen.body.as_str(), seen.outcome().detail()), ("run 1 of /", Some(Detail::StaleIfError)));
}
