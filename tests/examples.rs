//! The examples forget no input: each of their routes is audited.
#![allow(dead_code, reason = "an example is a program, and its `main` is not called here")]

use std::time::Duration;

use axum::{Router, body::Body, http::Request};
use cacheback::testing;

#[path = "../examples/quickstart.rs"]
mod quickstart;

async fn audit(app: Router, path: &str) {
    let request = Request::get(path).body(Body::empty()).expect("a sound request");
    testing::audit(app, request).await.expect("no input was forgotten");
}

#[tokio::test] // P68
async fn the_quickstart() {
    audit(quickstart::app(Duration::ZERO), "/primes/1000000").await;
}
