//! `AmqpStore`: the open store, and what its halves share.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use celeriac_backend::ResultBackend;
use celeriac_broker::Broker;
use celeriac_core::{QueueName, Result};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backend::{AmqpBackend, Replies};
use crate::broker::AmqpBroker;
use crate::config::AmqpConfig;
use crate::consumer::keeper::Keeping;
use crate::endpoint::Endpoint;
use crate::error::closed;
use crate::held::Held;
use crate::link::Link;
use crate::publish::Publisher;
use crate::topology::Topology;

/// An open connection to a RabbitMQ server: a broker, and a result backend by messages (`rpc://`). Clones share it.
///
/// It is closed when its broker and its backend are closed, save what was not asked for or was dropped before; or when the last handle,
/// consumer and delivery is dropped.
#[derive(Debug, Clone)]
pub struct AmqpStore {
    inner: Arc<Inner>,
}

impl AmqpStore {
    /// Connects. It is called within a tokio runtime, on which the store then works.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming what is wrong: the credentials, a certificate, the virtual host.
    /// [`ErrorKind::Unavailable`](celeriac_core::ErrorKind::Unavailable) if no server can be reached within [`AmqpConfig::startup_timeout`].
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed on the server, and the connection is closed.
    pub async fn open(config: AmqpConfig) -> Result<Self> {
        let endpoint = Arc::new(Endpoint::new(config.clone())?);
        let (sending, receiving) =
            (Link::new(Arc::clone(&endpoint), "sends"), Link::new(Arc::clone(&endpoint), "receives"));
        sending.connected("open").await?;
        let topology = Arc::new(Topology::new(config.clone(), sending.clone(), receiving.clone()));
        let publisher = Publisher::new(config.clone(), sending.clone(), Arc::clone(&topology));
        let closing = CancellationToken::new();
        let ended = closing.child_token();
        let inner = Inner {
            replies: Replies::new(&receiving, &config)?,
            held: Held::default(),
            publisher,
            topology,
            sending,
            receiving,
            config,
            kept: Mutex::default(),
            _ended: ended.clone().drop_guard(),
            ended,
            closing,
            kept_up: Keeping::default(),
            closed: AtomicU8::new(0),
            users: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> Arc<dyn Broker> {
        let broker = AmqpBroker::new(Arc::clone(&self.inner));
        // Consumers and deliveries have it too.
        self.inner.hand_out(Half::Broker, broker.settler());
        Arc::new(broker)
    }

    /// The result backend by messages, Celery's `rpc://`: the results of tasks that were sent through this very handle.
    #[must_use]
    pub fn backend(&self) -> Arc<dyn ResultBackend> {
        let backend = Arc::new(AmqpBackend::new(Arc::clone(&self.inner)));
        self.inner.hand_out(Half::Backend, &backend);
        backend
    }

    /// Closes the broker and the backend: hands back what is held, and disconnects.
    ///
    /// # Errors
    /// If the server could not be told; then it finds out by itself. The store is closed all the same.
    pub async fn close(&self) -> Result<()> {
        let broker = self.inner.close(Half::Broker).await;
        let backend = self.inner.close(Half::Backend).await;
        broker.and(backend)
    }
}

/// What can be closed by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Half {
    Broker = 1,
    Backend = 2,
}

/// What the handles of a store share.
pub(crate) struct Inner {
    pub(crate) config: AmqpConfig,
    /// Declares and publishes. RabbitMQ stops reading from those that publish when it is short of memory or disk, so nothing else goes here.
    pub(crate) sending: Link,
    /// Consumes and acknowledges.
    pub(crate) receiving: Link,
    pub(crate) topology: Arc<Topology>,
    pub(crate) publisher: Publisher,
    pub(crate) held: Held,
    pub(crate) replies: Arc<Replies>,
    /// Queues that live only as long as they are consumed, as far as they were declared here.
    kept: Mutex<HashSet<QueueName>>,
    /// The broker is closed.
    pub(crate) closing: CancellationToken,
    /// The same, or the store is gone.
    pub(crate) ended: CancellationToken,
    _ended: DropGuard,
    /// Somebody looks after what is held for long.
    kept_up: Keeping,
    /// The halves that were closed.
    closed: AtomicU8,
    /// Who uses which half, until they are dropped.
    users: Mutex<Vec<(Half, User)>>,
}

type User = Weak<dyn Send + Sync>;

impl Inner {
    fn hand_out<T: Send + Sync + 'static>(&self, half: Half, user: &Arc<T>) {
        let user: Weak<T> = Arc::downgrade(user);
        self.users().push((half, user));
    }

    /// Those that are not dropped.
    fn users(&self) -> MutexGuard<'_, Vec<(Half, User)>> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|(_, user)| user.strong_count() > 0);
        users
    }

    /// Has what is held for long be looked after, from now on.
    pub(crate) fn keep_up(self: &Arc<Self>) {
        self.kept_up.start(self);
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, HashSet<QueueName>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_closed(&self, half: Half) -> bool {
        self.closed.load(Ordering::SeqCst) & half as u8 != 0
    }

    pub(crate) fn check_open(&self, half: Half, operation: &'static str) -> Result<()> {
        if self.is_closed(half) { Err(closed(operation)) } else { Ok(()) }
    }

    /// Closes `half`, and with the last one that is used the connections.
    pub(crate) async fn close(&self, half: Half) -> Result<()> {
        let outcome = self.end(half).await;
        let used = self.users().iter().any(|(half, _)| !self.is_closed(*half));
        if !used {
            for half in [Half::Broker, Half::Backend] {
                // Nobody holds anything of a half that nobody uses.
                let _ = self.end(half).await;
            }
            self.sending.close().await;
            self.receiving.close().await;
        }
        outcome
    }

    async fn end(&self, half: Half) -> Result<()> {
        let before = self.closed.fetch_or(half as u8, Ordering::SeqCst);
        if before & half as u8 != 0 {
            return Ok(());
        }
        match half {
            Half::Broker => {
                self.closing.cancel();
                self.held.close().await
            }
            Half::Backend => {
                self.replies.close().await;
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpStore").field("url", &self.config.shown()).finish_non_exhaustive()
    }
}
