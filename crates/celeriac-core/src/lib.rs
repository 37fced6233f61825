//! Vocabulary and pure rules of celeriac: ids, names, messages, values, task states.

pub mod error;
mod name;
pub mod repr;
pub mod value;

pub use error::{Error, ErrorKind, Result};
pub use name::{ContentType, ExchangeName, GroupId, Priority, QueueName, RoutingKey, TaskId, TaskName};
pub use value::{Map, Value};
