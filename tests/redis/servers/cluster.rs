//! Three masters with a replica each, one of which takes over soon after its master is gone.

use super::{Server, until};

#[derive(Debug)]
pub(crate) struct Cluster {
    /// Masters first, in the order of their slots; then a replica of each, in the same order.
    nodes: Vec<Server>,
}

const LINES: [&str; 4] = [
    "cluster-enabled yes",
    "cluster-node-timeout 1000",
    // However long it has heard nothing of its master, a replica may take over.
    "cluster-replica-validity-factor 0",
    "cluster-allow-replica-migration no",
];

/// Where the slots of each master begin, and end.
const BORDERS: [u16; 4] = [0, 5_461, 10_923, 16_384];

impl Cluster {
    pub(crate) async fn start() -> Self {
        let mut nodes = Vec::new();
        for epoch in 1..=6 {
            let node = Server::with(&LINES).await;
            node.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()]).await;
            nodes.push(node);
        }
        for (master, slots) in nodes.iter().zip(BORDERS.windows(2)) {
            let slots: Vec<_> = (slots[0]..slots[1]).map(|slot| slot.to_string()).collect();
            let command: Vec<_> = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
            master.ask::<()>(&command).await;
        }
        for node in &nodes[1..] {
            nodes[0].ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &node.address().port().to_string()]).await;
        }
        let cluster = Self { nodes };
        for (master, replica) in cluster.nodes.iter().zip(&cluster.nodes[3..]) {
            let master: String = master.ask(&["CLUSTER", "MYID"]).await;
            until("a replica knows its master", async || {
                replica.try_to_ask::<()>(&["CLUSTER", "REPLICATE", &master]).await.is_ok()
            })
            .await;
        }
        for replica in &cluster.nodes[3..] {
            until("a replica is fed", async || replica.info("master_link_status").await.as_deref() == Some("up")).await;
        }
        cluster.is_well().await;
        cluster
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }

    /// The node that answers for a key: the others say who that is.
    pub(crate) async fn master_of(&mut self, key: &str) -> &mut Server {
        let mut master = None;
        until("a node answers for the key", async || {
            for (place, node) in self.nodes.iter().enumerate() {
                if node.try_to_ask::<u8>(&["EXISTS", key]).await.is_ok() {
                    master = Some(place);
                }
            }
            master.is_some()
        })
        .await;
        &mut self.nodes[master.expect("it was waited for")]
    }

    /// Returns once its replica has taken over.
    pub(crate) async fn kill_master_of(&mut self, key: &str) {
        self.master_of(key).await.kill();
        self.master_of(key).await;
        self.is_well().await;
    }

    async fn is_well(&self) {
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            until("all slots are served", async || {
                node.ask::<String>(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok")
            })
            .await;
        }
    }
}
