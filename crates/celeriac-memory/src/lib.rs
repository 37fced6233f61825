//! The in-process broker, result backend and store of schedules of celeriac: for tests, for one-process programs, and the reference for those who write their
//! own.
//!
//! Part of [celeriac](https://docs.rs/celeriac); most users want that crate. [`MemoryStore`] has every capability of a broker except that
//! it does not outlive the process. It is its own result backend, so that a result and an acknowledgement are written as one,
//! and its own store of schedules, so that a tick is taken and its task published as one.
//!
//! # Examples
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> celeriac_core::Result<()> {
//! use std::num::NonZeroUsize;
//! use celeriac_broker::{Broker, ConsumeOptions, Outgoing};
//! use celeriac_core::{Message, QueueName};
//! use celeriac_memory::MemoryStore;
//!
//! let store = MemoryStore::new();
//! let message = Message { body: "hello".into(), ..Message::default() };
//! store.publish(vec![Outgoing::new(message, &QueueName::DEFAULT)]).await?;
//! let mut consumer = store.consume(ConsumeOptions::new([QueueName::DEFAULT])).await?;
//! for delivery in consumer.recv(NonZeroUsize::MIN).await? {
//!     assert_eq!(delivery.message.body, "hello");
//!     delivery.ack().await?;
//! }
//! # Ok(()) }
//! ```
//!
//! # Order, exactly
//! Within one queue: the higher [`Priority`](celeriac_core::Priority) first; then messages that came back (dropped, rejected with
//! requeue, parked and due, of a closed handle), in the order they first came in; then the others, in the order they came in. A message
//! with a delay comes in when it is due.
//!
//! # Time
//! Every decision by time asks the store's [`Clock`](celeriac_core::Clock). With a clock of your own, call [`MemoryStore::wake`] after
//! it jumped: the store then looks at the time again. Without, it would wait for as long as the system's time says.

mod backend;
mod broker;
mod config;
mod consumer;
mod entries;
mod queue;
mod results;
mod routing;
mod schedule;
mod settle;
mod state;
mod store;
mod timer;

pub use config::MemoryConfig;
pub use store::MemoryStore;
