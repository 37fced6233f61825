//! Broker and `rpc://` result backend of celeriac on RabbitMQ, sharing queues and results with Python's Celery.
//!
//! Part of [celeriac](https://docs.rs/celeriac); most users want that crate, and give it a URL that begins with `amqp://`.

mod backend;
mod backoff;
mod broker;
mod config;
mod consumer;
mod delay;
mod endpoint;
mod error;
mod held;
mod link;
mod publish;
mod settle;
mod store;
mod topology;
mod wire;

pub use config::{AmqpConfig, Auth, FailoverStrategy, QueueType};
pub use store::AmqpStore;
