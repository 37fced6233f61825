//! `Dispatch`: where ticks go.

use std::fmt;

use async_trait::async_trait;
use celeriac_broker::Outgoing;
use celeriac_core::{Error, Result, StoreId, TaskId};

use crate::tick::Tick;

/// Sends ticks: to a broker, or to wherever else.
///
/// One method is enough. Those with a broker that is one system with the store of the schedule also have [`Dispatch::store_id`] and
/// [`Dispatch::messages`]: then a tick is taken and its messages are published in one step, and no tick is sent twice. Elsewhere a tick is sent
/// first and written down then, so that it is sent once at least, under one id.
#[async_trait]
pub trait Dispatch: fmt::Debug + Send + Sync + 'static {
    /// Sends `ticks`, each of another entry, and tells of each whether it was, in their order. Ends within a time of its own: nothing else is sent
    /// meanwhile.
    ///
    /// One that fails for now ([`Error::is_retryable`]) is tried again, under the same id, with pauses that grow; the entry's later ticks wait for it.
    /// One that fails for good is told to the log, and passed over.
    async fn send(&self, ticks: &[Tick]) -> Vec<Result<()>>;

    /// The store that [`Dispatch::messages`] are for: that of [`Broker::store_id`](celeriac_broker::Broker::store_id). If the store of the schedule is
    /// the same, that publishes the messages, and nothing is [sent](Dispatch::send).
    fn store_id(&self) -> Option<StoreId> {
        None
    }

    /// The messages of a tick.
    ///
    /// # Errors
    /// As [`Dispatch::send`]. By default [`ErrorKind::Unsupported`](celeriac_core::ErrorKind::Unsupported).
    fn messages(&self, tick: &Tick) -> Result<Vec<Outgoing>> {
        let message = format!("entry `{}`: this dispatcher makes no messages", tick.entry.name);
        Err(Error::unsupported("dispatch", message))
    }

    /// Whether the task of each of `ids` is unfinished. Asked for entries that do not overlap.
    ///
    /// # Errors
    /// If it cannot be told for now: the ticks wait. By default [`ErrorKind::Unsupported`](celeriac_core::ErrorKind::Unsupported): then such entries are
    /// not sent.
    async fn unfinished(&self, ids: &[TaskId]) -> Result<Vec<bool>> {
        let message = format!("this dispatcher cannot tell whether {} task(s) are finished", ids.len());
        Err(Error::unsupported("dispatch", message))
    }
}

fn _object_safe(_: &dyn Dispatch) {}
