//! The celeriac worker: takes tasks from a broker, runs them, and settles them with their results.
//!
//! Part of [celeriac](https://docs.rs/celeriac); most users want that crate. Take this one to run tasks over a broker of your own choosing.
//!
//! # How a worker works
//! One loop fetches: never more than the free slots and a bounded prefetch. Each of `concurrency` slots takes one task at a time, decodes its
//! arguments straight into their types and runs it; synchronous tasks run on threads of their own. One loop finishes: whatever has ended
//! while the last batch was being settled is settled as the next one, so that a lone task waits for nobody and many share a round trip.
//!
//! # Examples
//! ```
//! use std::sync::Arc;
//! use celeriac_consumer::{Arguments, Define, Task, TaskContext, TaskOptions, TaskResult, Tasks, Worker};
//! use celeriac_memory::MemoryStore;
//! use celeriac_producer::{Producer, signature};
//!
//! struct Double;
//!
//! impl Define for Double {
//!     const NAME: &'static str = "double";
//!     const PARAMETERS: &'static [&'static str] = &["x"];
//!     type Output = i64;
//!     fn options() -> TaskOptions {
//!         TaskOptions::default()
//!     }
//! }
//!
//! impl Task for Double {
//!     const BLOCKING: bool = false;
//!     async fn run<'a>(_: &'a TaskContext, mut args: Arguments<'a>) -> TaskResult<i64> {
//!         let x: i64 = args.required("x")?;
//!         args.finish()?;
//!         Ok(x * 2)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new();
//! let producer = Producer::builder(Arc::new(store.clone())).backend(Arc::new(store)).build()?;
//! let worker = Worker::builder(producer.clone(), Tasks::new().with::<Double>()).build()?;
//! let stop = worker.handle();
//! let running = tokio::spawn(worker.run());
//!
//! let doubled = producer.send(signature::<Double, _>((21,))).await?;
//! assert_eq!(doubled.get().await?, 42);
//!
//! stop.shutdown();
//! running.await??;
//! # Ok(())
//! # }
//! ```

mod arguments;
mod blocking;
mod config;
mod context;
mod error;
mod finish;
mod invocation;
mod jobs;
mod prefetch;
mod process;
mod registry;
mod request;
mod shutdown;
mod task;
mod updates;
mod worker;

pub use arguments::Arguments;
pub use celeriac_producer::{Define, TaskOptions};
pub use config::{Prefetch, WorkerConfig};
pub use context::{Extensions, FromContext, State, TaskContext};
pub use error::{IntoTaskError, TaskError, TaskResult};
pub use registry::{Handler, Tasks};
pub use shutdown::ShutdownHandle;
pub use task::Task;
pub use worker::{Worker, WorkerBuilder};
