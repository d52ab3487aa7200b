//! What is set of a store in Redis, before there is one.

use std::{fmt, time::Duration};

use super::{
    config::{Config, Place},
    envelope::Seal,
    names::Names,
    store::{RedisStore, Settings},
};
use crate::{error::Error, store::PATIENCE};

/// How large a record may be that is sent: 8 MiB.
const MAX_VALUE: usize = 8 << 20;
const URL: &str = "redis://127.0.0.1/";

/// What is set of a [`RedisStore`], in any order. See [`RedisStore::builder`].
///
/// ```
/// use std::time::Duration;
/// use cacheback::RedisStore;
///
/// let store = RedisStore::builder()
///     .url("redis://127.0.0.1/")
///     .prefix("shop")
///     .secret("known to all instances, and to nobody else")
///     .max_unverified(Duration::from_secs(2))
///     .connect_lazy()?;
/// # let _ = store;
/// # Ok::<(), cacheback::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct RedisStoreBuilder {
    url: String,
    whose: Whose,
    prefix: Box<str>,
    seal: Seal,
    max_value: usize,
    patience: Duration,
    max_unverified: Option<Duration>,
    trust_restarts: bool,
}

/// Whose address is known.
#[cfg_attr(not(all(feature = "redis-sentinel", feature = "redis-cluster")), allow(dead_code, reason = "not asked for"))]
#[derive(Clone)]
enum Whose {
    Server,
    Sentinels(Vec<String>, String),
    Nodes(Vec<String>),
}

impl Default for RedisStoreBuilder {
    fn default() -> Self {
        Self {
            url: URL.into(),
            whose: Whose::Server,
            prefix: "cacheback".into(),
            seal: Seal::default(),
            max_value: MAX_VALUE,
            patience: PATIENCE,
            max_unverified: None,
            trust_restarts: false,
        }
    }
}

impl RedisStoreBuilder {
    /// Where the server is: `redis://user:password@host:port/database`, `rediss://…` for encryption (feature
    /// `redis-tls`), `redis+unix:///path?db=0&pass=password` for a socket. Default: `redis://127.0.0.1/`.
    ///
    /// With `sentinel` only what stands beside host and port counts: user, password, database,
    /// encryption.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// Feature `redis-sentinel`. The server is whichever one these sentinels name as the master of that name. Its user, password and database are
    /// those of [`url`](Self::url); those in the sentinels' URLs are for the sentinels.
    #[cfg(feature = "redis-sentinel")]
    pub fn sentinel<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>, master: impl Into<String>) -> Self {
        self.whose = Whose::Sentinels(urls.into_iter().map(Into::into).collect(), master.into());
        self
    }

    /// Feature `redis-cluster`. The servers are a cluster, of which these are some: the others are found. User, password and encryption of the
    /// first are those of all.
    #[cfg(feature = "redis-cluster")]
    pub fn cluster<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.whose = Whose::Nodes(urls.into_iter().map(Into::into).collect());
        self
    }

    /// What all names in Redis begin with, and the channel's. Caches that are to know nothing of each other have
    /// different ones, also where their databases are different: channels are the same for all databases. Default:
    /// `cacheback`.
    ///
    /// # Panics
    ///
    /// If it is empty, or holds anything but ASCII letters, digits and `-._:/`.
    #[track_caller]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/".contains(&byte);
        assert!(!prefix.is_empty() && prefix.bytes().all(is_plain), "a prefix is made of letters, digits and -._:/");
        self.prefix = prefix.into();
        self
    }

    /// What all instances know and nobody else. Records are sealed with it (HMAC-SHA256, together with their names):
    /// what others have written into Redis, changed there or put under another name is not read. It does not keep
    /// anybody from reading records, from deleting them, or from putting back under its own name what was there before,
    /// together with the tokens that were. Default: records are not sealed.
    ///
    /// Instances with different secrets, or with none, do not read each other's records.
    ///
    /// # Panics
    ///
    /// If it is empty.
    #[track_caller]
    pub fn secret(mut self, secret: impl AsRef<[u8]>) -> Self {
        let secret = secret.as_ref();
        assert!(!secret.is_empty(), "a secret that is empty is none");
        self.seal = Seal::new(secret);
        self
    }

    /// Reads what a server has kept through a restart, and what a replica has that took its place. Default: it does
    /// not, and either begins with nothing.
    ///
    /// What this risks: a server that comes back with what it had some time ago, or a replica that had not heard of
    /// all, gives out again what was invalidated in between, until its time is over. It is for those who would rather
    /// have that than a service which is asked for everything at once.
    pub fn trust_restarts(mut self) -> Self {
        self.trust_restarts = true;
        self
    }

    /// How large what is sent may be, in bytes: a larger response stays in the memory of the instance that made it.
    /// Default: 8 MiB.
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[track_caller]
    pub fn max_value(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "a store for values of no bytes keeps nothing");
        self.max_value = bytes;
        self
    }

    /// How long a request waits for Redis, all that is asked for its sake taken together. A server that has not answered
    /// for so long counts as dead until it answers within this time again. Default: 100 ms.
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[track_caller]
    pub fn patience(mut self, time: Duration) -> Self {
        assert!(!time.is_zero(), "who waits for no time gets no answer");
        self.patience = time;
        self
    }

    /// How long memory is served of which nobody can say whether it was invalidated elsewhere: while nothing is heard
    /// from Redis, what is in memory is looked up again as often, as soon as Redis can be asked. As often are the tokens of
    /// what is read compared where nothing was invalidated. Default: 1 s.
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[track_caller]
    pub fn max_unverified(mut self, time: Duration) -> Self {
        assert!(!time.is_zero(), "what is to be verified all the time needs no memory");
        self.max_unverified = Some(time);
        self
    }

    /// Connects, and gives the store once it can be asked.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) as for [`connect_lazy`](Self::connect_lazy), and if the server
    /// cannot be reached, refuses us, or is no master. Whoever would rather begin without it takes that one.
    pub async fn connect(self) -> Result<RedisStore, Error> {
        self.connect_lazy()?.connected().await
    }

    /// Gives a store that connects when it is first needed, and goes on trying: until then each instance caches for
    /// itself.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) if a URL is none, or asks for encryption without the feature
    /// `redis-tls`.
    pub fn connect_lazy(self) -> Result<RedisStore, Error> {
        let place = match &self.whose {
            Whose::Server => Place::one(&self.url),
            Whose::Sentinels(urls, name) => Place::sentinel(urls.iter().map(String::as_str), name, &self.url),
            Whose::Nodes(urls) => Place::cluster(urls.iter().map(String::as_str)),
        };
        let mut config = Config::new(place?, Names::new(&self.prefix).channel());
        config.max_unverified = self.max_unverified.unwrap_or(config.max_unverified);
        (config.patience, config.trust_restarts) = (self.patience, self.trust_restarts);
        let Self { prefix, seal, max_value, .. } = self;
        Ok(RedisStore::new(config, Settings { prefix, seal, max_value }))
    }
}

impl fmt::Debug for RedisStoreBuilder {
    /// Without the URLs: there may be passwords in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder")
            .field("prefix", &self.prefix)
            .field("seal", &self.seal)
            .field("max_value", &self.max_value)
            .field("patience", &self.patience)
            .field("max_unverified", &self.max_unverified)
            .field("trust_restarts", &self.trust_restarts)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(cacheback_model)))]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test] // P74
    fn a_request_waits_for_as_long_as_it_was_told() {
        let patience = |store: RedisStoreBuilder| store.connect_lazy().unwrap().patience();
        assert_eq!(patience(RedisStore::builder()), Duration::from_millis(100));
        let told = Duration::from_millis(250);
        assert_eq!(patience(RedisStore::builder().patience(told)), told);
    }

    #[test] // P92
    fn what_makes_no_sense_is_refused_where_it_is_written() {
        let settings: [fn(RedisStoreBuilder) -> RedisStoreBuilder; 6] = [
            |store| store.patience(Duration::ZERO),
            |store| store.max_unverified(Duration::ZERO),
            |store| store.max_value(0),
            |store| store.secret(""),
            |store| store.prefix(""),
            |store| store.prefix("{a}"),
        ];
        for set in settings {
            assert!(std::panic::catch_unwind(|| set(RedisStore::builder())).is_err());
        }
        for url in ["", "http://a/", "redis://", "redis://a:port/"] {
            let error = RedisStore::connect_lazy(url).err().map(|error| error.kind());
            assert_eq!(error, Some(crate::ErrorKind::Store), "{url}");
        }
    }
}
