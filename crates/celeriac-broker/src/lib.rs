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
//! - **Order.** Within one queue: more urgent [`Priority`](celeriac_core::Priority) first, where the broker has priorities; then first in,
//!   first out. Messages that come back (dropped, rejected with requeue, of a closed broker) go before the others of their priority, in their
//!   old order, if the broker [keeps their place](Capabilities::keeps_place). One that was delayed or parked goes, once due, before all of its priority that are published after that instant; its place
//!   among those that wait already is up to the broker. Several consumers, or a prefetch above one, may of course finish in another order.
//! - **Cancel safety.** Dropping a pending [`Consumer::recv`] loses no message. Dropping a pending `publish` leaves open whether none, a
//!   first part or all of the messages were published.
//!
//! # Healing
//! A broker heals lost connections by itself: a call waits, within the caller's own deadline, until it can be answered for. An error is
//! returned for what waiting will not cure, or when the system itself says that it gave up.
//!
//! # Writing a broker
//! A skeleton, whole enough to run. It leaves out what [`Broker::declare`] is for, direct exchanges, and turns between queues; the
//! repository's `examples/custom_broker` has them, in one file that passes the conformance suite.
//! ```
//! use std::collections::{BTreeMap, HashMap};
//! use std::num::NonZeroUsize;
//! use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
//!
//! use celeriac_broker::{
//!     Broker, Capabilities, ConsumeOptions, Consumer, Delivery, DeliveryTag, Error, ErrorKind, Outgoing, QueueSpec, Receipt, Requeue,
//!     Result, Settle, Settlement, Verb, async_trait,
//! };
//! use celeriac_core::{Clock, QueueName, SystemClock};
//! use tokio::sync::Notify;
//!
//! #[derive(Debug, Default)]
//! struct MyBroker(Arc<Store>);
//!
//! #[derive(Debug, Default)]
//! struct Store {
//!     state: Mutex<State>,
//!     /// There is something to receive, or the broker is closed.
//!     news: Notify,
//! }
//!
//! #[derive(Debug, Default)]
//! struct State {
//!     closed: bool,
//!     last: u64,
//!     /// By the number of their publishing, so that what comes back takes its old place.
//!     waiting: BTreeMap<u64, Entry>,
//!     held: HashMap<DeliveryTag, (u64, Entry)>,
//! }
//!
//! #[derive(Debug, Clone)]
//! struct Entry {
//!     outgoing: Outgoing,
//!     redelivered: bool,
//! }
//!
//! impl Store {
//!     fn lock(&self) -> MutexGuard<'_, State> {
//!         self.state.lock().unwrap_or_else(PoisonError::into_inner)
//!     }
//!
//!     fn open(&self, operation: &'static str) -> Result<MutexGuard<'_, State>> {
//!         let state = self.lock();
//!         if state.closed { Err(Error::unavailable(operation, "the broker is closed")) } else { Ok(state) }
//!     }
//! }
//!
//! impl State {
//!     fn publish(&mut self, batch: Vec<Outgoing>) -> Result<()> {
//!         // All of it is checked before any of it is done.
//!         for Outgoing { destination, deliver_at, .. } in &batch {
//!             if deliver_at.is_some_and(|due| due > SystemClock.now()) {
//!                 return Err(Error::unsupported("publish", "this broker has no `delay`"));
//!             }
//!             if !destination.exchange.is_empty() {
//!                 return Err(Error::new(ErrorKind::NotFound, "publish", format!("no exchange `{}`", destination.exchange)));
//!             }
//!         }
//!         for outgoing in batch {
//!             self.last += 1;
//!             self.waiting.insert(self.last, Entry { outgoing, redelivered: false });
//!         }
//!         Ok(())
//!     }
//!
//!     fn take(&mut self, queue: &QueueName) -> Option<(DeliveryTag, Entry)> {
//!         let (number, _) = self.waiting.iter().find(|(_, entry)| *entry.outgoing.destination.routing_key == **queue)?;
//!         let number = *number;
//!         let entry = self.waiting.remove(&number)?;
//!         self.last += 1;
//!         let tag = DeliveryTag(self.last);
//!         self.held.insert(tag, (number, entry.clone()));
//!         Some((tag, entry))
//!     }
//!
//!     fn hand_back(&mut self, tag: DeliveryTag) {
//!         if let Some((number, entry)) = self.held.remove(&tag) {
//!             self.waiting.insert(number, Entry { redelivered: true, ..entry });
//!         }
//!     }
//!
//!     fn settle(&mut self, Settlement { tag, verb }: &Settlement) -> Result<()> {
//!         match verb {
//!             Verb::Ack | Verb::Reject(Requeue::No) => {}
//!             Verb::Reject(Requeue::Yes) => self.hand_back(*tag),
//!             Verb::Complete(done) if done.result.is_none() => self.publish(done.next.clone())?,
//!             _ => return Err(Error::unsupported("settle", format!("this broker cannot do {verb:?}"))),
//!         }
//!         self.held.remove(tag);
//!         Ok(())
//!     }
//! }
//!
//! #[async_trait]
//! impl Broker for MyBroker {
//!     fn capabilities(&self) -> Capabilities {
//!         let mut capabilities = Capabilities::none();
//!         capabilities.keeps_place = true;
//!         capabilities
//!     }
//!
//!     async fn declare(&self, queue: &QueueSpec) -> Result<()> {
//!         self.0.open("declare")?;
//!         let plain = *queue == QueueSpec::unbound(queue.name.clone());
//!         if plain { Ok(()) } else { Err(Error::unsupported("declare", "this skeleton has plain queues alone")) }
//!     }
//!
//!     async fn publish(&self, batch: Vec<Outgoing>) -> Result<()> {
//!         self.0.open("publish")?.publish(batch)?;
//!         self.0.news.notify_waiters();
//!         Ok(())
//!     }
//!
//!     async fn consume(&self, options: ConsumeOptions) -> Result<Box<dyn Consumer>> {
//!         self.0.open("consume")?;
//!         if options.queues.is_empty() {
//!             return Err(Error::config("consume", "no queue is named"));
//!         }
//!         Ok(Box::new(MyConsumer { store: Arc::clone(&self.0), queues: options.queues }))
//!     }
//!
//!     async fn depth(&self, queue: &QueueName) -> Result<u64> {
//!         let of_queue = |entry: &&Entry| *entry.outgoing.destination.routing_key == **queue;
//!         Ok(self.0.open("depth")?.waiting.values().filter(of_queue).count() as u64)
//!     }
//!
//!     async fn purge(&self, queue: &QueueName) -> Result<u64> {
//!         let mut state = self.0.open("purge")?;
//!         let before = state.waiting.len();
//!         state.waiting.retain(|_, entry| *entry.outgoing.destination.routing_key != **queue);
//!         Ok((before - state.waiting.len()) as u64)
//!     }
//!
//!     async fn close(&self) -> Result<()> {
//!         *self.0.lock() = State { closed: true, ..State::default() };
//!         self.0.news.notify_waiters();
//!         Ok(())
//!     }
//! }
//!
//! #[derive(Debug)]
//! struct MyConsumer {
//!     store: Arc<Store>,
//!     queues: Vec<QueueName>,
//! }
//!
//! impl MyConsumer {
//!     fn take(&self, limit: usize) -> Result<Vec<Delivery>> {
//!         let mut state = self.store.open("recv")?;
//!         let mut deliveries = Vec::new();
//!         for queue in &self.queues {
//!             while deliveries.len() < limit
//!                 && let Some((tag, Entry { outgoing, redelivered })) = state.take(queue)
//!             {
//!                 // One `Settle` for all consumers: so `settle_all` settles what they received with one call.
//!                 let receipt = Receipt::new(tag, Arc::clone(&self.store) as Arc<dyn Settle>);
//!                 deliveries.push(Delivery::new(outgoing.message, queue.clone(), receipt).redelivered(redelivered));
//!             }
//!         }
//!         Ok(deliveries)
//!     }
//! }
//!
//! #[async_trait]
//! impl Consumer for MyConsumer {
//!     async fn recv(&mut self, limit: NonZeroUsize) -> Result<Vec<Delivery>> {
//!         loop {
//!             // The trap: listen *before* looking. Made after it, this would miss what comes in between, and wait with a message there.
//!             let news = self.store.news.notified();
//!             let deliveries = self.take(limit.get())?;
//!             if !deliveries.is_empty() {
//!                 return Ok(deliveries);
//!             }
//!             // Nothing is in hand while this waits, so dropping `recv` loses nothing.
//!             news.await;
//!         }
//!     }
//!
//!     async fn cancel(self: Box<Self>) -> Result<()> {
//!         self.store.open("cancel").map(drop)
//!     }
//! }
//!
//! #[async_trait]
//! impl Settle for Store {
//!     async fn settle(&self, batch: &mut Vec<Settlement>) -> Result<()> {
//!         let mut state = self.lock();
//!         let mut todo = std::mem::take(batch).into_iter();
//!         while let Some(settlement) = todo.next() {
//!             if !state.held.contains_key(&settlement.tag) {
//!                 // Passed over: what is left in `batch` at the end tells the caller.
//!                 batch.push(settlement);
//!             } else if let Err(error) = state.settle(&settlement) {
//!                 // What failed and all after it stay, in their order.
//!                 *batch = std::iter::once(settlement).chain(todo).collect();
//!                 return Err(error);
//!             }
//!         }
//!         drop(state);
//!         self.news.notify_waiters();
//!         Ok(())
//!     }
//!
//!     fn abandon(&self, tag: DeliveryTag) {
//!         self.lock().hand_back(tag);
//!         self.news.notify_waiters();
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
//! let broker = MyBroker::default();
//! let mut consumer = broker.consume(ConsumeOptions::new([QueueName::DEFAULT])).await?;
//! let publishing = async {
//!     tokio::task::yield_now().await; // so that `recv` waits already
//!     broker.publish(vec![Outgoing::new(celeriac_core::Message::default(), &QueueName::DEFAULT)]).await
//! };
//! let (received, published) = tokio::join!(consumer.recv(NonZeroUsize::MIN), publishing);
//! published?;
//! for delivery in received? {
//!     delivery.ack().await?;
//! }
//! # Ok(()) }
//! ```

mod broker;
mod delivery;
mod queue;
mod routing;
mod settle;

/// What the traits are implemented with; re-exported so that authors need no dependency of their own.
pub use async_trait::async_trait;
pub use broker::{Broker, Capabilities, ConsumeOptions, Consumer, Destination, Outgoing};
pub use celeriac_core::{Error, ErrorKind, Result, StoreId, StoreResult};
pub use delivery::{Delivery, DeliveryTag, Receipt, Requeue, Settled, Unsettled, settle_all};
pub use queue::{Binding, ExchangeKind, ExchangeSpec, QueueSpec};
pub use routing::{check_headers_binding, headers_match, topic_matches};
pub use settle::{Completion, Settle, Settlement, Verb};
