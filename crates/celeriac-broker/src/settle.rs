//! `Settle`: how deliveries end.

use std::fmt;

use async_trait::async_trait;
use celeriac_core::{Result, StoreResult, Timestamp};

use crate::broker::Outgoing;
use crate::delivery::{DeliveryTag, Requeue};

/// The settling half of a broker: many deliveries at a time.
///
/// Users settle through [`Delivery`](crate::Delivery) and [`settle_all`](crate::settle_all); this is what a broker implements, once for a
/// handle and all its consumers: only receipts of the same `Settle` are settled together.
#[async_trait]
pub trait Settle: fmt::Debug + Send + Sync + 'static {
    /// Carries out `batch`, each settlement wholly or not at all.
    ///
    /// In order, up to the first that fails. A broker that has many under way at once may have done some behind that.
    ///
    /// A tag that is not held any more (its lease was lost) is passed over, before its verb is looked at: the message is another's by now, so
    /// neither result nor follow-ups are written. `Ok` means all else is done; `batch` then holds, in their order, just those that were
    /// passed over. Once the broker is closed nothing is held: all of it is passed over, or refused as
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable), and no message is touched.
    ///
    /// # Errors
    /// `batch` then holds what was *not* done, to be tried again: first the settlement that failed with this error, then whatever after it
    /// was not done either, in their order. The order matters: `settle_all` goes by it.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for [`Verb::Park`] without
    ///   [`Capabilities::delay`](crate::Capabilities::delay), for a [`Completion::result`] that the broker does not store, and for a verb
    ///   that this broker does not know: `Verb` may grow, and the wildcard arm belongs here.
    /// - As [`Broker::publish`](crate::Broker::publish) for a message of [`Completion::next`], such as one that cannot be routed or is too
    ///   large; and as the result backend's `store` for [`Completion::result`].
    /// - [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the broker gave up.
    ///
    /// # Cancel safety
    /// Not cancel safe: what was under way may or may not be done.
    async fn settle(&self, batch: &mut Vec<Settlement>) -> Result<()>;

    /// Hands one delivery back without waiting, as if rejected with [`Requeue::Yes`], because its receipt was dropped. Must not block and must
    /// not fail: what cannot be handed back now comes back when its holder's lease ends. A tag that is not held is passed over.
    fn abandon(&self, tag: DeliveryTag);
}

/// One delivery and how it ends.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The delivery.
    pub tag: DeliveryTag,
    /// How it ends.
    pub verb: Verb,
}

/// How a delivery ends.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Verb {
    /// Done.
    Ack,
    /// Refused.
    Reject(Requeue),
    /// To be delivered again at this instant, at once if it is past; this delivery is not counted. Needs
    /// [`Capabilities::delay`](crate::Capabilities::delay), whatever the instant.
    Park(Timestamp),
    /// Done, with what follows.
    Complete(Box<Completion>),
}

/// A task's end as one transition: what follows is published, the result is stored, the message is acknowledged.
///
/// A broker that is its own result backend ([`Broker::store_id`](crate::Broker::store_id)) does it atomically. Any other broker
/// publishes `next` first and acknowledges then, so that a crash in between repeats the task and never loses it; it refuses a `result`
/// as [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Completion {
    /// The result to store; none when the task ignores it.
    pub result: Option<StoreResult>,
    /// The messages that follow: callbacks, the next step of a chain, a retry.
    pub next: Vec<Outgoing>,
}

impl Completion {
    /// Only the acknowledgement.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the result to store.
    #[must_use]
    pub fn result(mut self, result: StoreResult) -> Self {
        self.result = Some(result);
        self
    }

    /// Adds a message to publish.
    #[must_use]
    pub fn then(mut self, next: Outgoing) -> Self {
        self.next.push(next);
        self
    }
}

fn _object_safe(_: &dyn Settle) {}
