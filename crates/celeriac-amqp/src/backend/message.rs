//! A record as a message.

use std::time::Duration;

use bytes::Bytes;
use celeriac_core::{
    ContentType, CorrelationId, DeliveryMode, Error, ErrorKind, Message, Priority, Properties, Result, RoutingKey,
    StoreResult, TaskMeta,
};
use celeriac_serializer::{ContentEncoding, record};
use lapin::BasicProperties;

use crate::wire;

/// The queue, the properties and the body of a result; `None` for one that nobody wants.
///
/// How long the record is kept travels as `expiration`: the server holds to it while the message waits, and who receives it later.
///
/// # Errors
/// `TooLarge` naming the task whose record has more than `max_bytes`.
///
/// # Wire format
/// `celery/backends/rpc.py::RPCBackend.store_result` (celery 5.7), there without an expiration, and with `delivery_mode` 2 if
/// `result_persistent` is set.
pub(super) fn reply(
    operation: &'static str,
    result: &StoreResult,
    max_bytes: usize,
) -> Result<Option<(RoutingKey, BasicProperties, Bytes)>> {
    let meta = &result.meta;
    let Some(queue) = result.reply_to.as_ref().filter(|queue| !queue.is_empty()) else { return Ok(None) };
    let mut body = Vec::new();
    let format = record::encode(meta, &mut body)?;
    if body.len() > max_bytes {
        let (id, bytes) = (&meta.task_id, body.len());
        let why =
            format!("the result of task `{id}` has {bytes} bytes, the limit is {max_bytes}; see `max_message_bytes`");
        return Err(Error::new(ErrorKind::TooLarge, operation, why));
    }
    let encoding = if format == ContentType::MSGPACK { ContentEncoding::Binary } else { ContentEncoding::Utf8 };
    let correlation_id = result.correlation_id.clone().filter(|id| !id.is_empty());
    let properties = Properties {
        content_type: Some(format),
        content_encoding: Some(encoding.as_str().into()),
        correlation_id: Some(correlation_id.unwrap_or_else(|| CorrelationId::from(&meta.task_id))),
        delivery_mode: Some(DeliveryMode::Persistent),
        priority: Some(Priority::default()),
        expiration: result.expires.map(|life| life.clamp(Duration::from_millis(1), wire::LONGEST_EXPIRATION)),
        ..Properties::default()
    };
    let message = Message { properties, ..Message::default() };
    Ok(Some((queue.clone(), wire::properties(&message)?, body.into())))
}

/// The record in a reply, and how long it is to be kept if that is said.
///
/// # Errors
/// `Malformed` if there is none; see [`record::decode`].
pub(super) fn read(
    properties: &BasicProperties,
    body: &[u8],
    max_bytes: usize,
) -> Result<(TaskMeta, Option<Duration>)> {
    let meta = record::decode(None, body, max_bytes)?;
    let life = properties.expiration().as_ref().and_then(|text| text.as_str().parse().ok()).map(Duration::from_millis);
    Ok((meta, life))
}
