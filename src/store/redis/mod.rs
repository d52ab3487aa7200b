//! A store in Redis: what many instances share.
//!
//! # Tokens decide, leases save work
//!
//! A *token* is eight random bytes under a name that says what it stands for: a key, a URI, a path with every query,
//! all below a path, a tag, a namespace, everything. To invalidate is to delete a token, and that is all. Nothing is
//! compared with a clock or a counter that a restart could set back, and no list of keys is kept that would have to be
//! searched.
//!
//! A run claims before it calls the service: it reads the tokens of all that can reach its key, and makes those that
//! are not there. What it saves holds a proof of these: a digest of their values, and of the lives of the servers in
//! which they were found. Whoever reads a record reads the tokens with it and compares. So a response that was made of
//! what has changed since is dead on arrival, however late its run saves it; and a token that is lost, for whatever
//! reason, is a miss, as is a record from before a restart or a failover.
//!
//! Tags are known from the response alone. For them there are 256 *buckets*, which a run reads when it claims. An
//! invalidation of a tag first changes the tag's bucket, then deletes its token; a run that saves first reads the
//! tokens of its tags, then the buckets again: if one of theirs has changed, nothing is saved. `model` goes through
//! this in every order.
//!
//! An *epoch* saves readers the comparison: every invalidation ends it in the same step in which it deletes a token, and a
//! reader who finds it unchanged goes by what was compared before (see `vouched`). `model` goes through this as well.
//!
//! A *lease* says who runs for a course, so that others need not. It lasts for 5 seconds, is renewed as long as the run
//! goes on, and given back by comparing and deleting. Whoever finds it taken leaves a mark, and is told when it is
//! free. Nothing depends on it but work: two who hold it at once do the same twice.
//!
//! # What is heard
//!
//! An invalidation is told over pub/sub, on a connection beside that which everything else goes over. Redis could
//! also remember what each client has read and tell it when that changes (client tracking). We weighed both: a
//! message says which scope it was and whether it was a hard one, where tracking names a key, of which an
//! invalidation of a path would need one for each response; it wakes those who wait for a lease; it costs the server
//! no table of all that anybody has read, which is bounded and, once full, invalidates what nobody asked to be; and
//! it says nothing when something merely runs out or is evicted. What both lack is a promise that they arrive. So
//! memory is told by its *generation* when a message may have been missed, and asks here before it serves again what
//! is older.
//!
//! What is guaranteed, what is kept under which name, and what Redis must be, is told to users: see [`RedisStore`].
//!
//! # The files
//!
//! What is kept: `names`, `tokens` (which of them cover a key, and which an invalidation deletes), `proof`, `envelope`
//! (the bytes around a record), `scripts`, `messages`, `leases`, `claim` (what a run knows of its beginning), `random`.
//! What is asked: `asking`, `store` (the promises, as questions), `reading` and `vouched` (how records are read), `builder`.
//!
//! Who is asked: `servers`, whatever stands behind it; `config` says where it stands, `masters` finds it, `link` is a
//! connection to one server, `nodes` all of them and which of them a key is for, `cluster` the arithmetic of that.
//! `keeper` is the task that sees to it that there are connections, `post` what it shares with those who ask, `echoes`
//! tells what was heard from what was heard before, `tls` knows who encrypts.

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
mod reading;
mod scripts;
mod servers;
mod store;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;
mod vouched;

pub use self::{builder::RedisStoreBuilder, store::RedisStore};
