//! `Delivery`: a message in a consumer's hands, and the receipt it is settled by.

use std::fmt;
use std::sync::Arc;

use celeriac_core::{Error, ExchangeName, Message, QueueName, Result, RoutingKey, Timestamp};

use crate::settle::{Completion, Settle, Settlement, Verb};

/// Names a delivery within one [`Settle`], which is best shared by all consumers of a handle: [`settle_all`] makes one call for receipts of
/// the same `Settle`, and one more wherever it changes. No tag is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryTag(pub u64);

/// Whether a settlement was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settled {
    /// It was.
    Done,
    /// The delivery was not held any more: nothing was done, and the message is another's by now.
    Lost,
}

/// What becomes of a rejected message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Requeue {
    /// It goes back to its queue; where the broker [keeps its place](crate::Capabilities::keeps_place), before the others of its priority, and
    /// messages that came back keep their old order.
    Yes,
    /// It is dropped, or dead-lettered where the broker is told to.
    No,
}

/// A message in a consumer's hands.
///
/// Settling consumes it. One that is dropped unsettled goes back to its queue, as if rejected with [`Requeue::Yes`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// The queue it was taken from.
    pub queue: QueueName,
    /// The exchange it was published to.
    pub exchange: ExchangeName,
    /// The routing key it was published with.
    pub routing_key: RoutingKey,
    /// Whether it may have been delivered before. Deliveries that ended by [parking](Delivery::park) do not count.
    pub redelivered: bool,
    /// How many times it has been delivered, this one included, those that ended by [parking](Delivery::park) not; `None` if the broker does
    /// not count.
    pub delivery_count: Option<u32>,
    receipt: Receipt,
}

impl Delivery {
    /// A first delivery of `message` from `queue`, published straight to it. For those who write brokers.
    #[inline]
    #[must_use]
    pub fn new(message: Message, queue: QueueName, receipt: Receipt) -> Self {
        Self {
            message,
            exchange: ExchangeName::DEFAULT,
            routing_key: RoutingKey::from(&queue),
            queue,
            redelivered: false,
            delivery_count: None,
            receipt,
        }
    }

    /// Sets the exchange and routing key that it was published with.
    #[inline]
    #[must_use]
    pub fn published_to(mut self, exchange: ExchangeName, routing_key: RoutingKey) -> Self {
        self.exchange = exchange;
        self.routing_key = routing_key;
        self
    }

    /// Sets how many times it has been delivered; more than once marks it redelivered.
    #[inline]
    #[must_use]
    pub fn counted(mut self, deliveries: u32) -> Self {
        self.delivery_count = Some(deliveries);
        self.redelivered = deliveries > 1;
        self
    }

    /// Marks it as one that may have been delivered before.
    #[inline]
    #[must_use]
    pub fn redelivered(mut self, redelivered: bool) -> Self {
        self.redelivered = redelivered;
        self
    }

    /// Splits the receipt off, so that the message can go one way and its settling another.
    #[inline]
    #[must_use]
    pub fn split(self) -> (Message, Receipt) {
        (self.message, self.receipt)
    }

    /// The receipt, leaving the message.
    #[must_use]
    pub fn into_receipt(self) -> Receipt {
        self.receipt
    }

    /// Done: the message is not delivered again.
    ///
    /// If the delivery is not held any more (its lease was lost, its broker closed), this does nothing and says [`Settled::Lost`]: the message
    /// is another's by now.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the broker gave up; the message then will be delivered again. Once the
    /// broker is closed, either that or `Ok`.
    pub async fn ack(self) -> Result<Settled> {
        self.receipt.settle(Verb::Ack).await
    }

    /// Refuses the message.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn reject(self, requeue: Requeue) -> Result<Settled> {
        self.receipt.settle(Verb::Reject(requeue)).await
    }

    /// Hands the message back to the broker, to be delivered again at `until`, at once if that is past. The delivery does not count as one.
    ///
    /// # Errors
    /// As [`Delivery::ack`]; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without
    /// [`Capabilities::delay`](crate::Capabilities::delay), whatever `until` says: the message then is handed back at once.
    pub async fn park(self, until: Timestamp) -> Result<Settled> {
        self.receipt.settle(Verb::Park(until)).await
    }

    /// Done, with what follows from it, as one transition: see [`Completion`].
    ///
    /// # Errors
    /// As [`Delivery::ack`]: the result then is not stored, what follows is not published, and the message will be delivered again.
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if a result is given to a broker that stores none; as
    /// [`Broker::publish`](crate::Broker::publish) for what follows.
    pub async fn complete(self, done: Completion) -> Result<Settled> {
        self.receipt.settle(Verb::Complete(Box::new(done))).await
    }
}

/// The right, and the duty, to settle one delivery. Dropped unsettled, it hands the message back.
pub struct Receipt {
    tag: DeliveryTag,
    settle: Arc<dyn Settle>,
    armed: bool,
}

impl Receipt {
    /// A receipt for the delivery that `settle` knows as `tag`. For those who write brokers.
    #[must_use]
    pub fn new(tag: DeliveryTag, settle: Arc<dyn Settle>) -> Self {
        Self { tag, settle, armed: true }
    }

    /// The delivery's tag.
    #[must_use]
    pub fn tag(&self) -> DeliveryTag {
        self.tag
    }

    /// Settles this one delivery; many at a time go by [`settle_all`].
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn settle(self, verb: Verb) -> Result<Settled> {
        let lost = settle_all(vec![(self, verb)]).await.map_err(|unsettled| unsettled.error)?;
        Ok(if lost.is_empty() { Settled::Done } else { Settled::Lost })
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if self.armed {
            self.settle.abandon(self.tag);
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receipt").field(&self.tag.0).finish()
    }
}

/// What could not be settled, and why. Try again, or drop it: then the messages are delivered again.
#[derive(Debug)]
pub struct Unsettled {
    /// Why.
    pub error: Error,
    /// What is left, in order.
    pub rest: Vec<(Receipt, Verb)>,
}

/// Settles many deliveries, which may be of different brokers, with one call to each broker for every run of its own. Returns the tags of
/// those that were not held any more, in order: for them nothing was done.
///
/// # Errors
/// What was not settled, for another try.
///
/// # Cancel safety
/// Not cancel safe: what was under way may or may not have been settled; the rest is handed back.
pub async fn settle_all(batch: Vec<(Receipt, Verb)>) -> Result<Vec<DeliveryTag>, Unsettled> {
    let mut lost = Vec::new();
    let mut queue = batch.into_iter().peekable();
    while let Some((receipt, verb)) = queue.next() {
        let settle = Arc::clone(&receipt.settle);
        // Nearly always all are of one broker.
        let mut run = Vec::with_capacity(queue.len() + 1);
        let mut receipts = Vec::with_capacity(queue.len() + 1);
        run.push(Settlement { tag: receipt.tag, verb });
        receipts.push(receipt);
        while let Some((receipt, verb)) = queue.next_if(|(next, _)| Arc::ptr_eq(&next.settle, &settle)) {
            run.push(Settlement { tag: receipt.tag, verb });
            receipts.push(receipt);
        }
        let outcome = settle.settle(&mut run).await;
        match outcome {
            Ok(()) => {
                receipts.iter_mut().for_each(|receipt| receipt.armed = false);
                lost.extend(run.into_iter().map(|settlement| settlement.tag));
            }
            Err(error) => {
                let mut left = run.into_iter().peekable();
                let mut rest = Vec::new();
                for mut receipt in receipts {
                    match left.next_if(|settlement| settlement.tag == receipt.tag) {
                        Some(settlement) => rest.push((receipt, settlement.verb)),
                        None => receipt.armed = false,
                    }
                }
                rest.extend(queue);
                return Err(Unsettled { error, rest });
            }
        }
    }
    Ok(lost)
}
