//! A store in Redis: what many instances share.
//!
//! `servers` asks, whatever stands behind it; `config` says where it stands, `masters` finds it, `link` is a connection to
//! one server, `nodes` all of them and which of them a key is for, `cluster` the arithmetic of that. `keeper` is the task
//! that sees to it that there are connections, `post` what it shares with those who ask, `echoes` tells what was
//! heard from what was heard before, `tls` knows who encrypts.

mod asking;
mod builder;
mod claim;
mod cluster;
mod config;
mod echoes;
mod envelope;
mod keeper;
mod leases;
mod link;
mod masters;
mod messages;
#[cfg(test)]
mod model;
mod names;
mod nodes;
mod post;
mod proof;
mod random;
mod scripts;
mod servers;
mod store;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;

pub use self::{builder::RedisStoreBuilder, store::RedisStore};
