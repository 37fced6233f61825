//! The headers of a message: Celery's nineteen typed, the others kept as they came.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::name::{GroupId, TaskId, TaskName};
use crate::time::WireTime;
use crate::value::{Map, Value};

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

/// One slot for each header of the protocol, so that reading a task builds no table.
#[derive(Debug, Default)]
struct Slots {
    known: [Option<Value>; NAMES.len()],
    extra: Map,
    malformed: Option<Box<str>>,
}

const NAMES: [&str; 20] = [
    "lang",
    "task",
    "id",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "timelimit",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
    "compression",
];

impl Slots {
    fn put(&mut self, name: &str, value: Value) {
        let at = NAMES.iter().position(|known| *known == name);
        match at.and_then(|at| self.known.get_mut(at)) {
            Some(slot) => *slot = Some(value),
            None => {
                self.extra.insert(name.to_owned(), value);
            }
        }
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<Value>> {
        let at = NAMES.iter().position(|known| *known == name)?;
        self.known.get_mut(at)
    }

    fn into_headers(mut self) -> Headers {
        let named = self.slot("task").and_then(|task| task.as_ref()).is_some_and(|task| !task.is_null());
        if !named {
            return self.into_table();
        }
        let (task, id) = match (
            self.parse::<TaskName>("task", "text of 1 to 255 bytes"),
            self.parse::<TaskId>("id", "text of 1 to 155 bytes"),
        ) {
            (Some(task), Some(id)) => (task, id),
            (task, id) => {
                // The one that can be read goes back to its place: a failure is stored by the id.
                if let (Some(task), Some(slot)) = (task, self.slot("task")) {
                    *slot = Some(Value::from(task.as_str()));
                }
                if let (Some(id), Some(slot)) = (id, self.slot("id")) {
                    *slot = Some(Value::from(id.as_str()));
                }
                self.malformed.get_or_insert_with(|| "header `id` is missing".into());
                return self.into_table();
            }
        };
        let task = TaskHeaders {
            task,
            id,
            lang: self.informative("lang").map_or(Cow::Borrowed(""), Cow::Owned),
            shadow: self.informative("shadow"),
            eta: self.parse("eta", "an ISO 8601 time"),
            expires: self.parse("expires", "an ISO 8601 time"),
            group: self.parse("group", "text of 1 to 155 bytes"),
            group_index: self.read("group_index", "an integer", |value| value.as_i64()),
            retries: self.count("retries"),
            timelimit: self.read("timelimit", "a list [hard, soft] of seconds", time_limits).unwrap_or_default(),
            root_id: self.parse("root_id", "text of 1 to 155 bytes"),
            parent_id: self.parse("parent_id", "text of 1 to 155 bytes"),
            argsrepr: self.informative("argsrepr").unwrap_or_default(),
            kwargsrepr: self.informative("kwargsrepr").unwrap_or_default(),
            origin: self.informative("origin").map(Arc::from),
            ignore_result: self.read("ignore_result", "a boolean", |value| match value {
                Value::Bool(ignore) => Some(*ignore),
                _ => None,
            }),
            replaced_task_nesting: self.count("replaced_task_nesting"),
            stamped_headers: self.read("stamped_headers", "a list of names", |value| match value {
                Value::List(names) => names.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
                _ => None,
            }),
            stamps: self
                .read("stamps", "a table", |value| match value {
                    Value::Map(stamps) => Some(stamps.clone()),
                    _ => None,
                })
                .unwrap_or_default(),
            compression: self.read("compression", "text", |value| value.as_str().map(str::to_owned)),
            extra: self.extra,
            malformed: self.malformed,
        };
        Headers(Kind::Task(Arc::new(task)))
    }

    fn into_table(self) -> Headers {
        let mut table = Map::new();
        for (name, value) in NAMES.iter().zip(self.known) {
            if let Some(value) = value {
                table.insert((*name).to_owned(), value);
            }
        }
        for (name, value) in self.extra {
            table.insert(name, value);
        }
        Headers(Kind::Table(table, self.malformed))
    }

    /// Reads one header; absent and null are `None`. A value that `read` refuses is kept in `extra` and reported.
    fn read<T>(&mut self, name: &'static str, expected: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let value = self.slot(name)?.take().filter(|value| *value != Value::Null)?;
        let taken = read(&value);
        if taken.is_none() {
            self.refuse(name, value, expected);
        }
        taken
    }

    fn refuse(&mut self, name: &'static str, value: Value, expected: &str) {
        // The value itself is not shown: it may be an argument.
        let kind = value.kind();
        self.malformed.get_or_insert_with(|| format!("header `{name}` should be {expected}; it came as {kind}").into());
        self.extra.insert(name.to_owned(), value);
    }

    /// Reads one header that only informs, moving its text out. No task need fail for what people read: a value of the wrong type is kept in
    /// `extra`, and not reported.
    fn informative(&mut self, name: &'static str) -> Option<String> {
        match self.slot(name)?.take()? {
            Value::Null => None,
            Value::Str(text) => Some(text),
            other => {
                self.extra.insert(name.to_owned(), other);
                None
            }
        }
    }

    fn parse<T: std::str::FromStr<Err = Error>>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        self.read(name, expected, |value| value.as_str()?.parse().ok())
    }

    fn count(&mut self, name: &'static str) -> u32 {
        self.read(name, "a count from 0", |value| u32::try_from(value.as_i64()?).ok()).unwrap_or(0)
    }
}

fn time_limits(value: &Value) -> Option<TimeLimits> {
    let Value::List(limits) = value else { return None };
    let limit = |value: &Value| match value {
        Value::Null => Some(None),
        value => Duration::try_from_secs_f64(value.as_f64()?).ok().map(Some),
    };
    let [hard, soft, ..] = limits.as_slice() else { return None };
    Some(TimeLimits { hard: limit(hard)?, soft: limit(soft)? })
}

#[cfg(test)]
mod tests;
