//! A master, its replica, and three Sentinels that agree on who is master: two of them suffice.

use std::net::SocketAddr;

use super::{Server, until};

/// What the Sentinels call the master.
pub(crate) const NAME: &str = "main";

#[derive(Debug)]
pub(crate) struct Sentinels {
    sentinels: Vec<Server>,
    /// The first one is master at first.
    servers: [Server; 2],
}

impl Sentinels {
    pub(crate) async fn start() -> Self {
        let master = Server::start().await;
        let port = master.address().port();
        let replica = Server::with(&[&format!("replicaof 127.0.0.1 {port}")]).await;
        until("the replica is fed", async || replica.info("master_link_status").await.as_deref() == Some("up")).await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let monitor = format!("sentinel monitor {NAME} 127.0.0.1 {port} 2");
            let down = format!("sentinel down-after-milliseconds {NAME} 500");
            let again = format!("sentinel failover-timeout {NAME} 2000");
            let sentinel = Server::sentinel(&[&monitor, &down, &again]).await;
            // Where they can be told to: they get to know one another faster.
            let _ =
                sentinel.try_to_ask::<()>(&["SENTINEL", "DEBUG", "publish-period", "100", "info-period", "100"]).await;
            sentinels.push(sentinel);
        }
        let all = Self { sentinels, servers: [master, replica] };
        for sentinel in &all.sentinels {
            let knows = async |whom: &str, count| {
                let known: Vec<redis::Value> = sentinel.ask(&["SENTINEL", whom, NAME]).await;
                known.len() == count
            };
            until("they know one another", async || knows("SENTINELS", 2).await && knows("REPLICAS", 1).await).await;
        }
        all
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Server::url).collect()
    }

    /// The master of the beginning, and its replica.
    pub(crate) fn servers(&mut self) -> &mut [Server; 2] {
        &mut self.servers
    }

    /// Who is master, as the first Sentinel says.
    pub(crate) async fn master(&mut self) -> &mut Server {
        let address = master_says(&self.sentinels[0]).await;
        self.servers.iter_mut().find(|server| server.address() == address).expect("it is one of the two")
    }

    /// Loses the master: `Server::kill`, or `Server::stop`. Returns once the other one has taken over, and all Sentinels know.
    pub(crate) async fn lose_master(&mut self, lose: fn(&mut Server)) {
        let master = self.master().await;
        let gone = master.address();
        lose(master);
        for sentinel in &self.sentinels {
            until("they agree on another one", async || master_says(sentinel).await != gone).await;
        }
        let master = self.master().await;
        until("it is one", async || master.info("role").await.as_deref() == Some("master")).await;
    }
}

async fn master_says(sentinel: &Server) -> SocketAddr {
    let (host, port): (String, String) = sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).await;
    format!("{host}:{port}").parse().expect("an address")
}
