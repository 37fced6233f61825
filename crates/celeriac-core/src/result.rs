//! What is stored of a task: its state, its result or error, and its family.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::name::{ContentType, CorrelationId, GroupId, RoutingKey, TaskId};
use crate::state::TaskState;
use crate::time::Timestamp;
use crate::value::{Map, Value};

/// One value in serialised form, with the format it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The format.
    pub content_type: ContentType,
    /// The value, serialised.
    pub data: Bytes,
}

/// How a task failed, as Celery stores it: Python rebuilds the exception from it.
///
/// # Wire format
/// `celery/backends/base.py::prepare_exception` (celery 5.7): `exc_type, exc_message, exc_module`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskFailure {
    /// The name of the exception's class, or of the Rust error's type.
    pub exc_type: String,
    /// The module of that class or type; `None` if it is not known.
    pub exc_module: Option<String>,
    /// The arguments the exception is made with: for a Rust error, its text.
    pub exc_message: Vec<Value>,
    /// Where it happened, as text. Stored beside the exception, not in it.
    pub traceback: Option<String>,
}

impl TaskFailure {
    /// A failure of type `exc_type` in `exc_module` with one message.
    #[must_use]
    pub fn new(exc_module: impl Into<String>, exc_type: impl Into<String>, message: impl Into<Value>) -> Self {
        Self {
            exc_type: exc_type.into(),
            exc_module: Some(exc_module.into()),
            exc_message: vec![message.into()],
            traceback: None,
        }
    }

    /// Adds the traceback.
    #[must_use]
    pub fn with_traceback(mut self, traceback: impl Into<String>) -> Self {
        self.traceback = Some(traceback.into());
        self
    }

    /// The message as one text: its parts joined by `, `.
    #[must_use]
    pub fn message(&self) -> String {
        let part = |value: &Value| match value {
            Value::Str(text) => text.clone(),
            other => {
                let tuple = crate::repr::args_repr(std::slice::from_ref(other));
                tuple.strip_prefix('(').and_then(|rest| rest.strip_suffix(",)")).unwrap_or(&tuple).to_owned()
            }
        };
        self.exc_message.iter().map(part).collect::<Vec<_>>().join(", ")
    }

    /// The exception object.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut object = Map::new();
        object.insert("exc_type".to_owned(), Value::from(self.exc_type.as_str()));
        object.insert("exc_message".to_owned(), Value::List(self.exc_message.clone()));
        object.insert("exc_module".to_owned(), self.exc_module.as_deref().map_or(Value::Null, Value::from));
        Value::Map(object)
    }

    /// Reads an exception object, forgivingly: whatever is stored under a failed task becomes a failure.
    #[must_use]
    pub fn from_value(value: Value) -> Self {
        let list = |message: Value| match message {
            Value::List(parts) => parts,
            Value::Null => Vec::new(),
            other => vec![other],
        };
        match value {
            Value::Map(mut object) if object.get("exc_type").and_then(Value::as_str).is_some() => Self {
                exc_type: object.get("exc_type").and_then(Value::as_str).unwrap_or_default().to_owned(),
                exc_module: object.get("exc_module").and_then(Value::as_str).map(str::to_owned),
                exc_message: list(object.insert("exc_message".to_owned(), Value::Null).unwrap_or_default()),
                traceback: None,
            },
            // Other clients store a failure as plain text.
            other => {
                Self { exc_type: "Exception".to_owned(), exc_module: None, exc_message: list(other), traceback: None }
            }
        }
    }
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exc_module.as_deref() {
            None | Some("builtins" | "") => write!(f, "{}", self.exc_type)?,
            Some(module) => write!(f, "{module}.{}", self.exc_type)?,
        }
        let message = self.message();
        if message.is_empty() { Ok(()) } else { write!(f, ": {message}") }
    }
}

impl std::error::Error for TaskFailure {}

/// The record of a task: what a result backend stores under the task's id.
///
/// The result stays in the format it was serialised in: systems store and hand back its bytes.
///
/// # Wire format
/// `celery/backends/base.py::_get_result_meta` (celery 5.7).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskMeta {
    /// The task.
    pub task_id: TaskId,
    /// Its state.
    pub state: TaskState,
    /// The result; an exception object ([`TaskFailure::to_value`]) in a state that [`TaskState::is_exception`]; the task's
    /// own data in a custom state.
    pub result: Option<Payload>,
    /// Where it failed.
    pub traceback: Option<String>,
    /// The tasks it sent; `None` when stored from outside the task.
    pub children: Option<Vec<ResultTuple>>,
    /// When it ended; `None` until then.
    pub date_done: Option<Timestamp>,
    /// The group it belongs to.
    pub group_id: Option<GroupId>,
    /// The task that sent it.
    pub parent_id: Option<TaskId>,
    /// With `result_extended`: `name, args, kwargs, worker, retries, queue` and the stamps.
    pub extended: Map,
}

impl TaskMeta {
    /// A record of `task_id` in `state`, without a result.
    #[must_use]
    pub fn new(task_id: TaskId, state: TaskState) -> Self {
        Self {
            task_id,
            state,
            result: None,
            traceback: None,
            children: Some(Vec::new()),
            date_done: None,
            group_id: None,
            parent_id: None,
            extended: Map::new(),
        }
    }

    /// Sets the result.
    #[must_use]
    pub fn with_result(mut self, result: Payload) -> Self {
        self.result = Some(result);
        self
    }
}

/// A record on its way to a result backend.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StoreResult {
    /// The record.
    pub meta: TaskMeta,
    /// How long it is kept; for ever when `None`. Celery keeps results for a day.
    pub expires: Option<Duration>,
    /// Where results that travel as messages go: the task's `reply_to`.
    pub reply_to: Option<RoutingKey>,
    /// The id that such a message repeats: the task's `correlation_id`.
    pub correlation_id: Option<CorrelationId>,
}

impl StoreResult {
    /// Stores `meta`, to be kept for ever.
    #[must_use]
    pub fn new(meta: TaskMeta) -> Self {
        Self { meta, expires: None, reply_to: None, correlation_id: None }
    }

    /// Sets how long the record is kept.
    #[must_use]
    pub fn expires(mut self, after: Duration) -> Self {
        self.expires = Some(after);
        self
    }
}

/// Names the store behind a broker or a result backend: equal names mean one and the same store, in which a result and an
/// acknowledgement can be written as one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreId(pub String);

/// The id of a task or a group, with its parents: how Celery writes a result that is not there yet.
///
/// # Wire format
/// `celery/result.py::AsyncResult.as_tuple`: `[[id, parent], null]`; of a group `[[id, parent], [child, ...]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultTuple {
    /// The id of the task or group.
    pub id: String,
    /// What came before it.
    pub parent: Option<Box<Self>>,
    /// The members, if it is a group.
    pub children: Option<Vec<Self>>,
}

impl ResultTuple {
    /// A single task without parents.
    #[must_use]
    pub fn task(id: &TaskId) -> Self {
        Self { id: id.as_str().to_owned(), parent: None, children: None }
    }

    /// The nested lists that Celery writes.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let parent = self.parent.as_ref().map_or(Value::Null, |parent| parent.to_value());
        let children = match &self.children {
            None => Value::Null,
            Some(children) => Value::List(children.iter().map(Self::to_value).collect()),
        };
        Value::List(vec![Value::List(vec![Value::from(self.id.as_str()), parent]), children])
    }

    /// Reads the nested lists; the first element may be a bare id. `None` if it is neither.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        let Value::List(pair) = value else { return None };
        let (id, parent) = match pair.first()? {
            Value::Str(id) => (id.clone(), None),
            Value::List(head) => {
                let parent = match head.get(1) {
                    None | Some(Value::Null) => None,
                    Some(parent) => Some(Box::new(Self::from_value(parent)?)),
                };
                (head.first()?.as_str()?.to_owned(), parent)
            }
            _ => return None,
        };
        let children = match pair.get(1) {
            None | Some(Value::Null) => None,
            Some(Value::List(children)) => Some(children.iter().map(Self::from_value).collect::<Option<_>>()?),
            Some(_) => return None,
        };
        Some(Self { id, parent, children })
    }
}

impl Serialize for ResultTuple {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ResultTuple {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(&Value::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("no result tuple"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_round_trips_as_an_exception_object() {
        let failure = TaskFailure::new("builtins", "ValueError", "boom");
        assert_eq!(TaskFailure::from_value(failure.to_value()), failure);
        assert_eq!(failure.to_string(), "ValueError: boom");
    }

    #[test]
    fn whatever_is_stored_under_a_failed_task_is_a_failure() {
        assert_eq!(TaskFailure::from_value(Value::from("text")).message(), "text");
        assert_eq!(TaskFailure::from_value(Value::Null).exc_type, "Exception");
        let bare: Value = serde_json::from_str(r#"{"exc_type":"E","exc_message":"one","exc_module":null}"#).unwrap();
        assert_eq!(TaskFailure::from_value(bare).exc_message, vec![Value::from("one")]);
    }

    #[test]
    fn a_nested_result_tuple_round_trips() {
        let json = r#"[["g",[["p",null],null]],[[["a",null],null],[["b",null],null]]]"#;
        let tuple: ResultTuple = serde_json::from_str(json).unwrap();
        assert_eq!(tuple.children.as_ref().map(Vec::len), Some(2));
        assert_eq!(serde_json::to_string(&tuple).unwrap(), json);
        assert_eq!(ResultTuple::from_value(&Value::from(1)), None);
    }
}
