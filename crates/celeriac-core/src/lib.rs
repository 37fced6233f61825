//! Vocabulary and pure rules of celeriac: ids, names, messages, values, signatures, task states.
//!
//! Part of [celeriac](https://docs.rs/celeriac); most users want that crate. Here is nothing that awaits, reads a file or opens a
//! connection: every other crate of celeriac speaks in these types.
//!
//! # Examples
//! ```
//! use celeriac_core::{Headers, Message, TaskHeaders, TaskId, TaskName};
//!
//! let mut headers = TaskHeaders::new(TaskName::from_static("tasks.add"), TaskId::random());
//! headers.argsrepr = "(2, 3)".to_owned();
//! let message = Message { headers: Headers::from(headers), body: "[[2, 3], {}, {}]".into(), ..Message::default() };
//! assert_eq!(message.task().unwrap().task, "tasks.add");
//! ```

pub mod error;
mod headers;
mod message;
mod name;
pub mod repr;
mod result;
mod signature;
mod state;
mod time;
pub mod url;
pub mod value;

pub use error::{Error, ErrorKind, Result};
pub use headers::{HeaderValue, Headers, HeadersReader, TaskHeaders, TimeLimits};
pub use message::{DeliveryMode, Message, Properties};
pub use name::{
    ContentType, CorrelationId, EntryName, ExchangeName, GroupId, Priority, QueueName, RoutingKey, TaskId, TaskName,
};
pub use result::{Payload, ResultTuple, StoreId, StoreResult, TaskFailure, TaskMeta};
pub use signature::{Canvas, Embed, Signature};
pub use state::TaskState;
pub use time::{Clock, SystemClock, Timestamp, WireTime};
pub use value::{Map, Value};
