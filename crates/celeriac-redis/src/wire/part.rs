//! What there is of groups: a part of a chord's header, as it is counted under `celery-taskset-meta-<group>.j`; a group's members.

use std::borrow::Cow;

use celeriac_core::{ContentType, Error, Payload, Result, ResultTuple, TaskId, TaskState, Value};
use celeriac_serializer::{Json, Msgpack, Serializer, SerializerExt as _};
use serde::de::IgnoredAny;

use super::json::push_text;
use super::meta::{decompressed, payload};

/// What stands first in every part, and says nothing.
const ONE: i64 = 1;

/// Appends a part in the format of its result, JSON or msgpack, with the result's own bytes in it.
///
/// # Errors
/// `Malformed` if the bytes are not of the format they claim; `Unsupported` if that is another one.
///
/// # Wire format
/// `celery/backends/redis.py::RedisBackend.on_chord_part_return` (celery 5.7): `[1, "<task>", "<state>", <result>]`.
pub(crate) fn encode(
    operation: &'static str,
    id: &TaskId,
    state: &TaskState,
    result: Option<&Payload>,
    out: &mut Vec<u8>,
) -> Result<()> {
    const NULL: &[u8] = b"null";
    let malformed = |error: Error| {
        let why = format!("the result of task `{id}` is not of the format it claims");
        Error::malformed(operation, why).with_source(error)
    };
    match result {
        None => push_json(id, state, NULL, out),
        Some(Payload { content_type, data }) if *content_type == ContentType::JSON => {
            // Bytes that are no JSON would break the chord for whoever reads it.
            std::str::from_utf8(data).map_err(|error| malformed(Error::malformed(operation, error.to_string())))?;
            Json.from_bytes::<IgnoredAny>(data).map_err(malformed)?;
            push_json(id, state, data, out);
        }
        Some(Payload { content_type, data }) if *content_type == ContentType::MSGPACK => {
            Msgpack.from_bytes::<IgnoredAny>(data).map_err(malformed)?;
            let (one, id, state) =
                (Msgpack.to_bytes(&ONE)?, Msgpack.to_bytes(id.as_str())?, Msgpack.to_bytes(state.as_str())?);
            Msgpack.join_list(&[&one, &id, &state, data], out)?;
        }
        Some(Payload { content_type, .. }) => {
            let why = format!(
                "the result of task `{id}` is in `{content_type}`: parts of a chord in Redis can be in JSON or msgpack"
            );
            return Err(Error::unsupported(operation, why));
        }
    }
    Ok(())
}

fn push_json(id: &TaskId, state: &TaskState, result: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"[1, ");
    push_text(out, id);
    out.extend_from_slice(b", ");
    push_text(out, state.as_str());
    out.extend_from_slice(b", ");
    out.extend_from_slice(result);
    out.push(b']');
}

/// Reads a part; decompresses to at most `max_bytes`. JSON and msgpack are told by their first byte.
///
/// # Errors
/// `Malformed` if there is no part in the data; `TooLarge` if it would be larger than `max_bytes`; `Unsupported` if its format is neither
/// JSON nor msgpack, or its compression is not compiled in.
pub(crate) fn decode(
    operation: &'static str,
    data: &[u8],
    max_bytes: usize,
) -> Result<(TaskId, TaskState, Option<Payload>)> {
    let data = decompressed(data, max_bytes)?;
    let plain = data.trim_ascii_start();
    let (format, data): (&dyn Serializer, _) = match plain.first() {
        Some(b'[') => (&Json, plain),
        Some(0x90..=0x9f | 0xdc | 0xdd) => (&Msgpack, &*data),
        _ => return Err(Error::unsupported(operation, "a part of a chord is neither in JSON nor in msgpack")),
    };
    let malformed = || Error::malformed(operation, "a part of a chord is no list of a task, its state and its result");
    let items = format.split_list(data)?;
    let [_, id, state, result] = items.as_slice() else { return Err(malformed()) };
    let text = |raw: &Cow<'_, [u8]>| match format.decode_value(raw)? {
        Value::Str(text) => Ok(text),
        _ => Err(malformed()),
    };
    let (id, state) = (text(id)?.parse()?, TaskState::from(text(state)?.as_str()));
    let result = payload(&state, format, result);
    Ok((id, state, result))
}

/// Appends the id of a task or group, its parents and members, in JSON as Python writes it.
///
/// # Wire format
/// `celery/result.py::GroupResult.as_tuple` (celery 5.7).
pub(crate) fn push_tuple(tuple: &ResultTuple, out: &mut Vec<u8>) {
    out.extend_from_slice(b"[[");
    push_text(out, &tuple.id);
    out.extend_from_slice(b", ");
    match &tuple.parent {
        Some(parent) => push_tuple(parent, out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b"], ");
    match &tuple.children {
        None => out.extend_from_slice(b"null"),
        Some(children) => {
            out.push(b'[');
            for (place, child) in children.iter().enumerate() {
                if place > 0 {
                    out.extend_from_slice(b", ");
                }
                push_tuple(child, out);
            }
            out.push(b']');
        }
    }
    out.push(b']');
}
