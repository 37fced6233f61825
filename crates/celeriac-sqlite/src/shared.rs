//! `Shared`: what the threads of one store have in common.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use celeriac_core::Clock;
use rusqlite::Connection;
use tokio::sync::Notify;

use crate::config::SqliteConfig;
use crate::error::Outcome;
use crate::handback::Back;
use crate::news::{Mark, News};
use crate::schema::{self, Place};
use crate::topology::micros;
use crate::wake::Wake;
use crate::watch::Watches;

/// So many read at once, each with a connection of its own.
pub(crate) const MOST_READERS: usize = 8;

/// So many watched results are read in one go.
const SLICE: usize = 256;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) place: Place,
    pub(crate) config: SqliteConfig,
    /// Microseconds.
    pub(crate) lease: i64,
    pub(crate) watches: Watches,
    pub(crate) news: News,
    /// Counts the commits, also those that failed: as long as it moves, the writer is not stuck.
    pub(crate) progress: AtomicU64,
    /// Whether the writer has the database to itself: then it may take its time.
    pub(crate) writing: AtomicBool,
    /// What other processes know that this one watches: bits of `Watching`.
    pub(crate) watching: AtomicU8,
    clock: Arc<dyn Clock>,
    consumers: Mutex<Consumers>,
    readers: Mutex<Vec<Connection>>,
    /// Held while somebody reads; by the writer, so that nobody does.
    gate: RwLock<()>,
    /// What could not be handed back yet.
    owed: Mutex<Vec<Back>>,
    /// Whether the threads are to end.
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct Consumers {
    next: u64,
    waiting: HashMap<u64, Waiting>,
}

/// A consumer, as it stands in the table `consumer` too.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) queues: Vec<i64>,
    /// One for each queue.
    pub(crate) rows: Vec<i64>,
    pub(crate) name: Option<String>,
    pub(crate) bell: Arc<Notify>,
}

/// The data is whole after every statement, so a panic elsewhere does no harm to it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(place: Place, mark: Mark, config: SqliteConfig) -> Self {
        Self {
            place,
            lease: micros(config.lease),
            watches: Watches::default(),
            news: News::new(mark),
            progress: AtomicU64::new(0),
            writing: AtomicBool::new(false),
            watching: AtomicU8::new(0),
            clock: Arc::clone(&config.clock),
            consumers: Mutex::default(),
            readers: Mutex::default(),
            gate: RwLock::default(),
            owed: Mutex::default(),
            stopped: AtomicBool::new(false),
            config,
        }
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now().as_micros()
    }

    /// Registers a consumer, and tells its number.
    pub(crate) fn listen(&self, waiting: Waiting) -> u64 {
        let mut consumers = lock(&self.consumers);
        consumers.next += 1;
        let id = consumers.next;
        consumers.waiting.insert(id, waiting);
        id
    }

    /// Shows every consumer.
    pub(crate) fn consumers(&self, see: impl FnMut(&Waiting) -> Outcome) -> Outcome {
        lock(&self.consumers).waiting.values().try_for_each(see)
    }

    pub(crate) fn unlisten(&self, consumer: u64) {
        lock(&self.consumers).waiting.remove(&consumer);
    }

    /// Whether anybody here waits for anything of others.
    pub(crate) fn listens(&self) -> bool {
        !lock(&self.consumers).waiting.is_empty() || self.watches_anything()
    }

    /// Whether anybody here waits for results, or for the schedule to change.
    pub(crate) fn watches_anything(&self) -> bool {
        !self.watches.is_empty() || self.news.is_awaited()
    }

    /// Rings for the consumers of `queues`.
    pub(crate) fn ready(&self, queues: &[i64]) {
        if queues.is_empty() {
            return;
        }
        for waiting in lock(&self.consumers).waiting.values() {
            if waiting.queues.iter().any(|queue| queues.contains(queue)) {
                waiting.bell.notify_one();
            }
        }
    }

    pub(crate) fn ready_all(&self) {
        for waiting in lock(&self.consumers).waiting.values() {
            waiting.bell.notify_one();
        }
    }

    /// Has the writer hand this back as soon as it can.
    pub(crate) fn owe(&self, what: Vec<Back>) {
        lock(&self.owed).extend(what);
    }

    pub(crate) fn owes(&self) -> bool {
        !lock(&self.owed).is_empty()
    }

    /// What is owed, which then no longer is.
    pub(crate) fn take_owed(&self) -> Vec<Back> {
        std::mem::take(&mut lock(&self.owed))
    }

    /// Another process says that something happened.
    pub(crate) fn woken(&self, wake: &Wake) {
        if wake.everything {
            self.ready_all();
        } else {
            self.ready(&wake.queues);
        }
        if (wake.everything || wake.schedule) && self.news.is_awaited() {
            match self.read(Mark::read) {
                Ok(mark) => self.news.offer(mark),
                Err(fault) => {
                    let error = fault.explain("wait for changes", &self.place.path);
                    tracing::warn!(error = %error.report(), "the schedule cannot be read");
                    // Those who wait meet the same, and can say so.
                    self.news.wake();
                }
            }
        }
        if self.watches.is_empty() || !wake.everything && wake.results.is_empty() {
            return;
        }
        let wanted = (!wake.everything).then_some(wake.results.as_slice());
        let named = self.watches.named(wanted);
        // A few at a time, for nobody else gets in between.
        let outcome = named.chunks(SLICE).try_for_each(|ids| {
            let now = self.now();
            self.read(|connection| ids.iter().try_for_each(|id| self.watches.read(connection, id, now)))
        });
        if let Err(fault) = outcome {
            let error = fault.explain("watch", &self.place.path);
            tracing::warn!(error = %error.report(), "results cannot be read; trying again in a second");
        }
    }

    /// Reads with one of the connections kept for that.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> Outcome<T>) -> Outcome<T> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let kept = lock(&self.readers).pop();
        let connection = match kept {
            Some(connection) => connection,
            None => schema::reader(&self.place, &self.config)?,
        };
        let outcome = work(&connection);
        if outcome.is_ok() {
            let mut readers = lock(&self.readers);
            // Asked for only now: whoever stops the store clears them afterwards.
            if readers.len() < MOST_READERS && !self.stopped() {
                readers.push(connection);
            }
        }
        outcome
    }

    /// Waits until nobody here reads; nobody does until the answer is dropped.
    pub(crate) fn hold_readers(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stop(&self) {
        // ORDERING: the flag alone decides; nothing is handed over by it.
        self.stopped.store(true, Ordering::Relaxed);
        lock(&self.readers).clear();
        self.watches.close();
        self.news.wake();
    }

    pub(crate) fn stopped(&self) -> bool {
        // ORDERING: as in `stop`.
        self.stopped.load(Ordering::Relaxed)
    }
}
