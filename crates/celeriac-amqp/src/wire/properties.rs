//! Messages, and what RabbitMQ calls their properties.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use celeriac_core::{
    ContentType, DeliveryMode, Error, ErrorKind, Headers, Map, Message, Priority, Properties, Result, TaskId,
};
use lapin::BasicProperties;
use lapin::types::{FieldTable, ShortString};

use super::table::{field, header_name, short, value};

/// Stands for no content type at all.
///
/// COMPAT: of a task without a content type a Python worker dies, and the next one dies of the same message (celery 5.7,
/// `celery/worker/request.py`). One of a type that it does not accept it refuses.
const UNTYPED: &str = "application/x-untyped";

/// RabbitMQ refuses to keep time for longer: some 49 days (`rabbit_misc:check_expiry`).
pub(crate) const LONGEST_EXPIRATION: Duration = Duration::from_millis(0xffff_ffff);

/// The properties, headers among them, of a message.
///
/// Of [`Properties::extra`] only what AMQP has a place for is sent: `message_id`, `timestamp` (seconds since 1970), `type`, `user_id`, `app_id`
/// and `cluster_id`; and what was kept aside under the name of a property, if it is of its type. RabbitMQ refuses a `user_id` other than
/// that of the connection.
///
/// # Wire format
/// `basic.properties` as py-amqp 5.4 writes them, for headers see [`table`](super::table). Headers are sent in the order of their names: the
/// driver knows no other.
///
/// # Errors
/// [`ErrorKind::TooLarge`] naming the property or header that AMQP cannot hold: a text or a name of more than 255 bytes, an expiration of more
/// than 49 days, headers that nest too deep.
pub(crate) fn properties(message: &Message) -> Result<BasicProperties> {
    let Message { headers, properties, .. } = message;
    let mut out = BasicProperties::default()
        .with_headers(table_of(headers)?)
        .with_content_type(short("the content type", properties.content_type.as_deref().unwrap_or(UNTYPED))?);
    if let Some(encoding) = &properties.content_encoding {
        out = out.with_content_encoding(short("the content encoding", &**encoding)?);
    }
    if let Some(id) = &properties.correlation_id {
        out = out.with_correlation_id(short("the correlation id", id.as_str())?);
    }
    if let Some(queue) = &properties.reply_to {
        out = out.with_reply_to(short("the name of the reply queue", queue.as_str())?);
    }
    if let Some(mode) = properties.delivery_mode {
        out = out.with_delivery_mode(match mode {
            DeliveryMode::Transient => 1,
            DeliveryMode::Persistent => 2,
        });
    }
    if let Some(Priority(level)) = properties.priority {
        out = out.with_priority(level);
    }
    if let Some(expiration) = properties.expiration {
        if expiration > LONGEST_EXPIRATION {
            let why = "an expiration of more than 4294967295 ms, the most that RabbitMQ keeps";
            return Err(Error::new(ErrorKind::TooLarge, "encode message", why));
        }
        out = out.with_expiration(expiration.as_millis().to_string().into());
    }
    if properties.extra.is_empty() { Ok(out) } else { with_extra(out, properties) }
}

fn table_of(headers: &Headers) -> Result<FieldTable> {
    // Sorted at once, which is quicker than one by one.
    let mut fields = Vec::with_capacity(24);
    headers.visit(|name, value| fields.push(header_name(name).and_then(|name| Ok((name, field(value)?)))));
    Ok(fields.into_iter().collect::<Result<BTreeMap<_, _>>>()?.into())
}

fn with_extra(mut out: BasicProperties, properties: &Properties) -> Result<BasicProperties> {
    for (name, value) in &properties.extra {
        let text = || value.as_str().map(|text| short(&format!("the property `{name}`"), text)).transpose();
        let byte = || value.as_i64().and_then(|int| u8::try_from(int).ok());
        out = match name {
            "message_id" => set(out, text()?, BasicProperties::with_message_id),
            "timestamp" => set(out, value.as_u64(), BasicProperties::with_timestamp),
            "type" => set(out, text()?, BasicProperties::with_type),
            "user_id" => set(out, text()?, BasicProperties::with_user_id),
            "app_id" => set(out, text()?, BasicProperties::with_app_id),
            "cluster_id" => set(out, text()?, BasicProperties::with_cluster_id),
            // Kept aside because it could not be read, or not needed because there is a good one.
            "content_type" if properties.content_type.is_none() => {
                set(out, text()?, BasicProperties::with_content_type)
            }
            "content_encoding" if properties.content_encoding.is_none() => {
                set(out, text()?, BasicProperties::with_content_encoding)
            }
            "expiration" if properties.expiration.is_none() => set(out, text()?, BasicProperties::with_expiration),
            "delivery_mode" if properties.delivery_mode.is_none() => {
                set(out, byte(), BasicProperties::with_delivery_mode)
            }
            _ => out,
        };
    }
    Ok(out)
}

fn set<T>(
    out: BasicProperties,
    value: Option<T>,
    with: impl FnOnce(BasicProperties, T) -> BasicProperties,
) -> BasicProperties {
    match value {
        Some(value) => with(out, value),
        None => out,
    }
}

/// The message that came with these properties.
///
/// Never fails: a header of the wrong type is kept as it came and told by [`Headers::malformed`], a property of the wrong form stands in
/// [`Properties::extra`], as do the properties that celeriac has no field for.
pub(crate) fn message(properties: &BasicProperties, body: Vec<u8>) -> Message {
    let headers = properties.headers().as_ref().map(headers).unwrap_or_default();
    let id = headers.task().map(|task| &task.id);
    Message { properties: read(properties, id), headers, body: body.into() }
}

fn headers(table: &FieldTable) -> Headers {
    let mut headers = Headers::reader();
    for (name, field) in table {
        headers.put(name.as_str(), value(field));
    }
    headers.finish()
}

fn read(came: &BasicProperties, id: Option<&TaskId>) -> Properties {
    let mut read = Properties { priority: came.priority().map(Priority), ..Properties::default() };
    let extra = &mut read.extra;
    let content_type = came.content_type().as_ref().filter(|text| text.as_str() != UNTYPED);
    read.content_type = take(extra, "content_type", content_type, self::content_type);
    read.content_encoding = take(extra, "content_encoding", came.content_encoding().as_ref(), encoding);
    read.correlation_id = take(extra, "correlation_id", came.correlation_id().as_ref(), |text| match id {
        Some(id) if id.as_str() == text => Some(id.into()),
        _ => text.parse().ok(),
    });
    read.reply_to = take(extra, "reply_to", came.reply_to().as_ref(), |text| text.parse().ok());
    read.expiration =
        take(extra, "expiration", came.expiration().as_ref(), |text| text.parse().ok().map(Duration::from_millis));
    read.delivery_mode = match came.delivery_mode() {
        None => None,
        Some(1) => Some(DeliveryMode::Transient),
        Some(2) => Some(DeliveryMode::Persistent),
        Some(other) => {
            extra.insert("delivery_mode", *other);
            None
        }
    };
    let texts = [
        ("message_id", came.message_id()),
        ("type", came.kind()),
        ("user_id", came.user_id()),
        ("app_id", came.app_id()),
        ("cluster_id", came.cluster_id()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            extra.insert(name, text.as_str());
        }
    }
    if let Some(seconds) = came.timestamp() {
        extra.insert("timestamp", *seconds);
    }
    read
}

/// Reads one property; a text that makes no sense is kept aside.
fn take<T>(extra: &mut Map, name: &str, text: Option<&ShortString>, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let text = text?.as_str();
    let read = read(text);
    if read.is_none() {
        extra.insert(name, text);
    }
    read
}

/// The usual two need no memory of their own.
fn content_type(text: &str) -> Option<ContentType> {
    match text {
        "application/json" => Some(ContentType::JSON),
        "application/x-msgpack" => Some(ContentType::MSGPACK),
        other => other.parse().ok(),
    }
}

fn encoding(text: &str) -> Option<Cow<'static, str>> {
    Some(match text {
        "utf-8" => Cow::Borrowed("utf-8"),
        "binary" => Cow::Borrowed("binary"),
        other => Cow::Owned(other.to_owned()),
    })
}
