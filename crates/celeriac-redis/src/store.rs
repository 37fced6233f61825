//! `RedisStore`: the open store, and what its halves share.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use celeriac_backend::ResultBackend;
use celeriac_broker::Broker;
use celeriac_core::{Error, ErrorKind, QueueName, Result, StoreId};
use celeriac_schedule::ScheduleStore;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::backend::RedisBackend;
use crate::broker::RedisBroker;
use crate::chord::Chords;
use crate::config::RedisConfig;
use crate::endpoint::Endpoint;
use crate::error::closed;
use crate::held::{Entry, Held};
use crate::hub::Hub;
use crate::keeper::{self, Order};
use crate::keys::Keys;
use crate::link::Link;
use crate::schedule::RedisSchedule;
use crate::slots::Slots;
use crate::watch::Watches;
use crate::wire::json;

/// An open Redis database: a broker, a result backend and a store of schedules in one. Clones share it.
///
/// It is closed when its broker, its backend and its store of schedules are closed, save what was not asked for or was dropped before; or when
/// the last handle, consumer and delivery is dropped.
#[derive(Debug, Clone)]
pub struct RedisStore {
    inner: Arc<Inner>,
}

impl RedisStore {
    /// Connects. It is called within a tokio runtime, on which the store then works.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming what is wrong: the credentials, a certificate, the number of the
    /// database. [`ErrorKind::Unsupported`](celeriac_core::ErrorKind::Unsupported) for a server that is too old. [`ErrorKind::Unavailable`](celeriac_core::ErrorKind::Unavailable) if no server can be reached within
    /// [`RedisConfig::startup_timeout`].
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed on the server, and the connection is closed.
    pub async fn open(config: RedisConfig) -> Result<Self> {
        let endpoint = Arc::new(Endpoint::new(config.clone())?);
        let link = Link::new(Arc::clone(&endpoint));
        link.connected("open").await?;
        let (shared, hub) = (Arc::new(Shared::new(config)), Hub::new(Arc::clone(&endpoint)));
        let inner = Inner {
            watches: Watches::new(&shared, &link, &hub),
            shared,
            link,
            hub,
            endpoint,
            keeper: Mutex::default(),
            closing: CancellationToken::new(),
            schedule_closed: CancellationToken::new(),
            taking: watch::Sender::new(0),
            closed: AtomicU8::new(0),
            users: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> Arc<dyn Broker> {
        let broker = RedisBroker::new(Arc::clone(&self.inner));
        // Consumers and deliveries have it too.
        self.inner.hand_out(Half::Broker, broker.settler());
        Arc::new(broker)
    }

    /// The result backend: on the same store as the broker, so that a task's completion is one transition.
    #[must_use]
    pub fn backend(&self) -> Arc<dyn ResultBackend> {
        let backend = Arc::new(RedisBackend::new(Arc::clone(&self.inner)));
        self.inner.hand_out(Half::Backend, &backend);
        backend
    }

    /// The groups and chords, which are closed with the result backend.
    #[must_use]
    pub fn chords(&self) -> Chords {
        let chords = Chords::new(Arc::clone(&self.inner));
        self.inner.hand_out(Half::Backend, chords.used());
        chords
    }

    /// The store of schedules: on the same store as the broker, so that a step and its messages are one transition.
    #[must_use]
    pub fn schedule(&self) -> Arc<dyn ScheduleStore> {
        let schedule = Arc::new(RedisSchedule::new(Arc::clone(&self.inner)));
        self.inner.hand_out(Half::Schedule, &schedule);
        schedule
    }

    /// Closes the broker, the backend and the store of schedules: hands back what is held, and disconnects.
    ///
    /// # Errors
    /// If what is held could not be handed back within 5 seconds: it comes back when its lease ends. The store is closed all the same.
    ///
    /// # Cancel safety
    /// What is held is handed back all the same. If this is dropped while it waits for that, the others may be open still: call it again.
    pub async fn close(&self) -> Result<()> {
        let broker = self.inner.close(Half::Broker).await;
        let backend = self.inner.close(Half::Backend).await;
        let schedule = self.inner.close(Half::Schedule).await;
        broker.and(backend).and(schedule)
    }
}

/// What can be closed by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Half {
    Broker = 1,
    Backend = 2,
    Schedule = 4,
}

/// What the threads of a store share.
pub(crate) struct Shared {
    pub(crate) id: StoreId,
    pub(crate) config: RedisConfig,
    pub(crate) keys: Keys,
    /// This handle's own name, which no other has.
    pub(crate) owner: String,
    /// The key of this handle's marks.
    pub(crate) marks: String,
    pub(crate) held: Held,
    pub(crate) slots: Slots,
    /// How many dropped deliveries the keeper has not handed back yet.
    pub(crate) returning: watch::Sender<usize>,
    /// The queues that messages with an ETA go to in Celery's own form.
    celerys: RwLock<HashSet<QueueName>>,
    numbers: AtomicU64,
}

impl Shared {
    pub(crate) fn new(config: RedisConfig) -> Self {
        let owner = format!("{:016x}", fastrand::u64(..));
        let keys = Keys::new(&config);
        Self {
            id: StoreId(config.store_name()),
            marks: keys.marks(&owner),
            held: Held::new(&owner),
            slots: Slots::default(),
            returning: watch::Sender::new(0),
            celerys: RwLock::default(),
            numbers: AtomicU64::new(0),
            owner,
            keys,
            config,
        }
    }

    /// A text that nobody else has; those of this handle ascend, so that messages parked for one time are sorted as they came.
    pub(crate) fn unique(&self) -> String {
        // ORDERING: only that no number comes twice matters.
        format!("{}.{:016x}", self.owner, self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    /// A queue was declared.
    pub(crate) fn declared(&self, queue: &QueueName, celerys_form: bool) {
        let mut celerys = self.celerys.write().unwrap_or_else(PoisonError::into_inner);
        if celerys_form {
            celerys.insert(queue.clone());
        } else {
            celerys.remove(queue);
        }
    }

    pub(crate) fn keeps_celerys_form(&self, queue: &str) -> bool {
        let celerys = self.celerys.read().unwrap_or_else(PoisonError::into_inner);
        !celerys.is_empty() && celerys.iter().any(|name| name.as_str() == queue)
    }

    /// # Errors
    /// `TooLarge`, naming `what`.
    pub(crate) fn check_size(
        &self,
        operation: &'static str,
        bytes: usize,
        what: impl FnOnce() -> String,
    ) -> Result<()> {
        let limit = self.config.max_message_bytes;
        if bytes <= limit {
            return Ok(());
        }
        let why = format!("{} has {bytes} bytes, the limit is {limit}; see `max_message_bytes`", what());
        Err(Error::new(ErrorKind::TooLarge, operation, why))
    }

    /// What is kept aside of a message that cannot be read. `value` is what `unacked` has of it.
    pub(crate) fn note(&self, entry: &Entry, reason: &str, value: Option<&[u8]>) -> Vec<u8> {
        let mut note = b"{\"queue\": ".to_vec();
        json::push_text(&mut note, &entry.source.queue);
        note.extend_from_slice(b", \"reason\": ");
        json::push_text(&mut note, reason);
        note.extend_from_slice(b", \"item\": \"");
        json::push_base64(&mut note, value.map(|value| entry.source.envelope(value)).unwrap_or_default());
        note.extend_from_slice(b"\"}");
        note
    }
}

/// What the handles of a store share.
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) link: Link,
    pub(crate) hub: Arc<Hub>,
    pub(crate) watches: Arc<Watches>,
    endpoint: Arc<Endpoint>,
    /// There from the first consumer to the closing of the broker.
    keeper: Mutex<Option<mpsc::UnboundedSender<Order>>>,
    /// Cancelled when the broker is closed.
    pub(crate) closing: CancellationToken,
    /// Cancelled when the store of schedules is closed.
    pub(crate) schedule_closed: CancellationToken,
    /// How many calls that take messages are under way.
    taking: watch::Sender<usize>,
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

    pub(crate) fn is_closed(&self, half: Half) -> bool {
        self.closed.load(Ordering::SeqCst) & half as u8 != 0
    }

    pub(crate) fn check_open(&self, half: Half, operation: &'static str) -> Result<()> {
        if self.is_closed(half) { Err(closed(operation)) } else { Ok(()) }
    }

    /// A call that takes messages begins; it has ended when this is dropped.
    pub(crate) fn taking(&self) -> impl Drop + use<> {
        struct Taking(watch::Sender<usize>);
        impl Drop for Taking {
            fn drop(&mut self) {
                self.0.send_modify(|count| *count -= 1);
            }
        }
        self.taking.send_modify(|count| *count += 1);
        Taking(self.taking.clone())
    }

    /// Starts the keeper, if there is none, or the one before broke down.
    pub(crate) fn keep(&self) -> Result<()> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_open(Half::Broker, "consume")?;
        if keeper.as_ref().is_none_or(mpsc::UnboundedSender::is_closed) {
            self.shared.returning.send_replace(0);
            let (shared, endpoint) = (Arc::clone(&self.shared), Arc::clone(&self.endpoint));
            *keeper = Some(keeper::start(shared, endpoint, self.closing.clone())?);
        }
        Ok(())
    }

    /// Hands a delivery back without waiting for it.
    pub(crate) fn hand_back_later(&self, number: u64) {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = &*keeper {
            self.shared.returning.send_modify(|count| *count += 1);
            if keeper.send(Order::Back(number)).is_err() {
                // Without a keeper everything was handed back.
                self.shared.returning.send_modify(|count| *count -= 1);
            }
        }
    }

    /// Closes `half`, and with the last one that is used the connections.
    pub(crate) async fn close(&self, half: Half) -> Result<()> {
        let outcome = self.end(half).await;
        let used = self.users().iter().any(|(half, _)| !self.is_closed(*half));
        if !used {
            for half in [Half::Broker, Half::Backend, Half::Schedule] {
                // Nobody holds anything of a half that nobody uses.
                let _ = self.end(half).await;
            }
            self.link.close();
            self.hub.close();
        }
        outcome
    }

    async fn end(&self, half: Half) -> Result<()> {
        let before = self.closed.fetch_or(half as u8, Ordering::SeqCst);
        match half {
            Half::Broker => {}
            Half::Backend => self.watches.close(),
            Half::Schedule => self.schedule_closed.cancel(),
        }
        if before & half as u8 == 0 && matches!(half, Half::Broker) {
            self.closing.cancel();
            // What is being taken is to be handed back too.
            let mut taking = self.taking.subscribe();
            let _ = tokio::time::timeout(keeper::FAREWELL / 2, taking.wait_for(|count| *count == 0)).await;
            let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(keeper) = keeper {
                let (sender, stopped) = oneshot::channel();
                if keeper.send(Order::Stop(Some(sender))).is_ok() {
                    return stopped.await.unwrap_or_else(|_| Err(not_handed_back()));
                }
            }
        }
        Ok(())
    }
}

fn not_handed_back() -> Error {
    let why = format!(
        "what was held could not be handed back within {:?}, for Redis does not answer; it comes back when its lease ends",
        keeper::FAREWELL
    );
    Error::unavailable("close", why)
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.closing.cancel();
        if let Some(keeper) = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // It hands back what is held, and ends.
            let _ = keeper.send(Order::Stop(None));
        }
        self.watches.close();
        self.link.close();
        self.hub.close();
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("id", &self.shared.id.0).finish_non_exhaustive()
    }
}
