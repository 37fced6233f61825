//! The headers of a message: Celery's nineteen typed, the others kept as they came.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Result;
use crate::name::{GroupId, TaskId, TaskName};
use crate::time::WireTime;
use crate::value::{Map, Value};

mod slots;

use slots::{NAMES, Slots};

/// The hard and the soft time limit of one task; `None` means the worker's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeLimits {
    /// After this long the task is ended by force.
    pub hard: Option<Duration>,
    /// After this long the task is asked to end.
    pub soft: Option<Duration>,
}

/// The headers that make a message a task.
///
/// # Wire format
/// Message protocol 2, `docs/internals/protocol.rst` and `celery/app/amqp.py::as_task_v2` (celery 5.7); written in that order.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskHeaders {
    /// The language of the sender: `rs` from here, `py` from Python.
    pub lang: Cow<'static, str>,
    /// The task's name.
    pub task: TaskName,
    /// The task's id.
    pub id: TaskId,
    /// A name to show instead of the task's.
    pub shadow: Option<String>,
    /// Not to be run before this instant.
    pub eta: Option<WireTime>,
    /// Not to be run after this instant.
    pub expires: Option<WireTime>,
    /// The group or chord header that the task belongs to.
    pub group: Option<GroupId>,
    /// The task's place in its group, from 0.
    pub group_index: Option<i64>,
    /// How many times it was retried.
    pub retries: u32,
    /// Its own time limits.
    pub timelimit: TimeLimits,
    /// The first task of the workflow.
    pub root_id: Option<TaskId>,
    /// The task that sent this one.
    pub parent_id: Option<TaskId>,
    /// The positional arguments, for people to read.
    pub argsrepr: String,
    /// The keyword arguments, for people to read.
    pub kwargsrepr: String,
    /// The process that sent it, as `gen<pid>@<host>`.
    pub origin: Option<Arc<str>>,
    /// Whether its result is not to be stored; `None` leaves it to the worker's task.
    pub ignore_result: Option<bool>,
    /// How often it was replaced by another signature.
    pub replaced_task_nesting: u32,
    /// The names of the stamps it bears.
    pub stamped_headers: Option<Vec<String>>,
    /// The stamps.
    pub stamps: Map,
    /// The MIME type of the body's compression; none when absent.
    pub compression: Option<String>,
    /// Headers that the protocol does not know: the user's, or another program's. They survive retries and hops. So does the value of a header
    /// that the protocol knows but that came with a value of the wrong type.
    pub extra: Map,
    /// What was wrong with a header as it came; its value is kept in `extra`, under its own name.
    malformed: Option<Box<str>>,
}

impl TaskHeaders {
    /// Headers of a new task, everything else at its default.
    #[must_use]
    pub fn new(task: TaskName, id: TaskId) -> Self {
        Self {
            lang: Cow::Borrowed("rs"),
            root_id: Some(id.clone()),
            task,
            id,
            shadow: None,
            eta: None,
            expires: None,
            group: None,
            group_index: None,
            retries: 0,
            timelimit: TimeLimits::default(),
            parent_id: None,
            argsrepr: String::new(),
            kwargsrepr: String::new(),
            origin: None,
            ignore_result: None,
            replaced_task_nesting: 0,
            stamped_headers: None,
            stamps: Map::new(),
            compression: None,
            extra: Map::new(),
            malformed: None,
        }
    }

    /// Every header once: those of the protocol in its order, then the others. What is in `extra` under a name of the protocol's stands for it.
    fn visit(&self, mut all: impl FnMut(&str, HeaderValue<'_>)) {
        use HeaderValue::{Bool, Int, Map, Null, Str, Value as Whole};
        let replaced = self.extra_names_known();
        let mut see = |name: &str, value: HeaderValue<'_>| {
            if !(replaced && self.extra.contains_key(name)) {
                all(name, value);
            }
        };
        see("lang", Str(&self.lang));
        see("task", Str(&self.task));
        see("id", Str(&self.id));
        see("shadow", self.shadow.as_deref().map_or(Null, Str));
        see("eta", self.eta.as_ref().map_or(Null, |eta| Str(eta.as_str())));
        see("expires", self.expires.as_ref().map_or(Null, |expires| Str(expires.as_str())));
        see("group", self.group.as_deref().map_or(Null, Str));
        see("group_index", self.group_index.map_or(Null, Int));
        see("retries", Int(self.retries.into()));
        let limits = Value::List(vec![seconds(self.timelimit.hard), seconds(self.timelimit.soft)]);
        see("timelimit", Whole(&limits));
        see("root_id", self.root_id.as_deref().map_or(Null, Str));
        see("parent_id", self.parent_id.as_deref().map_or(Null, Str));
        see("argsrepr", Str(&self.argsrepr));
        see("kwargsrepr", Str(&self.kwargsrepr));
        see("origin", self.origin.as_deref().map_or(Null, Str));
        see("ignore_result", self.ignore_result.map_or(Null, Bool));
        see("replaced_task_nesting", Int(self.replaced_task_nesting.into()));
        let stamped = self.stamped_headers.as_ref().map(|names| names.iter().cloned().map(Value::Str).collect());
        see("stamped_headers", stamped.as_ref().map_or(Null, Whole));
        see("stamps", Map(&self.stamps));
        if let Some(compression) = &self.compression {
            see("compression", Str(compression));
        }
        for (name, value) in &self.extra {
            all(name, Whole(value));
        }
    }

    /// Whether a header of the protocol is in `extra`: one that came with a value of the wrong type.
    fn extra_names_known(&self) -> bool {
        self.extra.keys().any(|name| NAMES.contains(&name))
    }
}

/// The value of one header, borrowed: what [`Headers::visit`] shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HeaderValue<'a> {
    /// Nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A text.
    Str(&'a str),
    /// A table.
    Map(&'a Map),
    /// Anything else.
    Value(&'a Value),
}

impl HeaderValue<'_> {
    /// The value by itself.
    #[must_use]
    pub fn to_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(bool) => Value::Bool(bool),
            Self::Int(int) => Value::Int(int),
            Self::Str(text) => Value::Str(text.to_owned()),
            Self::Map(map) => Value::Map(map.clone()),
            Self::Value(value) => value.clone(),
        }
    }
}

fn seconds(limit: Option<Duration>) -> Value {
    match limit {
        None => Value::Null,
        Some(limit) if limit.subsec_nanos() == 0 => Value::Int(i64::try_from(limit.as_secs()).unwrap_or(i64::MAX)),
        Some(limit) => Value::Float(limit.as_secs_f64()),
    }
}

/// The headers of any message: those of a task, or a plain table.
///
/// # Examples
/// ```
/// use celeriac_core::{Headers, TaskHeaders, TaskId, TaskName};
///
/// let headers = Headers::from(TaskHeaders::new(TaskName::from_static("add"), TaskId::random()));
/// assert_eq!(headers.task().unwrap().task, "add");
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Headers(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Shared, so that a broker that keeps a message while it is being worked on copies nothing.
    Task(Arc<TaskHeaders>),
    /// No `task` header; or that, or the `id`, cannot be used: then with the reason.
    Table(Map, Option<Box<str>>),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Table(Map::new(), None)
    }
}

impl Headers {
    /// No headers, as a protocol 1 message has.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads headers from a table: typed when there is a usable `task` and `id` header.
    ///
    /// Never fails: a header of the wrong type stays as it came, and [`Headers::malformed`] says why.
    #[must_use]
    pub fn from_map(table: Map) -> Self {
        let mut slots = Slots::default();
        for (name, value) in table {
            slots.put(&name, value);
        }
        slots.into_headers()
    }

    /// The task's headers, if this is a task of protocol 2.
    #[must_use]
    pub fn task(&self) -> Option<&TaskHeaders> {
        match &self.0 {
            Kind::Task(task) => Some(task),
            Kind::Table(..) => None,
        }
    }

    /// The task's headers, to change; copied first if they are shared.
    pub fn task_mut(&mut self) -> Option<&mut TaskHeaders> {
        match &mut self.0 {
            Kind::Task(task) => Some(Arc::make_mut(task)),
            Kind::Table(..) => None,
        }
    }

    /// Takes the task's headers out.
    ///
    /// # Errors
    /// The headers themselves, if they are not a task's.
    pub fn into_task(self) -> Result<Arc<TaskHeaders>, Self> {
        match self.0 {
            Kind::Task(task) => Ok(task),
            table @ Kind::Table(..) => Err(Self(table)),
        }
    }

    /// What is wrong with the headers of a task: the first that is missing or of the wrong type; `None` if nothing is. It tells the header's name
    /// and what kind of value came, never the value, which may be secret.
    ///
    /// A header that only informs (`lang`, `shadow`, `argsrepr`, `kwargsrepr` and `origin`) is never reported: of the wrong type it counts as
    /// absent, and its value is kept in [`TaskHeaders::extra`].
    #[must_use]
    pub fn malformed(&self) -> Option<&str> {
        match &self.0 {
            Kind::Table(_, reason) => reason.as_deref(),
            Kind::Task(task) => task.malformed.as_deref(),
        }
    }

    /// The value of one header, whichever kind it is.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value> {
        match &self.0 {
            Kind::Table(table, _) => table.get(name).cloned(),
            Kind::Task(task) => {
                let mut found = None;
                task.visit(|key, value| {
                    if key == name {
                        found = Some(value.to_value());
                    }
                });
                found
            }
        }
    }

    /// Sets a header that is not one of the protocol's.
    pub fn set_extra(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        match &mut self.0 {
            Kind::Table(table, _) => table.insert(name.into(), value.into()),
            Kind::Task(task) => Arc::make_mut(task).extra.insert(name.into(), value.into()),
        };
    }

    /// Takes out a header that is not one of the protocol's; they are copied first if they are shared and it is there.
    ///
    /// # Examples
    /// ```
    /// use celeriac_core::{Headers, Value};
    ///
    /// let mut headers = Headers::new();
    /// headers.set_extra("tenant", "shop");
    /// assert_eq!(headers.take_extra("tenant"), Some(Value::from("shop")));
    /// assert_eq!(headers.take_extra("tenant"), None);
    /// ```
    pub fn take_extra(&mut self, name: &str) -> Option<Value> {
        match &mut self.0 {
            Kind::Table(table, _) => table.remove(name),
            Kind::Task(task) if task.extra.contains_key(name) => Arc::make_mut(task).extra.remove(name),
            Kind::Task(_) => None,
        }
    }

    /// Shows every header, in the protocol's order, without copying: for systems that write headers one by one.
    ///
    /// A header that came with a value of the wrong type is shown once, as it came, behind the protocol's.
    pub fn visit(&self, mut see: impl FnMut(&str, HeaderValue<'_>)) {
        match &self.0 {
            Kind::Table(table, _) => table.iter().for_each(|(name, value)| see(name, HeaderValue::Value(value))),
            Kind::Task(task) => task.visit(see),
        }
    }

    /// All headers as one table, in the protocol's order.
    #[must_use]
    pub fn to_map(&self) -> Map {
        let mut table = Map::new();
        self.visit(|name, value| {
            table.insert(name, value.to_value());
        });
        table
    }

    /// Reads headers one by one, as [`Headers::from_map`] does from a table: for systems that read them one by one.
    #[must_use]
    pub fn reader() -> HeadersReader {
        HeadersReader(Slots::default())
    }
}

/// Puts headers together, one by one. A name that comes twice keeps the last value.
#[derive(Debug)]
pub struct HeadersReader(Slots);

impl HeadersReader {
    /// Adds one header.
    pub fn put(&mut self, name: &str, value: Value) {
        self.0.put(name, value);
    }

    /// The headers.
    #[must_use]
    pub fn finish(self) -> Headers {
        self.0.into_headers()
    }
}

impl From<TaskHeaders> for Headers {
    fn from(task: TaskHeaders) -> Self {
        Self(Kind::Task(Arc::new(task)))
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Kind::Table(table, _) => table.serialize(serializer),
            // A header of the wrong type is in `extra` under a known name: the table writes each name once.
            Kind::Task(task) if task.extra_names_known() => self.to_map().serialize(serializer),
            Kind::Task(task) => {
                let known = if task.compression.is_some() { 20 } else { 19 };
                let mut map = serializer.serialize_map(Some(known + task.extra.len()))?;
                map.serialize_entry("lang", &task.lang)?;
                map.serialize_entry("task", &task.task)?;
                map.serialize_entry("id", &task.id)?;
                map.serialize_entry("shadow", &task.shadow)?;
                map.serialize_entry("eta", &task.eta.as_ref().map(WireTime::as_str))?;
                map.serialize_entry("expires", &task.expires.as_ref().map(WireTime::as_str))?;
                map.serialize_entry("group", &task.group)?;
                map.serialize_entry("group_index", &task.group_index)?;
                map.serialize_entry("retries", &task.retries)?;
                map.serialize_entry("timelimit", &[seconds(task.timelimit.hard), seconds(task.timelimit.soft)])?;
                map.serialize_entry("root_id", &task.root_id)?;
                map.serialize_entry("parent_id", &task.parent_id)?;
                map.serialize_entry("argsrepr", &task.argsrepr)?;
                map.serialize_entry("kwargsrepr", &task.kwargsrepr)?;
                map.serialize_entry("origin", &task.origin.as_deref())?;
                map.serialize_entry("ignore_result", &task.ignore_result)?;
                map.serialize_entry("replaced_task_nesting", &task.replaced_task_nesting)?;
                map.serialize_entry("stamped_headers", &task.stamped_headers)?;
                map.serialize_entry("stamps", &task.stamps)?;
                if let Some(compression) = &task.compression {
                    map.serialize_entry("compression", compression)?;
                }
                for (name, value) in &task.extra {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeadersVisitor;

        impl<'de> Visitor<'de> for HeadersVisitor {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of headers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut slots = Slots::default();
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    let value = map.next_value::<Value>()?;
                    slots.put(&name, value);
                }
                Ok(slots.into_headers())
            }
        }

        deserializer.deserialize_map(HeadersVisitor)
    }
}

#[cfg(test)]
mod tests;
