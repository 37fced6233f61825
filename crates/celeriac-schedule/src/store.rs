//! `ScheduleStore`: entries, and who leads.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use celeriac_core::{EntryName, Result, StoreId};

use crate::entry::{Changes, Condition, Put, Revision, StoredEntry};
use crate::lead::{Lead, Term};
use crate::step::{Advance, Step};

/// A store of schedules. Object safe, and used as `Arc<dyn ScheduleStore>`.
///
/// # Handles
/// A value that was opened is a handle, its clones and the `Arc`s around it are the same one. Each handle is closed alone, and a system that is a
/// broker or a result backend too closes each of them apart.
///
/// # What every store holds to
/// - Each method is one step: others see all of it or nothing.
/// - A store heals lost connections by itself: a call waits, within the caller's own deadline, until it can be answered for.
/// - Whatever fails may be called again, also when nobody knows whether it was done.
#[async_trait]
pub trait ScheduleStore: fmt::Debug + Send + Sync + 'static {
    /// What this store can do. Constant for its life.
    fn capabilities(&self) -> ScheduleCapabilities;

    /// The store that [`Step::publish`] goes to: that of [`Broker::store_id`](celeriac_broker::Broker::store_id). `Some` if and only if it
    /// [publishes](ScheduleCapabilities::publishes).
    fn store_id(&self) -> Option<StoreId> {
        None
    }

    /// Writes an entry's definition, if `condition` holds. Its state stays as it is. Writing what is there already changes nothing, and is answered
    /// with the revision that it has.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) naming an entry over the store's limit, which is a mebibyte at least;
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store gave up, or is closed.
    async fn put(&self, name: &EntryName, definition: Bytes, condition: Condition) -> Result<Put>;

    /// Removes an entry with its state, and tells whether it was there.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store gave up, or is closed.
    async fn remove(&self, name: &EntryName) -> Result<bool>;

    /// An entry, if it is there.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store gave up, or is closed.
    async fn get(&self, name: &EntryName) -> Result<Option<StoredEntry>>;

    /// Up to `limit` entries by the order of their names as bytes, those behind `after`. Fewer than `limit` are the last.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store gave up, or is closed.
    async fn list(&self, after: Option<&EntryName>, limit: NonZeroUsize) -> Result<Vec<StoredEntry>>;

    /// Entries whose definition was changed, or that were removed, after `since`, in the order of their revisions; `limit` at once.
    ///
    /// A store may forget what was removed a while ago. Asked from before that, from [`Revision::START`], or from a revision that it never gave, as one
    /// does that was restored from a copy, it does not [know](Changes::Unknown).
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store gave up, or is closed.
    async fn changes(&self, since: Revision, limit: NonZeroUsize) -> Result<Changes>;

    /// Waits until a definition has changed after `since`, or the leader resigns. May return without either.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store gave up, or is closed, also while this waits.
    ///
    /// # Cancel safety
    /// Cancel safe: a change is seen by the next call with the same `since`.
    async fn changed(&self, since: Revision) -> Result<()>;

    /// Makes the caller the leader for the length of `lease`, or renews that, if nobody else leads. `who` is a name that no other caller has: not
    /// even the one that was started in its place.
    ///
    /// The leader that renews in time keeps its term. Another's lease that has ended, or was [resigned](ScheduleStore::resign), begins a new one,
    /// with a larger number than any before. A clock that is set back makes no lease longer than it was given for.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store gave up, or is closed.
    async fn lead(&self, who: &str, lease: Duration) -> Result<Lead>;

    /// Ends the lease of `term` now, so that another may lead. Does nothing if it is not the newest.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store gave up, or is closed.
    async fn resign(&self, term: Term) -> Result<()>;

    /// Takes steps, in order: each wholly or not at all. If `term` is not the newest, or was resigned, none. A lease that has ended is no
    /// hindrance as long as nobody else leads.
    ///
    /// # Errors
    /// Then any of the steps may have been taken. [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a step that publishes, without the
    /// capability; [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) naming an entry whose state is over the store's limit;
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store gave up, or is closed.
    ///
    /// # Cancel safety
    /// Not cancel safe: the steps may or may not have been taken. Calling again with the same ones takes each once.
    async fn advance(&self, term: Term, steps: Vec<Step>) -> Result<Advance>;

    /// Closes this handle. Every later call fails with [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable); a pending
    /// [`ScheduleStore::changed`] ends with it. Closing again does nothing. A lease goes on until it ends.
    ///
    /// # Errors
    /// If what was written could not be flushed.
    async fn close(&self) -> Result<()>;
}

/// What a store of schedules can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ScheduleCapabilities {
    /// Entries, their states, and terms survive the restart of the store.
    pub durable: bool,
    /// [`Step::publish`]: the store is one system with a broker.
    pub publishes: bool,
    /// Any number of handles may be open on one store, as those of other processes.
    pub shared: bool,
}

impl ScheduleCapabilities {
    /// No capability. Set those that the store has.
    #[must_use]
    pub const fn none() -> Self {
        Self { durable: false, publishes: false, shared: false }
    }
}

fn _object_safe(_: &dyn ScheduleStore) {}
