//! The embedded, durable default of celeriac: broker, result backend and store of schedules in one SQLite file, shared by any
//! number of processes of one machine.
//!
//! Part of [celeriac](https://docs.rs/celeriac); most users want that crate. Nothing has to be installed or run: producers,
//! workers and tools open the same path. Processes on different machines need another broker; a network file system is
//! refused.
//!
//! - What was accepted survives the death of every process, and by default the loss of power: see [`Durability`].
//! - What a process held when it died is delivered again within about a second. A process that is stopped, but not dead,
//!   keeps what it holds for its [lease](SqliteConfig::lease).
//! - Other processes are woken by sockets, in less than a millisecond; nothing is polled. Beside the database `jobs.db`
//!   stands a directory `jobs.db.d` for sockets and locks. It may be deleted when no process uses the database.
//! - A task's result, what follows from it and its acknowledgement are written in one transaction; so are a step of the
//!   schedule and the messages that it causes.
//! - A file of an older version is brought up to the present one when it is opened. Processes of the older version write to it
//!   no more: they fail, and say so.
//! - Queues have every option, save arguments, which are refused: `durable` and transient messages are kept like all others,
//!   a queue that `expires` goes within a few minutes of that time.
//!
//! # Examples
//! ```
//! use std::num::NonZeroUsize;
//!
//! use celeriac_broker::{ConsumeOptions, Outgoing};
//! use celeriac_core::{Message, QueueName};
//! use celeriac_sqlite::{SqliteConfig, SqliteStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> celeriac_core::Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("jobs.db");
//! let store = SqliteStore::open(SqliteConfig::new(path)).await?;
//! let (broker, queue) = (store.broker(), QueueName::DEFAULT);
//! let message = Message { body: "hello".into(), ..Message::default() };
//! broker.publish(vec![Outgoing::new(message, &queue)]).await?;
//!
//! let mut consumer = broker.consume(ConsumeOptions::new([queue])).await?;
//! for delivery in consumer.recv(NonZeroUsize::MIN).await? {
//!     assert_eq!(delivery.message.body, "hello");
//!     delivery.ack().await?;
//! }
//! store.close().await?;
//! # Ok(())
//! # }
//! ```

mod backend;
mod broker;
mod checkpoint;
mod config;
mod consumer;
mod entries;
mod error;
mod handback;
mod news;
mod owner;
mod publish;
mod record;
mod schedule;
mod schema;
mod settle;
mod shared;
mod store;
mod take;
mod topology;
mod txn;
mod wake;
mod watch;
mod wire;
mod writer;

pub use config::{Durability, SqliteConfig};
pub use store::SqliteStore;
