//! The traits that a message broker implements for celeriac, and the few types they speak in. No implementation lives here.
//!
//! Part of [celeriac](https://docs.rs/celeriac); most users want that crate. Take this one to write a broker of your own: implement
//! [`Broker`], [`Consumer`] and [`Settle`], then prove it with the conformance suite of `celeriac-testkit`.
//!
//! # How the parts meet
//! A producer hands [`Outgoing`] messages to [`Broker::publish`]. A worker asks [`Broker::consume`] for a [`Consumer`] and takes
//! [`Delivery`]s from it, no more at a time than it has room for. Each delivery is settled exactly once, by a method that consumes it:
//! settling twice does not compile. Settlements reach the broker in batches, through [`Settle`].
//!
//! # Delivery guarantees every broker gives
//! - **At least once.** A message that `publish` answered `Ok` for is delivered until it is settled. A delivery that is dropped, whose
//!   process dies, or whose broker is closed, is delivered again, marked [`Delivery::redelivered`].
//! - **One holder at a time.** While a delivery is held and its process lives, no other consumer gets the message, however long the task
//!   takes.
//! - **Order.** Within one queue: higher [`Priority`](celeriac_core::Priority) first, where the broker has priorities; then first in, first
//!   out; a message handed back or redelivered goes before the others of its priority. Several consumers, or a prefetch above one, may of
//!   course finish in another order.
//! - **Cancel safety.** Dropping a pending [`Consumer::recv`] loses no message. Dropping a pending `publish` leaves open whether the
//!   messages were published; they never are published in part *and* reported.
//!
//! # Healing
//! A broker heals lost connections by itself: a call waits, within the caller's own deadline, until it can be answered for. An error is
//! returned for what waiting will not cure, or when the system itself says that it gave up.

mod broker;
mod delivery;
mod queue;
mod routing;
mod settle;

pub use broker::{Broker, Capabilities, ConsumeOptions, Consumer, Destination, Outgoing};
pub use celeriac_core::{Error, ErrorKind, Result, StoreId, StoreResult};
pub use delivery::{Delivery, DeliveryTag, Receipt, Requeue, Unsettled, settle_all};
pub use queue::{Binding, ExchangeKind, ExchangeSpec, QueueSpec};
pub use routing::topic_matches;
pub use settle::{Completion, Settle, Settlement, Verb};
