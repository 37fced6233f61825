//! Reading headers: straight into those of a task, if they are as most are.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use celeriac_core::{Headers, Map, TaskHeaders, TaskId, TaskName, TimeLimits, Value};

use crate::wire::json::{Raw, Reader, Wrong};

/// Headers as they were read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) headers: Headers,
    /// kombu's mark, which is none of the sender's headers.
    pub(super) redelivered: bool,
}

/// The mark that kombu puts among the headers of what it takes back to a list. It is kombu's alone: it would be overwritten anyway.
const REDELIVERED: &str = "redelivered";

/// Reads a table of headers; anything else is passed, and counts as an empty one.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Read, Wrong> {
    let start = reader.clone();
    if let Some(read) = read_task(reader)? {
        return Ok(read);
    }
    *reader = start;
    read_any(reader)
}

/// Reads headers of any kind.
fn read_any(reader: &mut Reader<'_>) -> Result<Read, Wrong> {
    let Some(mut object) = reader.object() else {
        reader.value()?;
        return Ok(Read::default());
    };
    let (mut headers, mut redelivered) = (Headers::reader(), false);
    while let Some(key) = object.next(reader)? {
        match &*key.text {
            REDELIVERED => redelivered = reader.value()? == Raw::Bool(true),
            name => headers.put(name, reader.value()?.into_value()),
        }
    }
    Ok(Read { headers: headers.finish(), redelivered })
}

/// Reads the headers of a task, each of the type that it should be of: takes half the time. `None` for all others.
fn read_task(reader: &mut Reader<'_>) -> Result<Option<Read>, Wrong> {
    let Some(mut object) = reader.object() else { return Ok(None) };
    let mut task = TaskHeaders::new(TaskName::from_static("?"), TaskId::from_static("?"));
    (task.lang, task.root_id) = (Cow::Borrowed(""), None);
    let (mut named, mut identified, mut redelivered) = (false, false, false);
    while let Some(key) = object.next(reader)? {
        let value = &reader.value()?;
        let taken = match &*key.text {
            "lang" => set(&mut task.lang, lang(value)),
            "task" => {
                named = true;
                set(&mut task.task, parsed(value).flatten())
            }
            "id" => {
                identified = true;
                set(&mut task.id, parsed(value).flatten())
            }
            "shadow" => set(&mut task.shadow, text(value)),
            "eta" => set(&mut task.eta, parsed(value)),
            "expires" => set(&mut task.expires, parsed(value)),
            "group" => set(&mut task.group, parsed(value)),
            "group_index" => set(&mut task.group_index, or_null(value, |value| value.as_int())),
            "retries" => set(&mut task.retries, count(value)),
            "timelimit" => set(&mut task.timelimit, limits(value)),
            "root_id" => set(&mut task.root_id, same(value, &task.id).or_else(|| parsed(value))),
            "parent_id" => set(&mut task.parent_id, parsed(value)),
            "argsrepr" => set(&mut task.argsrepr, text(value).map(Option::unwrap_or_default)),
            "kwargsrepr" => set(&mut task.kwargsrepr, text(value).map(Option::unwrap_or_default)),
            "origin" => set(&mut task.origin, or_null(value, |value| Some(value.as_text()?.into()))),
            "ignore_result" => set(&mut task.ignore_result, or_null(value, |value| value.as_bool())),
            "replaced_task_nesting" => set(&mut task.replaced_task_nesting, count(value)),
            "stamped_headers" => set(&mut task.stamped_headers, names(value)),
            "stamps" => set(&mut task.stamps, table(value)),
            "compression" => set(&mut task.compression, text(value)),
            REDELIVERED => set(&mut redelivered, Some(*value == Raw::Bool(true))),
            other => {
                task.extra.insert(other, value.clone().into_value());
                Some(())
            }
        };
        if taken.is_none() {
            return Ok(None);
        }
    }
    Ok((named && identified).then(|| Read { headers: task.into(), redelivered }))
}

fn set<T>(field: &mut T, value: Option<T>) -> Option<()> {
    value.map(|value| *field = value)
}

/// Null, or what `read` makes of the value; `None` if it makes nothing of it.
fn or_null<T>(value: &Raw<'_>, read: impl FnOnce(&Raw<'_>) -> Option<T>) -> Option<Option<T>> {
    if *value == Raw::Null { Some(None) } else { read(value).map(Some) }
}

/// The usual two need no memory of their own.
fn lang(value: &Raw<'_>) -> Option<Cow<'static, str>> {
    match value {
        Raw::Text(text) => Some(match &**text {
            "py" => Cow::Borrowed("py"),
            "rs" => Cow::Borrowed("rs"),
            other => Cow::Owned(other.to_owned()),
        }),
        _ => (*value == Raw::Null).then_some(Cow::Borrowed("")),
    }
}

fn text(value: &Raw<'_>) -> Option<Option<String>> {
    or_null(value, |value| value.as_text().map(str::to_owned))
}

fn parsed<T: FromStr>(value: &Raw<'_>) -> Option<Option<T>> {
    or_null(value, |value| value.as_text()?.parse().ok())
}

/// Most tasks are the root of their workflow: then the two share a text.
fn same(value: &Raw<'_>, id: &TaskId) -> Option<Option<TaskId>> {
    (value.as_text() == Some(id.as_str())).then(|| Some(id.clone()))
}

fn count(value: &Raw<'_>) -> Option<u32> {
    or_null(value, |value| value.as_int())?.unwrap_or_default().try_into().ok()
}

fn limits(value: &Raw<'_>) -> Option<TimeLimits> {
    if matches!(value, Raw::Null | Raw::Other("[null, null]" | "[null,null]")) {
        return Some(TimeLimits::default());
    }
    let limit = |value: &Value| match value {
        Value::Null => Some(None),
        seconds => Duration::try_from_secs_f64(seconds.as_f64()?).ok().map(Some),
    };
    let list = value.clone().into_value();
    let [hard, soft, ..] = list.as_list()? else { return None };
    Some(TimeLimits { hard: limit(hard)?, soft: limit(soft)? })
}

fn names(value: &Raw<'_>) -> Option<Option<Vec<String>>> {
    or_null(value, |value| match value.clone().into_value() {
        Value::List(names) => names.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => None,
    })
}

fn table(value: &Raw<'_>) -> Option<Map> {
    match value {
        Raw::Null | Raw::Other("{}") => Some(Map::new()),
        Raw::Other(_) => match value.clone().into_value() {
            Value::Map(map) => Some(map),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 23] = [
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
        "redelivered",
        "mine",
        "yours",
    ];

    const VALUES: [&str; 18] = [
        "null",
        "true",
        "5",
        "-1",
        "4294967296",
        "99999999999999999999",
        "1.5",
        "\"text\"",
        "\"\"",
        "\"rs\"",
        "\"2026-01-02T03:04:05Z\"",
        "[null, null]",
        "[1, 2.5]",
        "[-1, null]",
        "[null, 0.25, 3]",
        "[\"a\"]",
        "{}",
        "{\"a\": 1}",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn what_is_read_straight_is_what_would_be_read(
            entries in vec((prop::sample::select(&NAMES[..]), prop::sample::select(&VALUES[..])), 0..8),
        ) {
            let entries: String = entries.iter().map(|(name, value)| format!(", \"{name}\": {value}")).collect();
            let text = format!("{{\"task\": \"t\", \"id\": \"i\"{entries}}}");
            let any = read_any(&mut Reader::new(&text)).unwrap();
            if let Some(straight) = read_task(&mut Reader::new(&text)).unwrap() {
                prop_assert_eq!(&straight.headers, &any.headers);
                prop_assert_eq!(straight.redelivered, any.redelivered);
            }
            let read = read(&mut Reader::new(&text)).unwrap();
            prop_assert_eq!(read.headers, any.headers);
        }
    }
}
