//! Broker, result backend and store of schedules of celeriac on Redis, sharing queues and results with Python's Celery.
//!
//! Part of [celeriac](https://docs.rs/celeriac); most users want that crate, and give it a URL that begins with `redis://`.
//!
//! # What it promises
//! - **Taking is recording.** One script takes a message off its list and records who holds it and until when. A process that lives renews that
//!   [lease](RedisConfig::lease); what it held when it died is delivered again, by the next consumer, when its lease has ended.
//! - **Waiting costs nothing.** Over RESP3 the server tells when a list that somebody waits for has changed; over RESP2, and where it may not tell, a `BLMOVE`
//!   waits that moves a message to where it was. Nothing is polled, but for a look every 30 seconds in case the server forgot to tell.
//! - **Connections heal.** A lost connection is made anew, and calls wait for it, within their callers' own deadlines. Taking and settling find out whether
//!   the first try was done. A plain publish whose answer was lost is repeated, and the message may come twice.
//! - **As durable as Redis is configured.** `publish` returns when Redis has answered; what of that survives a crash is up to `appendonly` and `appendfsync`.
//! - **One transition.** Where broker and result backend are of one store, a result, what follows from it and the acknowledgement are one script.
//! - **One step.** [`RedisStore::schedule`] takes a step of a schedule and publishes its messages by one script: a tick is sent if and only if its step
//!   is taken, also when the answer was lost. Leases go by the server's clock.
//!
//! # What it needs
//! Redis 6.2 or later, or Valkey; tested with Redis 7.0. Not Redis Cluster. A tokio runtime with time and I/O enabled: a store works on the one it
//! was opened on. A store that consumes has a thread of its own beside it, which renews leases while tasks keep every other thread busy.
//!
//! # Features
//! - `tls`, on by default: `rediss://`, by rustls. Where the process has chosen no cryptography provider yet, the first such store installs *ring*.
//!
//! # Examples
//! ```no_run
//! use std::num::NonZeroUsize;
//!
//! use celeriac_broker::{ConsumeOptions, Outgoing, QueueSpec};
//! use celeriac_core::{Message, QueueName};
//! use celeriac_redis::{RedisConfig, RedisStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> celeriac_core::Result<()> {
//! let store = RedisStore::open(RedisConfig::from_url("redis://localhost:6379/0?lease=5")?).await?;
//! let (broker, queue) = (store.broker(), QueueName::DEFAULT);
//! broker.declare(&QueueSpec::direct(queue.clone())).await?;
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

mod args;
mod backend;
mod backoff;
mod broker;
pub mod chord;
mod config;
mod consumer;
mod endpoint;
mod entries;
mod error;
mod fanout;
mod held;
mod hub;
mod keeper;
mod keys;
mod link;
mod publish;
mod push;
mod schedule;
mod script;
mod settle;
mod slots;
mod store;
#[cfg(all(test, unix))]
mod testing;
mod topology;
mod watch;
mod wire;

pub use config::{PriorityOrder, Protocol, RedisConfig};
pub use store::RedisStore;
