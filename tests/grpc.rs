//! gRPC, with a client and a server of tonic over real sockets, with a client of another make, and frame by frame.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

#[path = "proxy/clock.rs"]
mod clock;
#[allow(clippy::all, clippy::use_self, clippy::must_use_candidate, dead_code, missing_docs, unreachable_pub)]
#[path = "../examples/tonic/quotes.rs"]
mod quotes;
#[path = "grpc/stand.rs"]
mod stand;
mod support;

#[path = "grpc/answers.rs"]
mod answers;
#[path = "grpc/around.rs"]
mod around;
#[path = "grpc/calls.rs"]
mod calls;
#[path = "grpc/frames.rs"]
mod frames;
#[path = "grpc/invalidation.rs"]
mod invalidation;
#[path = "grpc/key.rs"]
mod key;
#[path = "grpc/python.rs"]
mod python;
#[path = "grpc/streaming.rs"]
mod streaming;
