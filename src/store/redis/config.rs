//! What is said of the servers before there is a connection to any.

use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

use crate::{error::Error, store::PATIENCE};

/// How long memory serves what no server has confirmed to be the last word.
const MAX_UNVERIFIED: Duration = Duration::from_secs(1);

/// How servers are found, and how long they are waited for.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) place: Place,
    /// Where instances tell one another what was invalidated.
    pub(super) channel: String,
    /// An answer that has not come after this long does not come.
    pub(super) patience: Duration,
    /// For how long messages may have been missed before what is in memory is looked up again.
    pub(super) max_unverified: Duration,
    /// What a server has kept through a restart or a failover counts.
    pub(super) trust_restarts: bool,
}

/// Where the masters are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    One(ConnectionInfo),
    /// Whoever these say is master of that name. `server` says how it is spoken to, once its address is known.
    Sentinel {
        sentinels: Vec<ConnectionInfo>,
        name: String,
        server: ConnectionInfo,
    },
    /// A cluster, of which these are some.
    Cluster(Vec<ConnectionInfo>),
}

impl Config {
    pub(super) fn new(place: Place, channel: impl Into<String>) -> Self {
        let (patience, max_unverified) = (PATIENCE, MAX_UNVERIFIED);
        Self { place, channel: channel.into(), patience, max_unverified, trust_restarts: false }
    }
}

impl Place {
    /// `redis://user:password@host:port/db`, `rediss://…` encrypted, `redis+unix:///path?db=0&pass=password`.
    pub(super) fn one(url: &str) -> Result<Self, Error> {
        Ok(Self::One(info(url)?))
    }

    /// The sentinels' addresses, the name under which they watch a master, and a URL of which everything but the host and
    /// the port counts for the master: user, password, database, encryption.
    pub(super) fn sentinel<'a>(
        sentinels: impl IntoIterator<Item = &'a str>,
        name: impl Into<String>,
        server: &str,
    ) -> Result<Self, Error> {
        Ok(Self::Sentinel { sentinels: infos(sentinels)?, name: name.into(), server: info(server)? })
    }

    /// Addresses of some nodes. The user, the password and the encryption of the first are those of all.
    pub(super) fn cluster<'a>(nodes: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let nodes = infos(nodes)?;
        if nodes.iter().any(|node| node.redis_settings().db() != 0) {
            return Err(Error::store("a Redis Cluster has only the database 0"));
        }
        Ok(Self::Cluster(nodes))
    }
}

/// How to connect to another address as to this one.
pub(super) fn elsewhere(info: &ConnectionInfo, host: &str, port: u16) -> ConnectionInfo {
    let mut addr = info.addr().clone();
    match &mut addr {
        ConnectionAddr::TcpTls { host: to, port: at, .. } => (*to, *at) = (host.to_owned(), port),
        addr => *addr = ConnectionAddr::Tcp(host.to_owned(), port),
    }
    info.clone().set_addr(addr)
}

fn infos<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Vec<ConnectionInfo>, Error> {
    let infos = urls.into_iter().map(info).collect::<Result<Vec<_>, _>>()?;
    if infos.is_empty() { Err(Error::store("no address of a Redis server was given")) } else { Ok(infos) }
}

/// What a URL says, as we speak to servers: with pushes among the answers, and without waiting to fill packets.
fn info(url: &str) -> Result<ConnectionInfo, Error> {
    // The error names what is wrong with the URL and not the URL, in which there may be a password.
    let info = url.into_connection_info().map_err(|error| Error::store(format!("not a URL of Redis: {error}")))?;
    let (redis, tcp) = (info.redis_settings().clone(), info.tcp_settings().clone());
    Ok(info.set_redis_settings(redis.set_protocol(ProtocolVersion::RESP3)).set_tcp_settings(tcp.set_nodelay(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_how_to_speak_to_a_server() {
        let Place::One(info) = Place::one("redis://user:secret@host:1/2").unwrap() else { panic!("one") };
        assert_eq!(info.addr().to_string(), "host:1");
        let redis = info.redis_settings();
        assert_eq!((redis.username(), redis.password(), redis.db()), (Some("user"), Some("secret"), 2));
        assert_eq!(redis.protocol(), ProtocolVersion::RESP3);
        assert!(info.tcp_settings().nodelay());
        let there = elsewhere(&info, "there", 3);
        assert_eq!((there.addr().to_string(), there.redis_settings().password()), ("there:3".into(), Some("secret")));
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_told() {
        for url in ["secret", "http://:secret@host", "redis://:secret@host/x", "redis://:secret@host:99999"] {
            let error = Place::one(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(Place::cluster(["redis://host/1"]).is_err());
        assert!(Place::cluster([]).is_err());
        assert!(Place::sentinel([], "main", "redis://host").is_err());
    }

    #[cfg(feature = "redis-tls")]
    #[test]
    fn what_is_encrypted_is_encrypted_elsewhere_too() {
        let Place::One(info) = Place::one("rediss://host").unwrap() else { panic!("one") };
        let there = elsewhere(&info, "there", 3);
        let ConnectionAddr::TcpTls { host, port, insecure, .. } = there.addr() else { panic!("not encrypted") };
        assert_eq!((host.as_str(), *port, *insecure), ("there", 3, false));
    }
}
