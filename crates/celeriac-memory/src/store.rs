//! `MemoryStore`: the handle, the lock behind it, and the stores that have names.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use celeriac_core::{Clock, Error, Result, StoreId, Timestamp};
use tokio::sync::Notify;

use crate::config::MemoryConfig;
use crate::state::{After, HandleId, State};

/// A broker, result backend and store of schedules in this process's memory.
///
/// Cheap to clone; clones are one handle, and closing one closes them all. [`MemoryStore::connect`] makes another handle on the same
/// messages, results and entries, as a second process would have on another broker. As broker, as backend and as store of schedules a handle is closed
/// each on its own. The contents go with the last handle.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use celeriac_backend::ResultBackend;
/// use celeriac_broker::Broker;
/// use celeriac_memory::MemoryStore;
///
/// let store = MemoryStore::new();
/// let broker: Arc<dyn Broker> = Arc::new(store.clone());
/// let backend: Arc<dyn ResultBackend> = Arc::new(store);
/// assert_eq!(broker.store_id(), backend.store_id());
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    pub(crate) handle: Arc<Handle>,
}

/// One user of a store.
pub(crate) struct Handle {
    pub(crate) id: HandleId,
    pub(crate) shared: Arc<Shared>,
    // ORDERING: all are read and written under the store's lock, which orders them.
    pub(crate) broker_closed: AtomicBool,
    pub(crate) backend_closed: AtomicBool,
    pub(crate) schedule_closed: AtomicBool,
}

/// The store itself.
pub(crate) struct Shared {
    pub(crate) id: StoreId,
    pub(crate) config: MemoryConfig,
    /// Wakes all who wait for a change of entries or of the leader.
    pub(crate) schedule_changed: Notify,
    /// A std mutex: it is held for microseconds, never across an await, and never while anything foreign runs.
    state: Mutex<State>,
}

type Registry = Mutex<HashMap<String, Weak<Shared>>>;

/// The stores that have names.
static NAMED: std::sync::LazyLock<Registry> = std::sync::LazyLock::new(Registry::default);
static LAST_ID: AtomicU64 = AtomicU64::new(0);

// ORDERING: only uniqueness is needed.
fn fresh_id() -> u64 {
    LAST_ID.fetch_add(1, Ordering::Relaxed)
}

impl MemoryStore {
    /// A new, empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::with_config(MemoryConfig::new())
    }

    /// A new, empty store that takes the time from `clock`; see [`MemoryStore::wake`].
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self::with_config(MemoryConfig::new().clock(clock))
    }

    /// A new, empty store with limits of its own.
    #[must_use]
    pub fn with_config(config: MemoryConfig) -> Self {
        Self::on(Arc::new(Shared::new(config)))
    }

    /// A handle on the store that this process knows as `name`: the one a URL `memory://name` means. It is made, with the default
    /// configuration, if no handle on one exists.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = named.get(name).and_then(Weak::upgrade) {
            return Self::on(shared);
        }
        named.retain(|_, store| store.strong_count() > 0);
        let shared = Arc::new(Shared::new(MemoryConfig::new()));
        named.insert(name.to_owned(), Arc::downgrade(&shared));
        Self::on(shared)
    }

    /// Another handle on the same store: it is closed, and holds deliveries, on its own.
    #[must_use]
    pub fn connect(&self) -> Self {
        Self::on(Arc::clone(&self.handle.shared))
    }

    /// Makes the store look at its clock again, after the time jumped. Only needed with a clock that is not the machine's.
    pub fn wake(&self) {
        let now = self.handle.shared.now();
        self.handle.shared.with(|state, after| {
            state.let_in_due(now, after);
            if let Some(timer) = &state.timer {
                after.wake(Arc::clone(timer));
            }
        });
    }

    fn on(shared: Arc<Shared>) -> Self {
        let [broker_closed, backend_closed, schedule_closed] = [false; 3].map(AtomicBool::new);
        Self { handle: Arc::new(Handle { id: fresh_id(), shared, broker_closed, backend_closed, schedule_closed }) }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryStore").field(&self.handle.shared.id.0).finish()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("id", &self.id).field("store", &self.shared.id.0).finish_non_exhaustive()
    }
}

impl Handle {
    /// Whether the broker's half is closed; asked under the lock.
    pub(crate) fn check_broker(&self, operation: &'static str) -> Result<()> {
        if self.broker_closed.load(Ordering::Relaxed) {
            return Err(Error::unavailable(operation, "the memory broker is closed"));
        }
        Ok(())
    }

    /// As [`Shared::with`], unless the broker's half is closed.
    pub(crate) fn with_broker<R>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&mut State, &mut After) -> Result<R>,
    ) -> Result<R> {
        self.shared.with(|state, after| {
            self.check_broker(operation)?;
            act(state, after)
        })
    }

    /// As [`Shared::with`], unless the backend's half is closed.
    pub(crate) fn with_backend<R>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&mut State, &mut After) -> R,
    ) -> Result<R> {
        self.shared.with(|state, after| {
            if self.backend_closed.load(Ordering::Relaxed) {
                return Err(Error::unavailable(operation, "the memory result backend is closed"));
            }
            Ok(act(state, after))
        })
    }
}

impl Shared {
    fn new(config: MemoryConfig) -> Self {
        Self {
            id: StoreId(format!("memory:{}", fresh_id())),
            config,
            schedule_changed: Notify::new(),
            state: Mutex::default(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.config.clock.now()
    }

    /// Does something under the lock, then, without it, what that leaves to be done.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut State, &mut After) -> R) -> R {
        let mut after = After::default();
        let result = act(&mut self.lock(), &mut after);
        after.run();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock would be a bug of this crate; the state is still the best there is.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Lets the timer's task end now instead of at the next due time.
        if let Some(timer) = &self.lock().timer {
            timer.notify_one();
        }
    }
}
