//! Celeriac is Celery for Rust: a distributed task queue that speaks Celery's own wire protocol.
//!
//! Write a task, send it, run it in another process, read its result. Nothing has to be installed: by default tasks and results live in one
//! durable file that any number of processes on the machine share.
//!
//! ```
//! use celeriac::prelude::*;
//!
//! #[celeriac::task]
//! async fn add(x: i64, y: i64) -> i64 {
//!     x + y
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app = App::builder("shop").broker_url("memory://").tasks(tasks![add]).build().await?;
//!
//! let worker = app.worker().concurrency(8).build()?;
//! let stop = worker.handle();
//! let running = tokio::spawn(worker.run());
//!
//! let sum = app.send(add::s(2, 3)).await?; // AsyncResult<i64>
//! assert_eq!(sum.get().await?, 5);
//! assert_eq!(add(2, 3).await, 5); // still a plain function
//!
//! stop.shutdown();
//! running.await??;
//! # Ok(())
//! # }
//! ```
//!
//! # The parts
//! This crate is a facade: every part is a crate of its own, usable and swappable alone, and re-exported here as a module.
//!
//! | module | crate | what it is |
//! |---|---|---|
//! | [`core`] | `celeriac-core` | names, messages, values, signatures, states |
//! | [`serializer`] | `celeriac-serializer` | formats and compression |
//! | [`broker`] | `celeriac-broker` | the traits of a broker |
//! | [`backend`] | `celeriac-backend` | the trait of a result backend |
//! | [`producer`] | `celeriac-producer` | sending, and waiting for results |
//! | `consumer` | `celeriac-consumer` | the worker (feature `worker`) |
//! | [`schedule`] | `celeriac-schedule` | the trait of a store of schedules |
//! | `scheduler` | `celeriac-scheduler` | schedules, and the leader that sends what is due (feature `beat`) |
//! | `memory` | `celeriac-memory` | in-process broker, backend and store of schedules (feature `memory`) |
//! | `sqlite` | `celeriac-sqlite` | the embedded durable file (feature `sqlite`) |
//! | `redis` | `celeriac-redis` | Redis, shared with Python's Celery (feature `redis`) |
//! | `amqp` | `celeriac-amqp` | RabbitMQ, shared with Python's Celery (feature `amqp`) |
//!
//! # Features
//! On by default: `macros`, `worker`, `beat`, `json`, `msgpack`, `memory`, `sqlite`. Others: `redis` and `redis-tls`, `amqp` and `amqp-tls`, the formats `bincode` and `yaml`, the compressions `zlib`,
//! `bzip2`, `zstd`, `brotli` and `lzma`.

mod app;
#[cfg(feature = "beat")]
mod beat;
mod builder;
mod config;
#[cfg(feature = "beat")]
mod declare;
#[cfg(feature = "beat")]
mod dispatch;
mod open;
#[cfg(feature = "beat")]
mod signals;
mod system;
#[cfg(feature = "worker")]
mod worker;

pub use app::App;
#[cfg(feature = "beat")]
pub use beat::{Beat, BeatSetup};
pub use builder::AppBuilder;
#[cfg(feature = "macros")]
pub use celeriac_macros::task;
pub use config::{Config, Secret};
pub use system::{Opener, System};
#[cfg(feature = "worker")]
pub use worker::{Worker, WorkerSetup};

#[cfg(feature = "amqp")]
pub use celeriac_amqp as amqp;
pub use celeriac_backend as backend;
pub use celeriac_broker as broker;
#[cfg(feature = "worker")]
pub use celeriac_consumer as consumer;
pub use celeriac_core as core;
#[cfg(feature = "memory")]
pub use celeriac_memory as memory;
pub use celeriac_producer as producer;
#[cfg(feature = "redis")]
pub use celeriac_redis as redis;
pub use celeriac_schedule as schedule;
#[cfg(feature = "beat")]
pub use celeriac_scheduler as scheduler;
pub use celeriac_serializer as serializer;
#[cfg(feature = "sqlite")]
pub use celeriac_sqlite as sqlite;

pub use celeriac_broker::{QueueSpec, Requeue};
#[cfg(feature = "worker")]
pub use celeriac_consumer::{
    FromContext, IntoTaskError, Prefetch, ShutdownHandle, State, TaskContext, TaskError, TaskResult, Tasks,
};
pub use celeriac_core::{
    Error, ErrorKind, Priority, QueueName, Result, Signature, TaskFailure, TaskId, TaskName, TaskState, Timestamp,
    Value,
};
pub use celeriac_producer::{
    AsyncResult, Producer, Progress, ResultError, Route, TaskArgument, TaskOptions, TaskOutput, TypedSignature, Updates,
};
#[cfg(feature = "beat")]
pub use celeriac_scheduler::{CatchUp, Entries, Entry, KnownEntry, Schedule, Units, cron, crontab, every, once, solar};

/// What most programs need: `use celeriac::prelude::*;`.
pub mod prelude {
    pub use crate::{App, AsyncResult, ResultError, Signature, TypedSignature};
    #[cfg(feature = "worker")]
    pub use crate::{State, TaskContext, TaskError, TaskResult, tasks};
    #[cfg(feature = "beat")]
    pub use crate::{Units as _, crontab, every};
}

/// Lists tasks to register: `tasks![add, mail::send]`.
///
/// Each is a function with `#[celeriac::task]`, by its path. Nothing is registered behind your back: a task that is not listed is not known.
#[cfg(feature = "worker")]
#[macro_export]
macro_rules! tasks {
    ($($task:path),* $(,)?) => {
        $crate::Tasks::new()$(.with::<$task>())*
    };
}

/// What the code written by `#[celeriac::task]` refers to. Not for use by hand, and free to change.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "worker")]
    pub use celeriac_consumer::{Arguments, FromContext, IntoTaskError, Task, TaskError};
    pub use celeriac_producer::{Define, TaskArgument, TaskOutput, signature};

    use crate::{Priority, QueueName};

    /// A queue's name, checked when the macro was expanded.
    #[must_use]
    pub fn queue_name(name: &'static str) -> QueueName {
        QueueName::from_static(name)
    }

    /// A priority.
    #[must_use]
    pub fn priority(level: u8) -> Priority {
        Priority(level)
    }

    /// The error of a fallible task.
    #[cfg(feature = "worker")]
    pub fn into_task_error<E: IntoTaskError>(error: E) -> TaskError {
        error.into_task_error()
    }
}
