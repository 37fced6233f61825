//! `RedisServer`: a Redis server that belongs to one test.

mod node;
mod resp;
mod sentinel;

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::node::Node;
use super::patience::Patience;
use super::tls::{Certificates, ClientCertificate};
use super::url::escape;
use node::Redis;
pub use resp::{RawRedis, Reply};
pub use sentinel::{RedisSentinel, SentinelBuilder};

/// A Redis server in a process, a folder and on a port of its own. It keeps nothing on disk unless told to.
///
/// When this is dropped, or the test's process dies, the server is killed; when it is dropped, its folder is removed.
///
/// # Examples
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use celeriac_testkit::server::{Fsync, RedisServer};
///
/// let server = RedisServer::builder().append_only(Fsync::Always).start().await;
/// println!("{}", server.url()); // redis://127.0.0.1:20481/0
/// server.kill();
/// server.restart().await; // same port, same data
/// # }
/// ```
#[derive(Debug)]
pub struct RedisServer {
    node: Node<Redis>,
    certificates: Option<Certificates>,
}

/// When an append-only file is forced to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before the reply to a command: what was acknowledged survives any crash.
    Always,
    /// Once a second.
    EverySecond,
}

/// How a [`RedisServer`] is started.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RedisBuilder {
    config: String,
    password: Option<String>,
    tls: Option<ClientCertificate>,
    replicates: bool,
}

impl RedisBuilder {
    /// Adds a line to the configuration, such as `maxmemory 1mb`. Later lines win.
    pub fn config(mut self, line: &str) -> Self {
        // Writing to a String does not fail.
        let _ = writeln!(self.config, "{line}");
        self
    }

    /// Asks for a password (`requirepass`). [`RedisServer::url`] has it.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        // The other for the day when a sentinel makes it a replica of a server like itself.
        self.config(&format!("requirepass \"{password}\"")).config(&format!("masterauth \"{password}\""))
    }

    /// Adds a user with the given ACL rules, such as `~celery* +@all`. Connect with [`RedisServer::url_as`].
    pub fn user(self, name: &str, password: &str, rules: &str) -> Self {
        self.config(&format!("user {name} on \">{password}\" {rules}"))
    }

    /// Keeps what is written in an append-only file, so that it survives [`RedisServer::restart`].
    pub fn append_only(self, fsync: Fsync) -> Self {
        let fsync = match fsync {
            Fsync::Always => "always",
            Fsync::EverySecond => "everysec",
        };
        self.config("appendonly yes").config(&format!("appendfsync {fsync}"))
    }

    /// Speaks TLS on its port, and nothing else there; see [`RedisServer::certificates`].
    pub fn tls(mut self, client: ClientCertificate) -> Self {
        self.tls = Some(client);
        self
    }

    /// Replicates `master`, which speaks no TLS. The start waits until the master's data is there.
    pub fn replica_of(mut self, master: &RedisServer) -> Self {
        self.replicates = true;
        if let Some(password) = master.password() {
            self = self.config(&format!("masterauth \"{password}\""));
        }
        self.config(&format!("replicaof 127.0.0.1 {}", master.port()))
    }

    /// Starts the server, and waits until it answers.
    ///
    /// # Panics
    /// If Redis is not installed, which `cargo xtask setup` does; or if it does not start: with its log.
    pub async fn start(self) -> RedisServer {
        let folder = tempfile::Builder::new().prefix("celeriac-redis-").tempdir().expect("a temporary folder");
        let certificates = self.tls.map(|_| Certificates::generate(folder.path()));
        let config = |port: u16| {
            let mut config = "save \"\"\n".to_owned();
            match (&certificates, self.tls) {
                (Some(files), Some(client)) => config += &tls_config(port, files, client),
                _ => config += &format!("port {port}\n"),
            }
            config + &self.config
        };
        let node = Node::of("redis-server", folder, self.password.clone(), config).await;
        let server = RedisServer { node, certificates };
        if self.replicates {
            let patience = Patience::new();
            while !server.command(&["INFO", "replication"]).await.text().contains("master_link_status:up") {
                patience.pause("a replica has its master's data", || server.log()).await;
            }
        }
        server
    }
}

fn tls_config(port: u16, files: &Certificates, client: ClientCertificate) -> String {
    let client = match client {
        ClientCertificate::Required => "yes",
        ClientCertificate::NotAsked => "no",
    };
    format!(
        "port 0\ntls-port {port}\ntls-auth-clients {client}\ntls-ca-cert-file \"{}\"\ntls-cert-file \"{}\"\ntls-key-file \"{}\"\n",
        files.ca.display(),
        files.server.display(),
        files.server_key.display()
    )
}

impl RedisServer {
    /// Starts a server that has no password and keeps nothing.
    ///
    /// # Panics
    /// As [`RedisBuilder::start`].
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A server that is yet to be started.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// The URL of database 0, with the password if there is one: `redis://127.0.0.1:port/0`, `rediss://..` with TLS.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(0)
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.node.password()
    }

    /// The URL of another database.
    #[must_use]
    pub fn url_of(&self, database: u8) -> String {
        let password = self.password().map(|password| format!(":{}@", escape(password)));
        self.url_with(&password.unwrap_or_default(), database)
    }

    /// The URL of database 0 for a user of the server's ACL. Special characters are escaped.
    #[must_use]
    pub fn url_as(&self, user: &str, password: &str) -> String {
        self.url_with(&format!("{}:{}@", escape(user), escape(password)), 0)
    }

    /// The URL of database 0 for a client that trusts the server's authority and shows a certificate of it, with files named as Celery names them.
    ///
    /// # Panics
    /// If the server does not speak TLS.
    #[must_use]
    pub fn url_with_certificates(&self) -> String {
        let files = self.certificates();
        let [ca, client, key] = [&files.ca, &files.client, &files.client_key].map(|file| file.display());
        format!("{}?ssl_cert_reqs=required&ssl_ca_certs={ca}&ssl_certfile={client}&ssl_keyfile={key}", self.url())
    }

    fn url_with(&self, credentials: &str, database: u8) -> String {
        let scheme = if self.certificates.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://{credentials}127.0.0.1:{}/{database}", self.port())
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.node.port().number()
    }

    /// The TCP address, for a proxy in front of the server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.node.port().address()
    }

    /// The Unix socket. It speaks no TLS.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.node.socket()
    }

    /// The server's folder: its configuration, its log and what it keeps.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.node.folder()
    }

    /// What the server has logged since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        self.node.log()
    }

    /// The certificates of a server that speaks TLS.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("a server that was started with `tls`")
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.node.process().pid()
    }

    /// A connection that needs no driver, through the socket.
    ///
    /// # Errors
    /// If the server is down.
    pub async fn connect(&self) -> io::Result<RawRedis> {
        self.node.connect().await
    }

    /// The server's reply to one command, on a connection of its own that needs no driver.
    ///
    /// # Panics
    /// If the server is down.
    pub async fn command(&self, words: &[&str]) -> Reply {
        self.node.command(words).await.unwrap_or_else(|error| panic!("no reply to {words:?}: {error}"))
    }

    /// Kills the server by SIGKILL, and waits until it is gone.
    pub fn kill(&self) {
        self.node.process().kill();
    }

    /// Asks the server to end, by SIGTERM, and waits until it has.
    ///
    /// # Panics
    /// If it does not.
    pub async fn stop(&self) {
        self.node.process().stop().await;
    }

    /// Starts the server again, on the same port and in the same folder, and waits until it answers. One that still runs is stopped first.
    ///
    /// # Panics
    /// If it does not start: with its log.
    pub async fn restart(&self) {
        self.node.restart().await;
    }

    /// Halts the server, by SIGSTOP: its connections stay open, and nobody answers.
    pub fn pause(&self) {
        self.node.process().pause();
    }

    /// Lets a halted server go on, by SIGCONT.
    pub fn resume(&self) {
        self.node.process().resume();
    }
}
