//! Writing a record.

use std::io::Write as _;

use celeriac_core::{ContentType, Payload, Result, ResultTuple, TaskMeta, Value};
use serde::de::IgnoredAny;

use super::{FIELDS, YAML_START, enclosed, other_format};
use crate::json::write::{Flavour, push_str};
use crate::{Json, Serializer, SerializerExt as _};

/// About what a record takes beside its result.
const ROOM: usize = 320;

/// Appends the record in the format of its result: JSON, msgpack or YAML, with the result's own bytes in it. Tells which.
///
/// A result in any other format, or whose bytes are not of the format they claim, goes into JSON as
/// `{"__celeriac__": {"content_type": "...", "data": "<base64>"}}`: Python sees that object, [`decode`](super::decode()) the result.
///
/// In JSON and msgpack `status` comes first, so that a script finds it: `{"status": "SUCCESS"` to the letter, or a map's header, then the
/// texts `status` and `SUCCESS`. In YAML it does too, behind `--- {? "status" : `.
///
/// # Errors
/// If the format cannot hold the record; none of them is known to. Part of it may have been appended.
///
/// # Wire format
/// `celery/backends/base.py::_get_result_meta` (celery 5.7), in that order of keys, then `task_id` as `celery/backends/base.py::
/// KeyValueStoreBackend._store_result` adds it.
pub fn encode(meta: &TaskMeta, out: &mut Vec<u8>) -> Result<ContentType> {
    match &meta.result {
        None => push_json(meta, out, |out| out.extend_from_slice(b"null"))?,
        Some(Payload { content_type, data }) if *content_type == ContentType::JSON && is_json(data) => {
            push_json(meta, out, |out| out.extend_from_slice(data))?;
        }
        Some(payload) => match other_format(&payload.content_type) {
            Some(format) if is_whole(format, &payload.data) => {
                push_joined(meta, format, &payload.data, out)?;
                return Ok(format.content_type());
            }
            _ => push_json(meta, out, |out| enclosed::push(out, payload))?,
        },
    }
    Ok(ContentType::JSON)
}

/// Whether the bytes may stand in a record as they are. They are not ours: what is no value would break the record, or change it.
fn is_json(data: &[u8]) -> bool {
    std::str::from_utf8(data).is_ok() && Json.from_bytes::<IgnoredAny>(data).is_ok() && !enclosed::looks_so(data)
}

fn is_whole(format: &dyn Serializer, data: &[u8]) -> bool {
    if format.content_type() == ContentType::YAML {
        // Its values are read when they are joined.
        format.decode_value(data).is_ok()
    } else {
        format.from_bytes::<IgnoredAny>(data).is_ok()
    }
}

fn push_json(meta: &TaskMeta, out: &mut Vec<u8>, push_result: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    out.reserve(ROOM + meta.result.as_ref().map_or(0, |payload| payload.data.len()));
    out.extend_from_slice(b"{\"status\": ");
    push_text(out, meta.state.as_str());
    out.extend_from_slice(b", \"result\": ");
    push_result(out);
    out.extend_from_slice(b", \"traceback\": ");
    push_text_or_null(out, meta.traceback.as_deref());
    out.extend_from_slice(b", \"children\": ");
    match &meta.children {
        Some(children) if children.is_empty() => out.extend_from_slice(b"[]"),
        children => Json.encode_value(&children_value(children.as_deref()), out)?,
    }
    out.extend_from_slice(b", \"date_done\": ");
    match meta.date_done {
        // Writing to a Vec cannot fail.
        Some(date) => drop(write!(out, "\"{date}\"")),
        None => out.extend_from_slice(b"null"),
    }
    for (name, id) in [("group_id", meta.group_id.as_deref()), ("parent_id", meta.parent_id.as_deref())] {
        if let Some(id) = id {
            push_key(out, name);
            push_text(out, id);
        }
    }
    for (name, value) in extended(meta) {
        push_key(out, name);
        Json.encode_value(value, out)?;
    }
    push_key(out, "task_id");
    push_text(out, &meta.task_id);
    out.push(b'}');
    Ok(())
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    push_str(out, text, Flavour::Json);
}

fn push_text_or_null(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => push_text(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

fn push_key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b", ");
    push_text(out, name);
    out.extend_from_slice(b": ");
}

/// What no field of the record's own is called.
fn extended(meta: &TaskMeta) -> impl Iterator<Item = (&str, &Value)> {
    meta.extended.iter().filter(|(name, _)| !FIELDS.contains(name))
}

fn children_value(children: Option<&[ResultTuple]>) -> Value {
    children.map_or(Value::Null, |children| children.iter().map(ResultTuple::to_value).collect())
}

fn push_joined(meta: &TaskMeta, format: &dyn Serializer, result: &[u8], out: &mut Vec<u8>) -> Result<()> {
    if format.content_type() == ContentType::YAML {
        out.extend_from_slice(YAML_START);
    }
    let text = |text: Option<&str>| text.map_or(Value::Null, Value::from);
    let mut fields = vec![
        ("traceback", text(meta.traceback.as_deref())),
        ("children", children_value(meta.children.as_deref())),
        ("date_done", text(meta.date_done.map(|date| date.to_string()).as_deref())),
    ];
    fields.extend(meta.group_id.as_deref().map(|id| ("group_id", Value::from(id))));
    fields.extend(meta.parent_id.as_deref().map(|id| ("parent_id", Value::from(id))));
    fields.extend(extended(meta).map(|(name, value)| (name, value.clone())));
    fields.push(("task_id", Value::from(meta.task_id.as_str())));
    let encoded = |value: &Value| {
        let mut out = Vec::new();
        format.encode_value(value, &mut out).map(|()| out)
    };
    let status = encoded(&Value::from(meta.state.as_str()))?;
    let fields =
        fields.iter().map(|(name, value)| Ok((*name, encoded(value)?))).collect::<Result<Vec<(&str, Vec<u8>)>>>()?;
    let mut entries: Vec<(&str, &[u8])> = vec![("status", &status), ("result", result)];
    entries.extend(fields.iter().map(|(name, value)| (*name, value.as_slice())));
    format.join_map(&entries, out)
}
