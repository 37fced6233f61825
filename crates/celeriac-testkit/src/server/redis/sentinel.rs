//! `RedisSentinel`: a sentinel that watches over a server of the test.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use super::RedisServer;
use super::node::Redis;
use super::resp::Reply;
use crate::server::node::Node;
use crate::server::patience::Patience;

/// How long a failover may take. A sentinel begins one at the earliest when the master was down for `DOWN_AFTER`.
const FAILOVER: Duration = Duration::from_secs(10);

const DOWN_AFTER: Duration = Duration::from_millis(500);

/// A Redis sentinel in a process of its own, which makes a replica the master half a second after the master is gone.
#[derive(Debug)]
pub struct RedisSentinel {
    node: Node<Redis>,
    master: String,
}

/// How a [`RedisSentinel`] is started.
#[derive(Debug, Clone)]
#[must_use]
pub struct SentinelBuilder {
    master: String,
    watched: String,
    config: String,
    password: Option<String>,
}

impl SentinelBuilder {
    fn config(mut self, line: &str) -> Self {
        // Writing to a String does not fail.
        let _ = writeln!(self.config, "{line}");
        self
    }

    /// Asks for a password (`requirepass`), which the other sentinels of the same master have too.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.config(&format!("requirepass \"{password}\"")).config(&format!("sentinel sentinel-pass \"{password}\""))
    }

    /// Adds a user with the given ACL rules, such as `+sentinel|get-master-addr-by-name`.
    pub fn user(self, name: &str, password: &str, rules: &str) -> Self {
        self.config(&format!("user {name} on \">{password}\" {rules}"))
    }

    /// Starts the sentinel, and waits until it knows its master.
    ///
    /// # Panics
    /// If `redis-sentinel` is not installed, which `cargo xtask setup` does; or if it does not start: with its log.
    pub async fn start(self) -> RedisSentinel {
        let folder = tempfile::Builder::new().prefix("celeriac-sentinel-").tempdir().expect("a temporary folder");
        let Self { master, watched, config, password } = self;
        let config = |port: u16| format!("port {port}\n{watched}{config}");
        let node = Node::of("redis-sentinel", folder, password, config).await;
        let sentinel = RedisSentinel { node, master };
        let patience = Patience::new();
        while sentinel.field("flags").await.as_deref() != Some("master") {
            patience.pause("a sentinel reaches its master", || sentinel.log()).await;
        }
        sentinel
    }
}

impl RedisSentinel {
    /// Starts a sentinel that asks for no password: see [`RedisSentinel::builder`].
    ///
    /// # Panics
    /// As [`SentinelBuilder::start`].
    pub async fn start(name: &str, master: &RedisServer, quorum: u8) -> Self {
        Self::builder(name, master, quorum).start().await
    }

    /// A sentinel that watches `master` under `name`, and is yet to be started. As many sentinels as `quorum` have to agree that the
    /// master is down; each is started by a call of its own.
    pub fn builder(name: &str, master: &RedisServer, quorum: u8) -> SentinelBuilder {
        let (down_after, failover) = (DOWN_AFTER.as_millis(), FAILOVER.as_millis());
        let mut watched = format!(
            "sentinel monitor {name} 127.0.0.1 {} {quorum}\nsentinel down-after-milliseconds {name} {down_after}\n\
             sentinel failover-timeout {name} {failover}\n",
            master.port()
        );
        if let Some(password) = master.password() {
            watched += &format!("sentinel auth-pass {name} \"{password}\"\n");
        }
        SentinelBuilder { master: name.to_owned(), watched, config: String::new(), password: None }
    }

    /// Waits until the sentinel knows of as many replicas and other sentinels, and reaches the replicas: before that it cannot fail over.
    ///
    /// # Panics
    /// If it does not within a minute.
    pub async fn knows(&self, replicas: usize, sentinels: usize) {
        let patience = Patience::new();
        while self.field("num-slaves").await != Some(replicas.to_string())
            || self.field("num-other-sentinels").await != Some(sentinels.to_string())
            || self.replicas_up().await != replicas
        {
            patience.pause("a sentinel knows the others", || self.log()).await;
        }
    }

    async fn replicas_up(&self) -> usize {
        let Reply::Array(replicas) = self.command(&["SENTINEL", "REPLICAS", &self.master]).await else { return 0 };
        let up = |replica: &&Reply| {
            pair(replica, "flags").as_deref() == Some("slave")
                && pair(replica, "master-link-status").as_deref() == Some("ok")
        };
        replicas.iter().filter(up).count()
    }

    async fn field(&self, name: &str) -> Option<String> {
        pair(&self.command(&["SENTINEL", "MASTER", &self.master]).await, name)
    }

    /// Where the sentinel says that the master is.
    ///
    /// # Panics
    /// If the sentinel is down.
    pub async fn master(&self) -> SocketAddr {
        let address = self.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", &self.master]).await.texts();
        address.join(":").parse().expect("an address")
    }

    /// The sentinel's reply to one command.
    ///
    /// # Panics
    /// If the sentinel is down.
    pub async fn command(&self, words: &[&str]) -> Reply {
        self.node.command(words).await.unwrap_or_else(|error| panic!("no reply to {words:?}: {error}"))
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.node.port().number()
    }

    /// The TCP address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.node.port().address()
    }

    /// What the sentinel has logged since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        self.node.log()
    }

    /// Kills the sentinel by SIGKILL, and waits until it is gone.
    pub fn kill(&self) {
        self.node.process().kill();
    }

    /// Starts the sentinel again, on the same port and with what it knew.
    ///
    /// # Panics
    /// If it does not start: with its log.
    pub async fn restart(&self) {
        self.node.restart().await;
    }
}

/// The value that follows `name` in a flat list of names and values.
fn pair(list: &Reply, name: &str) -> Option<String> {
    let list = list.texts();
    list.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone())
}
