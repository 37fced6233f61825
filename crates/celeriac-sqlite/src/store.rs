//! `SqliteStore`: the open database, and how work reaches its threads.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use celeriac_backend::ResultBackend;
use celeriac_broker::Broker;
use celeriac_core::{Error, Result, StoreId};
use celeriac_schedule::ScheduleStore;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use crate::backend::SqliteBackend;
use crate::broker::SqliteBroker;
use crate::config::SqliteConfig;
use crate::error::{Outcome, closed};
use crate::handback::HandBack;
use crate::schedule::SqliteSchedule;
use crate::schema;
use crate::shared::{MOST_READERS, Shared, lock};
use crate::txn::Txn;
use crate::wake::Watching;
use crate::writer::{Call, Order, Writer};

/// An open database: a broker, a result backend and a store of schedules in one. Clones share it.
///
/// It is closed when its broker, its backend and its schedule are closed, save what was not asked for or was dropped before; or when
/// the last handle, consumer and delivery is dropped.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pub(crate) inner: Arc<Inner>,
}

impl SqliteStore {
    /// Opens the database, and creates it if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming the path and what is wrong with it: its directory does
    /// not exist, it is a directory, another program's database or no database, of a newer version, on a network file
    /// system, or cannot be written to. [`ErrorKind::Unavailable`](celeriac_core::ErrorKind::Unavailable) if it stays locked
    /// for longer than [`SqliteConfig::busy_timeout`].
    pub async fn open(config: SqliteConfig) -> Result<Self> {
        let (ready, opened) = oneshot::channel();
        let (orders, queue) = mpsc::channel();
        let timeout = config.busy_timeout;
        let locked = Error::unavailable(
            "open",
            format!("`{}` is locked by another process for longer than `busy_timeout`", config.path.display()),
        );
        let run = move || {
            let opened = match schema::open(&config) {
                Ok(opened) => opened,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            let shared = Arc::new(Shared::new(opened.place.clone(), opened.mark, config));
            let writer = Writer::new(opened, Arc::clone(&shared), queue);
            // Without anybody to wait for it, there will be no orders either, and the writer ends at once.
            let _ = ready.send(Ok(shared));
            // However it ends, nobody goes on waiting for it.
            let _end = End(Arc::clone(&writer.shared));
            writer.run();
        };
        std::thread::Builder::new()
            .name("celeriac-write".to_owned())
            .spawn(run)
            .map_err(|error| Error::unavailable("open", "cannot start a thread").with_source(error))?;
        let patience = timeout.saturating_add(std::time::Duration::from_secs(1));
        let shared = tokio::time::timeout(patience, opened)
            .await
            .map_err(|_| locked)?
            .map_err(|_| Error::unexpected("open", "the writing thread has ended"))??;
        let inner = Inner {
            id: StoreId(format!("sqlite:{}", shared.place.path.display())),
            orders: RwLock::new(Some(orders)),
            shared,
            closed: AtomicU8::new(0),
            users: Mutex::default(),
            readers: Arc::new(Semaphore::new(MOST_READERS)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> Arc<dyn Broker> {
        let broker = SqliteBroker::new(Arc::clone(&self.inner));
        // Consumers and deliveries have it too.
        self.inner.hand_out(Half::Broker, broker.settler());
        Arc::new(broker)
    }

    /// The result backend: the same store as the broker's, so that a task's completion is one transaction.
    #[must_use]
    pub fn backend(&self) -> Arc<dyn ResultBackend> {
        let backend = Arc::new(SqliteBackend::new(Arc::clone(&self.inner)));
        self.inner.hand_out(Half::Backend, &backend);
        backend
    }

    /// The store of schedules: the same as the broker's, so that a step is taken and publishes its messages in one transaction.
    #[must_use]
    pub fn schedule(&self) -> Arc<dyn ScheduleStore> {
        let schedule = Arc::new(SqliteSchedule::new(Arc::clone(&self.inner)));
        self.inner.hand_out(Half::Schedule, &schedule);
        schedule
    }

    /// Closes the broker, the backend and the schedule: flushes, hands back what is held, and releases the file.
    ///
    /// # Errors
    /// If the flush failed.
    pub async fn close(&self) -> Result<()> {
        let broker = crate::broker::close(&self.inner).await;
        let backend = self.inner.close(Half::Backend).await;
        let schedule = self.inner.close(Half::Schedule).await;
        broker.and(backend).and(schedule)
    }
}

/// Ends all waiting when the writing thread ends.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.stop();
        self.0.ready_all();
    }
}

/// What can be closed by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Half {
    Broker = 1,
    Backend = 2,
    Schedule = 4,
}

impl Half {
    const ALL: [Self; 3] = [Self::Broker, Self::Backend, Self::Schedule];
}

pub(crate) struct Inner {
    pub(crate) id: StoreId,
    pub(crate) shared: Arc<Shared>,
    /// `None` once the writer was told to stop.
    orders: RwLock<Option<mpsc::Sender<Order>>>,
    /// The halves that were closed.
    closed: AtomicU8,
    /// Who uses which half, until they are dropped.
    users: Mutex<Vec<(Half, User)>>,
    /// Let so many read at once.
    readers: Arc<Semaphore>,
}

type User = Weak<dyn Send + Sync>;

impl Inner {
    fn hand_out<T: Send + Sync + 'static>(&self, half: Half, user: &Arc<T>) {
        let user: Weak<T> = Arc::downgrade(user);
        self.users().push((half, user));
    }

    /// Those that are not dropped.
    fn users(&self) -> MutexGuard<'_, Vec<(Half, User)>> {
        let mut users = lock(&self.users);
        users.retain(|(_, user)| user.strong_count() > 0);
        users
    }

    pub(crate) fn is_closed(&self, half: Half) -> bool {
        self.closed.load(Ordering::SeqCst) & half as u8 != 0
    }

    pub(crate) fn check_open(&self, half: Half, operation: &'static str) -> Result<()> {
        if self.is_closed(half) { Err(closed(operation)) } else { Ok(()) }
    }

    /// Marks `half` closed; `false` if it was.
    pub(crate) fn mark_closed(&self, half: Half) -> bool {
        self.closed.fetch_or(half as u8, Ordering::SeqCst) & half as u8 == 0
    }

    /// Closes `half`, and with the last one that is used the database.
    pub(crate) async fn close(&self, half: Half) -> Result<()> {
        self.mark_closed(half);
        match half {
            Half::Broker => {}
            Half::Backend => self.shared.watches.close(),
            Half::Schedule => self.shared.news.wake(),
        }
        if self.users().iter().any(|(half, _)| !self.is_closed(*half)) {
            return Ok(());
        }
        for half in Half::ALL {
            self.mark_closed(half);
        }
        let Some(orders) = self.orders.write().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        let (stopped, done) = oneshot::channel();
        // A writer that has ended by itself has nothing left to do.
        if orders.send(Order::Stop(stopped)).is_ok() {
            self.wait("close", done).await?;
        }
        Ok(())
    }

    /// A way to the writer.
    pub(crate) fn orders(&self, operation: &'static str) -> Result<mpsc::Sender<Order>> {
        self.orders.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(|| closed(operation))
    }

    /// Has `call` done by the writer.
    pub(crate) async fn call<T, F>(
        &self,
        operation: &'static str,
        call: (Call<T, F>, oneshot::Receiver<Result<T>>),
    ) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn<'_>) -> Outcome<T> + Send + 'static,
    {
        let (job, answer) = call;
        self.orders(operation)?.send(Order::Job(Box::new(job))).map_err(|_| closed(operation))?;
        self.wait(operation, answer).await?
    }

    /// Has other processes wake this one for `what`.
    pub(crate) async fn announce(&self, operation: &'static str, what: Watching) -> Result<()> {
        let watching = what as u8;
        if self.shared.watching.load(Ordering::SeqCst) & watching != 0 {
            return Ok(());
        }
        let (job, answer) = Call::new(operation, move |txn| txn.announce(watching));
        self.call(operation, (job.joining(), answer)).await?;
        self.shared.watching.fetch_or(watching, Ordering::SeqCst);
        Ok(())
    }

    /// Has the writer give something up, which it goes on to try if it fails.
    pub(crate) async fn hand_back(&self, operation: &'static str, job: HandBack) -> Result<()> {
        let (job, answer) = job.answered();
        self.orders(operation)?.send(Order::Job(Box::new(job))).map_err(|_| closed(operation))?;
        self.wait(operation, answer).await?
    }

    /// Waits for the writer's answer; gives up when it has not moved for as long as `busy_timeout`.
    pub(crate) async fn wait<T>(&self, operation: &'static str, mut answer: oneshot::Receiver<T>) -> Result<T> {
        let patience = self.shared.config.busy_timeout.saturating_add(std::time::Duration::from_secs(1));
        loop {
            // ORDERING: see where it is counted up.
            let before = self.shared.progress.load(Ordering::Relaxed);
            match tokio::time::timeout(patience, &mut answer).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(_)) => {
                    return Err(match Half::ALL.into_iter().any(|half| self.is_closed(half)) {
                        true => closed(operation),
                        false => Error::unexpected(operation, "the writing thread has ended"),
                    });
                }
                Err(_) if self.shared.progress.load(Ordering::Relaxed) != before => {}
                Err(_) if self.shared.writing.load(Ordering::Relaxed) => {}
                Err(_) => {
                    let path = self.shared.place.path.display();
                    let why = format!("`{path}` is locked by another process for longer than `busy_timeout`");
                    return Err(Error::unavailable(operation, why));
                }
            }
        }
    }

    /// Reads on a thread where blocking does no harm.
    pub(crate) async fn read<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let turn = Arc::clone(&self.readers).acquire_owned().await.map_err(|_| closed(operation))?;
        let read = move || {
            // Given back when the reading is over, whoever still waits for it.
            let _turn = turn;
            let checked = |connection: &Connection| {
                shared.place.check()?;
                work(connection)
            };
            shared.read(checked).map_err(|fault| fault.explain(operation, &shared.place.path))
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| Error::unexpected(operation, "a reading thread has ended").with_source(error))?
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.shared.place.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
