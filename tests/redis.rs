//! Instances that share a Redis behave as one cache, and whatever becomes of the Redis no request fails: against real servers.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

#[path = "redis/damage.rs"]
mod damage;
#[path = "redis/ends.rs"]
mod ends;
#[path = "redis/figures.rs"]
mod figures;
#[path = "redis/instance.rs"]
mod instance;
#[path = "redis/invalidation.rs"]
mod invalidation;
#[path = "redis/processes.rs"]
mod processes;
#[path = "redis/servers/mod.rs"]
mod servers;
#[path = "redis/strict.rs"]
mod strict;
mod support;
#[path = "redis/the_servers.rs"]
mod the_servers;
#[path = "redis/together.rs"]
mod together;
#[path = "redis/topologies.rs"]
mod topologies;
#[path = "redis/trouble.rs"]
mod trouble;
