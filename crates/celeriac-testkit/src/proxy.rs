//! `FaultProxy`: a proxy that breaks connections where a test wants them broken.
//!
//! Needs the feature `servers`, and Unix.

mod amqp;
mod connection;
mod faults;
mod frames;
mod resp;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::server::{Patience, Port};
use connection::accept;
pub use faults::Cut;
use faults::{Random, Shared};
use frames::Protocol;

/// Stands between clients and a server, and passes on what they say, until it is told to misbehave.
///
/// It reads Redis's protocol, so that it knows where a command ends and which reply is whose, or RabbitMQ's, so that it knows where a frame
/// ends and what it is for. Commands are numbered over all connections together, in the order in which they come; so those of a client's
/// greeting count too. Its tasks run on the runtime that it was started on,
/// and end with it.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// use celeriac_testkit::proxy::{Cut, FaultProxy};
/// use celeriac_testkit::server::{RawRedis, RedisServer};
///
/// let server = RedisServer::start().await;
/// let proxy = FaultProxy::start(server.address()).await;
/// let mut client = RawRedis::connect(proxy.address()).await?;
///
/// proxy.cut_at(Cut::before_reply(2));
/// client.command(&["SET", "a", "1"]).await?;
/// assert!(client.command(&["INCR", "a"]).await.is_err()); // the second command from here on: done, and unanswered
/// assert_eq!(server.command(&["GET", "a"]).await.text(), "2");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct FaultProxy {
    accepting: Mutex<Option<JoinHandle<()>>>,
    port: Port,
    shared: Arc<Shared>,
}

impl FaultProxy {
    /// Starts a proxy for the Redis server at `upstream`.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start(upstream: SocketAddr) -> Self {
        Self::of(Protocol::Resp, upstream).await
    }

    /// Starts a proxy for the RabbitMQ server at `upstream`, which speaks AMQP 0-9-1. Frames of the client's are commands, and frames of the
    /// server's are replies, heartbeats too. What is no frame passes piece by piece, and so does all that follows it.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start_amqp(upstream: SocketAddr) -> Self {
        Self::of(Protocol::Amqp, upstream).await
    }

    /// Starts a proxy for a server of another protocol, or of an encrypted one: each piece that is read from a client counts as a command,
    /// and the next piece from the server as its reply.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start_opaque(upstream: SocketAddr) -> Self {
        Self::of(Protocol::Opaque, upstream).await
    }

    async fn of(protocol: Protocol, upstream: SocketAddr) -> Self {
        let proxy =
            Self { accepting: Mutex::default(), port: Port::reserve(), shared: Shared::new(protocol, upstream) };
        proxy.listen().await;
        proxy
    }

    /// Its TCP port, the same as long as it lives.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its TCP address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Connects to another server from now on; what is connected stays so.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.shared.state().upstream = upstream;
    }

    /// Cuts all connections now. New ones are accepted.
    pub fn cut(&self) {
        self.shared.cut_all();
    }

    /// Cuts a connection at an exact point. Several such orders stand side by side; each is carried out once.
    pub fn cut_at(&self, cut: Cut) {
        self.shared.state().cuts.push(cut);
    }

    /// Cuts a connection at a random point of a command with the probability `per_mille` in a thousand, until [`FaultProxy::heal`]; in AMQP,
    /// of a reply with the same. The same commands in the same order are cut at the same points, and the same replies.
    pub fn cut_randomly(&self, seed: u64, per_mille: u32) {
        self.shared.state().random = Some(Random::new(seed, per_mille));
    }

    /// Refuses new connections until [`FaultProxy::heal`], as a machine does on which nobody listens. Connections that stand are left alone.
    pub async fn refuse(&self) {
        let mut accepting = self.accepting.lock().await;
        if let Some(task) = accepting.take() {
            task.abort();
            // Its listener is closed once it has ended.
            let _ = task.await;
        }
    }

    /// Passes on whatever comes that much later, in both directions, until [`FaultProxy::heal`].
    pub fn delay(&self, delay: Duration) {
        self.shared.state().delay = delay;
    }

    /// Writes at most `bytes` at a time, in both directions, until [`FaultProxy::heal`].
    ///
    /// # Panics
    /// If that is none.
    pub fn split(&self, bytes: usize) {
        assert!(bytes > 0, "nothing would ever be written");
        self.shared.state().piece = bytes;
    }

    /// Accepts connections and swallows what is sent, in both directions, until [`FaultProxy::heal`]: a network that has lost its way.
    pub fn black_hole(&self) {
        self.shared.state().swallows = true;
    }

    /// Ends every misbehaviour, and forgets the cuts that were ordered and have not come. Connections that have swallowed something are cut:
    /// they would be out of step.
    ///
    /// # Panics
    /// If it cannot listen any more.
    pub async fn heal(&self) {
        if self.shared.state().heal() {
            self.cut();
        }
        self.listen().await;
    }

    /// How many commands have come so far.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.shared.state().names.len() as u64
    }

    /// The names of the commands that have come so far, as they were numbered: Redis's in upper case; AMQP's are `basic.publish` and the
    /// like, `header` and `body` of a message, `heartbeat`, and `protocol`, with which a client begins.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.shared.state().names.clone()
    }

    /// The names of the replies that have come so far, in AMQP, as they were numbered. Redis's have none.
    #[must_use]
    pub fn replies(&self) -> Vec<String> {
        self.shared.state().replies.clone()
    }

    /// How many connections have been cut.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.shared.state().cut
    }

    /// How many connections have been accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.state().accepted
    }

    /// How many connections stand.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.shared.state().open
    }

    /// How many bytes have come, in both directions together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.state().bytes
    }

    async fn listen(&self) {
        let mut accepting = self.accepting.lock().await;
        if accepting.is_none() {
            let patience = Patience::new();
            let listener = loop {
                match TcpListener::bind(self.address()).await {
                    Ok(listener) => break listener,
                    // A child of this process that was just forked has what listened there last, for a moment more.
                    Err(error) if error.kind() == ErrorKind::AddrInUse => {
                        patience.pause("a reserved port is free", String::new).await;
                    }
                    Err(error) => panic!("a reserved port cannot be listened on: {error}"),
                }
            };
            *accepting = Some(tokio::spawn(accept(listener, Arc::clone(&self.shared))));
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.get_mut().take() {
            task.abort();
        }
        self.shared.cut_all();
    }
}
