//! An instance of an application: a layer with a memory, a connection to Redis and an origin of its own.

use std::time::Duration;

use axum::Router;
use cacheback::{Cache, CachebackLayer, Freshness, RedisStore, RedisStoreBuilder, Tags};
use tokio::task::{JoinHandle, JoinSet};

use crate::{
    servers::{Cluster, Nowhere, Proxy, Sentinels, Server, in_time, until},
    support::http::{Origin, Reply, get, headers, request, saying, send},
};

/// Where instances have what they share.
pub(crate) trait Place {
    fn store(&self) -> RedisStoreBuilder;
}

/// An origin that answers with its name and the number of the run, and tags what is below `/tagged` with `quotes`.
pub(crate) fn named(name: &str, fields: &[(&str, &str)]) -> Origin {
    let (name, fields) = (name.to_owned(), headers(fields));
    Origin::new(move |seen| {
        let tags = seen.uri.path().starts_with("/tagged").then_some("quotes");
        saying(Tags::new(tags), (fields.clone(), format!("{name} {}", seen.run)))
    })
}

#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) origin: Origin,
    pub(crate) cache: Cache,
    pub(crate) layer: CachebackLayer,
    pub(crate) app: Router,
}

impl Instance {
    /// One whose connection is there.
    pub(crate) async fn at(place: &impl Place, name: &str) -> Self {
        Self::over(connected(place).await, name)
    }

    /// One that begins without waiting for its connection.
    pub(crate) fn lazy(place: &impl Place, name: &str) -> Self {
        Self::over(place.store().connect_lazy().unwrap(), name)
    }

    /// So many, with the names `0`, `1` and so on.
    pub(crate) async fn several(place: &impl Place, size: usize) -> Vec<Self> {
        let mut instances = Vec::new();
        for number in 0..size {
            instances.push(Self::at(place, &number.to_string()).await);
        }
        instances
    }

    pub(crate) fn over(store: RedisStore, name: &str) -> Self {
        Self::with(store, named(name, &[]), |layer| layer)
    }

    pub(crate) fn with(store: RedisStore, origin: Origin, set: impl FnOnce(CachebackLayer) -> CachebackLayer) -> Self {
        Self::of(Cache::builder().store(store).build(), origin, set)
    }

    /// Whose every read asks.
    pub(crate) async fn strict(place: &impl Place, name: &str) -> Self {
        let cache = Cache::builder().memory(0).store(connected(place).await).build();
        Self::of(cache, named(name, &[]), |layer| layer)
    }

    fn of(cache: Cache, origin: Origin, set: impl FnOnce(CachebackLayer) -> CachebackLayer) -> Self {
        let freshness = Freshness::new(HOUR).stale_while_revalidate(HOUR);
        let layer = set(cache.layer(freshness).namespace("shop"));
        Self { app: origin.behind(layer.clone()), origin, cache, layer }
    }

    /// What it answers to a GET, once all is done that this has begun.
    pub(crate) async fn get(&self, uri: &str) -> String {
        let text = self.reply(uri).await.text().to_owned();
        in_time("runs end", self.cache.settled()).await;
        text
    }

    pub(crate) async fn reply(&self, uri: &str) -> Reply {
        in_time("an answer", get(&self.app, uri)).await
    }

    /// A GET that is under way.
    pub(crate) fn getting(&self, uri: &'static str) -> JoinHandle<Reply> {
        let this = self.clone();
        tokio::spawn(async move { this.reply(uri).await })
    }

    pub(crate) async fn post(&self, uri: &str) {
        assert!(send(&self.app, request("POST", uri, &[])).await.status.is_success());
    }

    /// Waits until so many runs have called the service.
    pub(crate) async fn begun(&self, runs: usize) {
        until("a run begins", async || self.origin.runs() >= runs).await;
    }

    /// Waits until it has one run under way, and no more: it has called the service, or waits for another instance.
    pub(crate) async fn is_at_it(&self) {
        until("a run is under way", async || self.cache.stats().runs == 1).await;
    }
}

/// How long everything is fresh, unless its fields say otherwise; and for as long again it is stale.
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// What many readers of each of these are answered, all at the same time.
pub(crate) fn crowd(instances: &[Instance], uri: &'static str) -> JoinSet<String> {
    let readers = instances.iter().flat_map(|instance| std::iter::repeat_n(instance.clone(), 3));
    readers.map(|instance| async move { instance.reply(uri).await.text().to_owned() }).collect()
}

/// How often all of these have called their services.
pub(crate) fn runs(instances: &[Instance]) -> usize {
    instances.iter().map(|instance| instance.origin.runs()).sum()
}

pub(crate) async fn connected(place: &impl Place) -> RedisStore {
    in_time("a connection", place.store().connect()).await.unwrap()
}

/// A busy machine is no trouble with Redis: what is to be answered may take its time.
fn patient() -> RedisStoreBuilder {
    RedisStore::builder().patience(Duration::from_secs(5))
}

impl Place for RedisStoreBuilder {
    fn store(&self) -> RedisStoreBuilder {
        self.clone()
    }
}

impl Place for Server {
    fn store(&self) -> RedisStoreBuilder {
        patient().url(self.url())
    }
}

impl Place for Proxy {
    fn store(&self) -> RedisStoreBuilder {
        patient().url(self.url())
    }
}

impl Place for Nowhere {
    fn store(&self) -> RedisStoreBuilder {
        patient().url(self.url())
    }
}

impl Place for Cluster {
    fn store(&self) -> RedisStoreBuilder {
        patient().cluster(self.urls())
    }
}

impl Place for Sentinels {
    fn store(&self) -> RedisStoreBuilder {
        patient().sentinel(self.urls(), "main")
    }
}
