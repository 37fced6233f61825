//! Reading a record.

use std::borrow::Cow;

use bytes::Bytes;
use celeriac_core::{ContentType, Error, Payload, Result, ResultTuple, TaskId, TaskMeta, TaskState, Value};

use super::{COMPRESSED, enclosed, other_format};
use crate::{Compression, Json, Serializer};

const FETCH: &str = "fetch result";

/// Reads the record stored under the id `expected`, or without one a record that names its task itself; decompresses to at most `max_bytes`.
///
/// JSON and msgpack are told by their first byte, compression by its mark; whatever else comes is read as YAML.
/// Keys may come in any order; those that are not the record's own go to [`TaskMeta::extended`]. What only informs and cannot be read counts
/// as absent: traceback, children, date and family.
///
/// # Errors
/// All name the task, if it was given. [`ErrorKind::Malformed`](celeriac_core::ErrorKind::Malformed) if there is no record in the data, or one without a state;
/// [`ErrorKind::TooLarge`](celeriac_core::ErrorKind::TooLarge) if it would be larger than `max_bytes` decompressed;
/// [`ErrorKind::Unsupported`](celeriac_core::ErrorKind::Unsupported) if its format or compression is not compiled in.
///
/// # Wire format
/// `celery/backends/base.py::meta_from_decoded`, `decompress_payload` (celery 5.7).
pub fn decode(expected: Option<&TaskId>, data: &[u8], max_bytes: usize) -> Result<TaskMeta> {
    let read = || {
        let data = decompressed(data, max_bytes)?;
        let plain = data.trim_ascii_start();
        let (content_type, without) = match plain.first() {
            Some(b'{') => return read(expected, &Json, plain),
            Some(0x80..=0x8f | 0xde | 0xdf) => {
                (ContentType::MSGPACK, "it is not JSON, and msgpack needs the cargo feature `msgpack`")
            }
            _ => (ContentType::YAML, "it is neither JSON nor msgpack, and YAML needs the cargo feature `yaml`"),
        };
        let format = other_format(&content_type).ok_or_else(|| Error::unsupported(FETCH, without))?;
        read(expected, format, &data)
    };
    read().map_err(|error| {
        let task = expected.map_or_else(|| "a task".to_owned(), |id| format!("task `{id}`"));
        Error::new(error.kind(), FETCH, format!("the record of {task} cannot be read")).with_source(error)
    })
}

/// The data of a record, or of what is kept beside records, without the compression that Celery may have put it in.
///
/// # Errors
/// As [`decode`]; none names a task.
pub fn decompressed(data: &[u8], max_bytes: usize) -> Result<Cow<'_, [u8]>> {
    let Some(rest) = data.strip_prefix(COMPRESSED) else { return Ok(Cow::Borrowed(data)) };
    let end = memchr::memchr(0, rest).ok_or_else(|| malformed("the compression is not named"))?;
    let (name, stream) = rest.split_at(end);
    let name = std::str::from_utf8(name).map_err(|_| malformed("the compression is named by no text"))?;
    Compression::from_name(name)?.decompress(stream.get(1..).unwrap_or_default(), max_bytes).map(Cow::Owned)
}

fn malformed(why: &'static str) -> Error {
    Error::malformed(FETCH, why)
}

fn read(expected: Option<&TaskId>, format: &dyn Serializer, data: &[u8]) -> Result<TaskMeta> {
    let mut state = None;
    let mut result = None;
    let mut named = None;
    // Its id is known only in the end.
    let mut meta = TaskMeta::new(TaskId::from_static("?"), TaskState::Pending);
    meta.children = None;
    for (key, raw) in format.split_map(data)? {
        // Of a result only the bytes are of interest.
        if key == "result" {
            result = Some(raw);
            continue;
        }
        let value = format.decode_value(&raw).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&raw).as_ref()));
        match &*key {
            "status" => {
                state = Some(TaskState::from(value.as_str().ok_or_else(|| malformed("its `status` is no text"))?))
            }
            "traceback" => meta.traceback = text(value),
            "children" => meta.children = children(&value),
            "date_done" => meta.date_done = value.as_str().and_then(|date| date.parse().ok()),
            "group_id" => meta.group_id = value.as_str().and_then(|id| id.parse().ok()),
            "parent_id" => meta.parent_id = value.as_str().and_then(|id| id.parse().ok()),
            "task_id" => named = value.as_str().and_then(|id| id.parse().ok()),
            _ => drop(meta.extended.insert(key, value)),
        }
    }
    meta.state = state.ok_or_else(|| malformed("it has no `status`"))?;
    meta.task_id = expected.cloned().or(named).ok_or_else(|| malformed("it has no `task_id`"))?;
    meta.result = result.and_then(|raw| payload(&meta.state, format, &raw));
    Ok(meta)
}

fn text(value: Value) -> Option<String> {
    if let Value::Str(text) = value { Some(text) } else { None }
}

fn children(value: &Value) -> Option<Vec<ResultTuple>> {
    value.as_list()?.iter().map(ResultTuple::from_value).collect()
}

/// The result of a task in `state` that stands in a record, in its format.
///
/// A success without a value returned nothing, Python's `None`; any other state without one has no result.
#[must_use]
pub fn payload(state: &TaskState, format: &dyn Serializer, raw: &[u8]) -> Option<Payload> {
    const NULL: usize = "null".len();
    let content_type = format.content_type();
    if content_type == ContentType::JSON
        && let Some(payload) = enclosed::read(raw)
    {
        return Some(payload);
    }
    // Only what is short enough to be null needs a look.
    let is_null = raw.len() <= NULL && format.decode_value(raw).is_ok_and(|value| value.is_null());
    (!is_null || *state == TaskState::Success).then(|| Payload { content_type, data: Bytes::copy_from_slice(raw) })
}
