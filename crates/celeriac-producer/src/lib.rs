//! Encodes, routes and publishes celeriac tasks, and waits for their results.
//!
//! Part of [celeriac](https://docs.rs/celeriac); most users want that crate. Take this one to send tasks over a broker of your own
//! choosing, without a worker in the process.
//!
//! # Examples
//! ```
//! use std::sync::Arc;
//! use celeriac_core::Signature;
//! use celeriac_memory::MemoryStore;
//! use celeriac_producer::Producer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new();
//! let producer = Producer::builder(Arc::new(store.clone())).backend(Arc::new(store)).build()?;
//! let result = producer.send(Signature::named("tasks.add").arg(2).arg(3)).await?;
//! println!("sent {}", result.id());
//! # Ok(())
//! # }
//! ```

mod call;
mod message;
mod options;
mod origin;
mod producer;
mod progress;
mod result;
mod router;

pub use call::{Argument, CallArgs, Define, IntoCall, TaskArgument, TaskOutput, TypedSignature, Visit, signature};
pub use options::{CallOptions, TaskOptions};
pub use origin::{hostname, origin};
pub use producer::{Lineage, Producer, ProducerBuilder, ProducerConfig};
pub use progress::{Progress, Updates};
pub use result::{AsyncResult, ResultError};
pub use router::{Route, Router};
