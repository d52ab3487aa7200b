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

    pub(crate) fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }

    /// The node that answers for a key.
    pub(crate) async fn master_of(&mut self, key: &str) -> &mut Server {
        let place = self.place_of(key).await;
        &mut self.nodes[place]
    }

    /// Loses the master of a key: `Server::kill`, or `Server::stop`. Returns once its replica has taken over.
    pub(crate) async fn lose_master_of(&mut self, key: &str, lose: fn(&mut Server)) {
        lose(self.master_of(key).await);
        self.master_of(key).await;
        self.is_well().await;
    }

    /// Begins to move the slot of a key to where another one is: who asks for what has moved already, or was never there,
    /// is sent on for this once.
    pub(crate) async fn begin_to_move(&self, key: &str, to: &str) {
        let (slot, [from, to]) = self.journey(key, to).await;
        let [from_id, to_id]: [String; 2] = [from.ask(&["CLUSTER", "MYID"]).await, to.ask(&["CLUSTER", "MYID"]).await];
        to.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await;
        from.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]).await;
    }

    /// Moves what is in the slot, and the slot itself: who asks at its old place is sent on for good.
    pub(crate) async fn end_move(&self, key: &str, to: &str) {
        let (slot, [from, to]) = self.journey(key, to).await;
        let keys: Vec<String> = from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).await;
        for key in keys {
            let port = to.address().port().to_string();
            from.ask::<()>(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]).await;
        }
        let id: String = to.ask(&["CLUSTER", "MYID"]).await;
        for node in [to, from] {
            node.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]).await;
        }
    }

    /// The slot of a key, its master, and that of another.
    async fn journey(&self, key: &str, to: &str) -> (String, [&Server; 2]) {
        let slot: u16 = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]).await;
        let places = [self.place_of(key).await, self.place_of(to).await];
        (slot.to_string(), places.map(|place| &self.nodes[place]))
    }

    /// Where the node is that answers for a key: the others say whom to ask.
    async fn place_of(&self, key: &str) -> usize {
        let mut place = None;
        until("a node answers for the key", async || {
            for (at, node) in self.nodes.iter().enumerate() {
                if node.is_there() && node.try_to_ask::<u8>(&["EXISTS", key]).await.is_ok() {
                    place = Some(at);
                }
            }
            place.is_some()
        })
        .await;
        place.expect("it was waited for")
    }

    async fn is_well(&self) {
        for node in self.nodes.iter().filter(|node| node.is_there()) {
            until("all slots are served", async || {
                node.ask::<String>(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok")
            })
            .await;
        }
    }
}
