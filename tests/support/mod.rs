//! What the tests share. Each test file is a crate of its own and uses a part of it.
#![allow(dead_code, unreachable_pub, clippy::disallowed_methods, clippy::unwrap_used)]

pub mod by_hand;
pub mod http;
pub mod model;
pub mod net;
pub mod routes;
pub mod typed;
pub mod world;
