//! The example proxy, end to end over real sockets: each group of rules of a shared cache, and a proxy's own duties.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

#[path = "proxy/clock.rs"]
mod clock;
#[path = "proxy/origin.rs"]
mod origin;
#[allow(dead_code, reason = "an example is a program, and its `main` is not called here")]
#[path = "../examples/proxy/main.rs"]
mod proxy;
#[path = "proxy/stand.rs"]
mod stand;
#[path = "proxy/wire.rs"]
mod wire;

#[path = "proxy/caching.rs"]
mod caching;
#[path = "proxy/connections.rs"]
mod connections;
#[path = "proxy/interim.rs"]
mod interim;
#[path = "proxy/messages.rs"]
mod messages;
#[path = "proxy/options.rs"]
mod options;
#[path = "proxy/program.rs"]
mod program;
#[path = "proxy/waiting.rs"]
mod waiting;
