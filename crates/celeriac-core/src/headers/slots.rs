//! Reading headers: from values by name to the typed headers of a task, or to a plain table.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::{Headers, Kind, TaskHeaders, TimeLimits};
use crate::error::Error;
use crate::name::{TaskId, TaskName};
use crate::value::{Map, Value};

/// One slot for each header of the protocol, so that reading a task builds no table.
#[derive(Debug, Default)]
pub(super) struct Slots {
    known: [Option<Value>; NAMES.len()],
    extra: Map,
    malformed: Option<Box<str>>,
}

pub(super) const NAMES: [&str; 20] = [
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
    pub(super) fn put(&mut self, name: &str, value: Value) {
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

    pub(super) fn into_headers(mut self) -> Headers {
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
