//! `Broker` and `Consumer`: where messages go in and come out.

use std::fmt;
use std::num::NonZeroUsize;

use async_trait::async_trait;
use celeriac_core::{Error, ExchangeName, Message, QueueName, Result, RoutingKey, StoreId, Timestamp};

use crate::delivery::Delivery;
use crate::queue::QueueSpec;

/// A message broker.
///
/// Object safe, and used as `Arc<dyn Broker>`: which one is decided by a URL at run time. The crate's page states the guarantees that hold
/// for every method.
///
/// Every broker has the default exchange and direct exchanges; what else there may be is in [`Capabilities`].
///
/// # Handles
/// A value that was opened is a handle, its clones and the `Arc`s around it are the same one. Several handles may be open on one store, in
/// one process or in many: each holds its own deliveries, and is closed alone. A system that is a result backend too closes its two halves
/// apart: closing the broker leaves the backend open.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// What this broker can do. Constant for the life of the broker.
    fn capabilities(&self) -> Capabilities;

    /// The store that a [`Completion`](crate::Completion)'s result may be written to in the same transition as the acknowledgement; `None`
    /// if this broker stores no results. A worker compares it with the result backend's.
    fn store_id(&self) -> Option<StoreId> {
        None
    }

    /// Creates `queue`, its exchanges and its bindings where they do not exist.
    ///
    /// Declaring the same again changes nothing. A queue exists otherwise if any field but `bindings` differs; bindings add up, and none is
    /// ever taken away. Publishing to the default exchange and consuming take a queue as it is, or declare a plain durable one by
    /// themselves, so that only queues with wishes of their own need this call.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the option, if the queue exists otherwise, an exchange exists with another
    /// kind, or an entry of `arguments` is not known.
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) naming what this broker cannot do: the kind of an exchange without its
    /// capability; `max_priority` without [`Capabilities::max_priority`]; `message_ttl` without [`Capabilities::expiration`]; `auto_delete`
    /// and `expires`, for which there is no capability. `durable` is never refused.
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the broker gave up, or is closed.
    async fn declare(&self, queue: &QueueSpec) -> Result<()>;

    /// Publishes `batch`, in order. `Ok` means that the broker answers for every message: it survives what the broker promises to survive
    /// ([`Capabilities::durable`]).
    ///
    /// A message to the default exchange goes to the queue that the routing key names; other exchanges copy it to every queue whose
    /// binding matches, one copy to each. A message with [`Outgoing::deliver_at`] in the future is kept by the broker until then; one with an instant that is
    /// past is delivered at once, by every broker.
    ///
    /// # Errors
    /// Then none of the batch, a first part of it or all of it may be published: `publish` may be called again, and may duplicate.
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for an exchange that was never declared or a message that no queue is bound for on a
    /// direct, headers or topic exchange; [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) for a message over the broker's limit;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a `deliver_at` in the future without [`Capabilities::delay`];
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the broker gave up, or is closed.
    ///
    /// # Cancel safety
    /// Not cancel safe: the messages may or may not have been published.
    async fn publish(&self, batch: Vec<Outgoing>) -> Result<()>;

    /// Starts to consume.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if no queue is named; [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if
    /// the broker gave up, or is closed.
    async fn consume(&self, options: ConsumeOptions) -> Result<Box<dyn Consumer>>;

    /// The number of messages in `queue` that wait for a consumer: neither those held by one nor those that are not due yet. 0 for a queue
    /// that does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the broker gave up, or is closed.
    async fn depth(&self, queue: &QueueName) -> Result<u64>;

    /// Drops the messages of `queue` that wait, and tells how many: with [`Capabilities::purges_delayed`] due or not, else those that are
    /// due. Those held by a consumer stay. 0 for a queue that does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the broker gave up, or is closed.
    async fn purge(&self, queue: &QueueName) -> Result<u64>;

    /// Why calls take as long as they do at the moment, if that is known: there is no connection, or the broker takes no messages for now. For
    /// the error of a caller who has waited long enough.
    fn trouble(&self) -> Option<Error> {
        None
    }

    /// Closes this handle: flushes what was published and settled, gives up what its consumers still hold, and releases the connection.
    ///
    /// Every later call fails with [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable); a pending `recv` ends with it. Settling what
    /// was given up does nothing: see [`Settle::settle`](crate::Settle::settle). Closing again does nothing. Other handles, and the result
    /// backend on the same store, stay open: see [Handles](Broker#handles).
    ///
    /// # Errors
    /// If the flush failed.
    async fn close(&self) -> Result<()>;
}

/// The receiving end of some queues.
#[async_trait]
pub trait Consumer: fmt::Debug + Send + 'static {
    /// Waits until a message is there, then returns those that are, up to `limit`, without waiting for more.
    ///
    /// Never returns an empty list. With several queues, none is starved by another.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) once the broker is closed or has given up; the consumer is then of no more
    /// use. A message that cannot be read is no error: it is delivered as far as it could be read, for the worker to reject.
    ///
    /// # Cancel safety
    /// Cancel safe: dropping the future loses no message.
    async fn recv(&mut self, limit: NonZeroUsize) -> Result<Vec<Delivery>>;

    /// Stops consuming. Deliveries already handed out stay with their holder, to be settled as usual.
    ///
    /// Dropping the consumer does the same, without telling whether it worked.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the broker gave up, or is closed; the consumer is gone all the same.
    async fn cancel(self: Box<Self>) -> Result<()>;
}

/// What a broker can do. What it cannot do is refused with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), naming it.
///
/// Hints are the exception. They are accepted by every broker, kept with the message, and have no effect on one that cannot follow them:
/// the properties `priority` without [`Capabilities::priorities`] and `expiration` without [`Capabilities::expiration`]; `delivery_mode` and
/// [`QueueSpec::durable`] without [`Capabilities::durable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Capabilities {
    /// [`Outgoing::deliver_at`] in the future and [`Delivery::park`]: the broker keeps messages until they are due.
    pub delay: bool,
    /// [`Delivery::delivery_count`] is known, and survives the death of the consumer.
    pub delivery_count: bool,
    /// Messages survive the broker's restart. Those of a queue that is not [durable](QueueSpec::durable), or published as transient, need not.
    pub durable: bool,
    /// Queues can be bound to exchanges of kind [`ExchangeKind::Fanout`](crate::ExchangeKind::Fanout).
    pub fanout: bool,
    /// Queues can be bound to exchanges of kind [`ExchangeKind::Headers`](crate::ExchangeKind::Headers).
    pub headers: bool,
    /// Messages that come back go before the others of their priority, in their old order. Elsewhere they go where the broker puts them.
    pub keeps_place: bool,
    /// Lower priorities are the more urgent ones, as Celery has it on Redis; elsewhere higher ones are.
    pub lowest_first: bool,
    /// [`QueueSpec::max_priority`].
    pub max_priority: bool,
    /// More urgent messages overtake.
    pub priorities: bool,
    /// How many of the priorities 0 to 9 are kept apart, evenly: all with 10; with 4 those from 0, from 3, from 6, and 9. Means nothing
    /// without [`Capabilities::priorities`].
    pub priority_levels: u8,
    /// [`Broker::purge`] drops also what is not due yet. Means nothing without [`Capabilities::delay`].
    pub purges_delayed: bool,
    /// Queues can be bound to exchanges of kind [`ExchangeKind::Topic`](crate::ExchangeKind::Topic).
    pub topic: bool,
    /// A message whose [`expiration`](celeriac_core::Properties::expiration) has passed is dropped instead of delivered; and
    /// [`QueueSpec::message_ttl`]. An `expiration` counts from the publishing, also of a message that is delayed or comes back.
    pub expiration: bool,
}

impl Capabilities {
    /// No capability. Set those that the broker has.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            delay: false,
            delivery_count: false,
            durable: false,
            fanout: false,
            headers: false,
            keeps_place: false,
            lowest_first: false,
            max_priority: false,
            priorities: false,
            priority_levels: 10,
            purges_delayed: false,
            topic: false,
            expiration: false,
        }
    }

    /// Every capability; higher priorities first.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            delay: true,
            delivery_count: true,
            durable: true,
            fanout: true,
            headers: true,
            keeps_place: true,
            lowest_first: false,
            max_priority: true,
            priorities: true,
            priority_levels: 10,
            purges_delayed: true,
            topic: true,
            expiration: true,
        }
    }
}

/// A message on its way to the broker.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Outgoing {
    /// What is sent.
    pub message: Message,
    /// Where it goes.
    pub destination: Destination,
    /// Not to be delivered before this instant, by the broker's clock; at once when `None` or past. In the future it needs
    /// [`Capabilities::delay`].
    pub deliver_at: Option<Timestamp>,
}

impl Outgoing {
    /// A message to `destination`, to be delivered at once.
    #[must_use]
    pub fn new(message: Message, destination: impl Into<Destination>) -> Self {
        Self { message, destination: destination.into(), deliver_at: None }
    }

    /// Sets the instant before which it is not to be delivered.
    #[must_use]
    pub fn deliver_at(mut self, instant: Timestamp) -> Self {
        self.deliver_at = Some(instant);
        self
    }
}

/// Where a message goes: an exchange and a routing key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The exchange; the default one routes to the queue that the key names.
    pub exchange: ExchangeName,
    /// The key that bindings are compared with.
    pub routing_key: RoutingKey,
}

impl Destination {
    /// Straight to a queue.
    #[must_use]
    pub fn queue(name: &QueueName) -> Self {
        Self { exchange: ExchangeName::DEFAULT, routing_key: name.into() }
    }
}

impl From<&QueueName> for Destination {
    fn from(name: &QueueName) -> Self {
        Self::queue(name)
    }
}

/// How to consume.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConsumeOptions {
    /// The queues, all consumed alike.
    pub queues: Vec<QueueName>,
    /// A name that people see in the broker's own tools; default none.
    pub name: Option<String>,
    /// The most messages a broker that pushes may have on the way to this consumer, handed out or not; brokers that are asked for messages
    /// ignore it. Default 64.
    pub prefetch: NonZeroUsize,
}

impl ConsumeOptions {
    /// Consumes `queues`, everything else at its default.
    #[must_use]
    pub fn new(queues: impl IntoIterator<Item = QueueName>) -> Self {
        Self { queues: queues.into_iter().collect(), name: None, prefetch: NonZeroUsize::MIN.saturating_add(63) }
    }

    /// Sets the name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the prefetch.
    #[must_use]
    pub fn prefetch(mut self, prefetch: NonZeroUsize) -> Self {
        self.prefetch = prefetch;
        self
    }
}

fn _object_safe(_: &dyn Broker, _: &dyn Consumer) {}
