//! The trait that a result backend implements for celeriac. No implementation lives here.
//!
//! Part of [celeriac](https://docs.rs/celeriac); most users want that crate. Take this one to write a result backend of your own, and
//! prove it with the conformance suite of `celeriac-testkit`.
//!
//! A backend keeps one [`TaskMeta`] for each task id: its state and its result, in the format the worker serialised it in. It never looks
//! into the result. Whoever waits for a task [watches](ResultBackend::watch) it: nothing is polled.

use std::fmt;

/// What the traits are implemented with; re-exported so that authors need no dependency of their own.
pub use async_trait::async_trait;
pub use celeriac_core::{
    Error, ErrorKind, Payload, Result, ResultTuple, StoreResult, TaskFailure, TaskMeta, TaskState,
};
use celeriac_core::{RoutingKey, StoreId, TaskId};

/// A store for the states and results of tasks.
///
/// Object safe, and used as `Arc<dyn ResultBackend>`: which one is decided by a URL at run time.
///
/// # Handles
/// A value that was opened is a handle, its clones and the `Arc`s around it are the same one. Each handle is closed alone, and a system that
/// is a broker too closes its two halves apart: closing the backend leaves the broker open.
///
/// # What every backend holds to
/// - A record replaces the one before only if [`TaskState::may_become`] says so: a success is final, an ended task does not run again.
///   A write that may not happen is passed over, and is no error.
/// - A record that expired is gone: it is not fetched, and a watch that begins later does not see it. `expires` counts from the storing.
/// - A backend heals lost connections by itself: a call waits, within the caller's own deadline, until it can be answered for.
#[async_trait]
pub trait ResultBackend: fmt::Debug + Send + Sync + 'static {
    /// What this backend can do. Constant for its life.
    fn capabilities(&self) -> BackendCapabilities;

    /// The store that results are written to, if a broker may write them there in the same transition as an acknowledgement.
    fn store_id(&self) -> Option<StoreId> {
        None
    }

    /// The address that workers send results to, for backends that receive them as messages (Celery's `rpc://`). Goes into the
    /// `reply_to` of every task sent, and from there into [`StoreResult::reply_to`]; a result without one goes nowhere.
    fn reply_to(&self) -> Option<RoutingKey> {
        None
    }

    /// Stores `batch`, in order, and wakes whoever watches. `Ok` means all of it is stored.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] naming the task whose result is over the backend's limit; [`ErrorKind::Unavailable`] if the backend gave
    /// up or is closed. What came before in the batch may have been stored; storing again does no harm.
    async fn store(&self, batch: Vec<StoreResult>) -> Result<()>;

    /// The records of `ids`, in the same order; `None` where nothing is stored.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] naming the task whose record cannot be read; [`ErrorKind::Unavailable`] if the backend gave up, or
    /// is closed.
    async fn fetch(&self, ids: &[TaskId]) -> Result<Vec<Option<TaskMeta>>>;

    /// Watches one task: first the record that is there, if any, then every one that follows. No final record is missed, whether it is
    /// stored before, while or after this is called.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the backend gave up, or is closed.
    async fn watch(&self, id: &TaskId) -> Result<Box<dyn Watch>>;

    /// Forgets `ids`: their records are gone, and bind nobody: see [`Watch::next`] for those who watch. An id without a record is no error.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the backend gave up, or is closed.
    async fn forget(&self, ids: &[TaskId]) -> Result<()>;

    /// Deletes the records that have expired, and tells how many. Backends that expire by themselves return 0.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the backend gave up, or is closed.
    async fn sweep(&self) -> Result<u64>;

    /// Closes this handle: flushes, and releases the connection. Every later call fails with [`ErrorKind::Unavailable`]; a pending [`Watch::next`] ends with
    /// it. Closing again does nothing.
    ///
    /// # Errors
    /// If the flush failed.
    async fn close(&self) -> Result<()>;
}

/// The records of one task, as they come.
#[async_trait]
pub trait Watch: fmt::Debug + Send + 'static {
    /// Waits for the next record. Records between two calls may be left out, save the last: whoever is slow sees the newest.
    ///
    /// A record that is forgotten, or expires, between its storing and this call is yielded or left out: both may be. If it is left out, the
    /// watch goes on with what is stored later.
    ///
    /// After a final record ([`TaskState::is_ready`]) was yielded nothing follows, and the call waits for ever.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] once the backend is closed; [`ErrorKind::Malformed`] for a record that cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe: dropping the future loses no record.
    async fn next(&mut self) -> Result<TaskMeta>;
}

/// What a result backend can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BackendCapabilities {
    /// Records survive the restart of the store.
    pub durable: bool,
    /// Any number of handles may read one result, as soon as it is stored. Not so where results are messages: they come to the handle whose
    /// [`reply_to`](ResultBackend::reply_to) they were sent to, some time after they were stored, in the order of storing.
    pub shared: bool,
}

impl BackendCapabilities {
    /// No capability. Set those that the backend has.
    #[must_use]
    pub const fn none() -> Self {
        Self { durable: false, shared: false }
    }
}

fn _object_safe(_: &dyn ResultBackend, _: &dyn Watch) {}
