//! Vocabulary and pure rules of celeriac: ids, names, messages, values, task states.

pub mod error;
mod name;

pub use error::{Error, ErrorKind, Result};
pub use name::{ContentType, ExchangeName, GroupId, Priority, QueueName, RoutingKey, TaskId, TaskName};
