//! Reading an envelope: the hot path of working.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use celeriac_core::{
    ContentType, CorrelationId, DeliveryMode, ExchangeName, Message, Priority, Properties, RoutingKey, TaskId,
};

use super::{Envelope, Stamp, UNTYPED, Unreadable, headers};
use crate::wire::json::{Object, Raw, Reader, Wrong};

/// Padding may lack, as unused bits may be set: other languages write so.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Reads an envelope.
///
/// Forgiving: what is missing counts as absent, and what is of the wrong type is kept aside where messages keep such things. A body that
/// is not in the encoding it claims stays as it is, for its task is known and can be failed.
///
/// # Wire format
/// `kombu/transport/virtual/base.py::Message` (kombu 5.7). The `delivery_tag` is passed over: it is no part of the message.
///
/// # Errors
/// If the data is no JSON object, or one that has neither a body nor headers nor properties.
pub(crate) fn decode(data: &[u8]) -> Result<Envelope, Unreadable> {
    let parts = Parts::read(data).map_err(|reason| Unreadable { reason })?;
    Ok(parts.into_envelope())
}

/// An envelope, key by key.
#[derive(Default)]
struct Parts<'a> {
    body: Option<Raw<'a>>,
    content_encoding: Option<Raw<'a>>,
    content_type: Option<Raw<'a>>,
    headers: Option<headers::Read>,
    properties: Option<Read>,
    stamp: Option<Stamp>,
}

impl<'a> Parts<'a> {
    fn read(data: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(data).map_err(|error| error.to_string())?;
        let mut reader = Reader::new(text);
        let mut object = reader.object().ok_or("no JSON object")?;
        let parts = Self::fields(&mut reader, &mut object).map_err(|wrong| wrong.to_string())?;
        if parts.body.is_none() && parts.headers.is_none() && parts.properties.is_none() {
            return Err("an object without body, headers and properties".to_owned());
        }
        Ok(parts)
    }

    fn fields(reader: &mut Reader<'a>, object: &mut Object) -> Result<Self, Wrong> {
        let mut parts = Self::default();
        while let Some(key) = object.next(reader)? {
            match &*key.text {
                "body" => parts.body = Some(reader.value()?),
                "content-encoding" => parts.content_encoding = Some(reader.value()?),
                "content-type" => {
                    parts.content_type = Some(reader.value()?).filter(|value| value.as_text() != Some(UNTYPED));
                }
                "headers" => parts.headers = Some(headers::read(reader)?),
                "properties" => {
                    let task = parts.headers.as_ref().and_then(|read| read.headers.task());
                    parts.properties = Some(Read::properties(reader, task.map(|task| &task.id))?);
                }
                "celeriac" => parts.stamp = stamp(&reader.value()?),
                _ => drop(reader.value()?),
            }
        }
        reader.end()?;
        Ok(parts)
    }

    fn into_envelope(self) -> Envelope {
        let head = self.headers.unwrap_or_default();
        let Read { mut properties, is_base64, exchange, routing_key, redelivered } =
            self.properties.unwrap_or_default();
        for (name, value) in [("content_type", self.content_type), ("content_encoding", self.content_encoding)] {
            if let Some(value) = value {
                put(&mut properties, Cow::Borrowed(name), value, None);
            }
        }
        Envelope {
            message: Message { headers: head.headers, properties, body: body(self.body, is_base64) },
            exchange,
            routing_key,
            redelivered: head.redelivered || redelivered || self.stamp.is_some_and(|stamp| stamp.deliveries > 0),
            stamp: self.stamp,
        }
    }
}

/// What stands in `properties`.
struct Read {
    properties: Properties,
    is_base64: bool,
    exchange: ExchangeName,
    routing_key: Option<RoutingKey>,
    redelivered: bool,
}

impl Default for Read {
    fn default() -> Self {
        Self {
            properties: Properties::default(),
            is_base64: false,
            exchange: ExchangeName::DEFAULT,
            routing_key: None,
            redelivered: false,
        }
    }
}

impl Read {
    /// Reads a table of properties of the task `id`; anything else is passed, and counts as an empty one.
    fn properties(reader: &mut Reader<'_>, id: Option<&TaskId>) -> Result<Self, Wrong> {
        let mut read = Self::default();
        let Some(mut object) = reader.object() else {
            reader.value()?;
            return Ok(read);
        };
        while let Some(key) = object.next(reader)? {
            match &*key.text {
                "delivery_info" => read.delivery_info(reader)?,
                "delivery_tag" => drop(reader.value()?),
                "body_encoding" => {
                    let encoding = reader.value()?;
                    read.is_base64 = encoding.as_text().is_some_and(|encoding| encoding.eq_ignore_ascii_case("base64"));
                }
                _ => put(&mut read.properties, key.text, reader.value()?, id),
            }
        }
        Ok(read)
    }

    fn delivery_info(&mut self, reader: &mut Reader<'_>) -> Result<(), Wrong> {
        let Some(mut object) = reader.object() else { return reader.value().map(drop) };
        while let Some(key) = object.next(reader)? {
            let value = reader.value()?;
            let text = value.as_text();
            match &*key.text {
                "exchange" => {
                    let named = text.filter(|text| !text.is_empty()).and_then(|text| text.parse().ok());
                    self.exchange = named.unwrap_or(ExchangeName::DEFAULT);
                }
                "routing_key" => self.routing_key = text.and_then(|text| text.parse().ok()),
                "redelivered" => self.redelivered = value == Raw::Bool(true),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Puts one property in its place; what does not fit there goes to the others, as [`Properties::from_map`] has it.
fn put(properties: &mut Properties, name: Cow<'_, str>, value: Raw<'_>, id: Option<&TaskId>) {
    let text = value.as_text();
    let taken = match &*name {
        "content_type" => text.and_then(content_type).map(|it| properties.content_type = Some(it)),
        "content_encoding" => text.map(|text| {
            properties.content_encoding = Some(match text {
                "utf-8" => Cow::Borrowed("utf-8"),
                "binary" => Cow::Borrowed("binary"),
                other => Cow::Owned(other.to_owned()),
            });
        }),
        "correlation_id" => {
            let same = id.filter(|id| Some(id.as_str()) == text).map(CorrelationId::from);
            same.or_else(|| text?.parse().ok()).map(|id| properties.correlation_id = Some(id))
        }
        "reply_to" => text.and_then(|text| text.parse().ok()).map(|queue| properties.reply_to = Some(queue)),
        "delivery_mode" => match value {
            Raw::Int(1) => Some(DeliveryMode::Transient),
            Raw::Int(2) => Some(DeliveryMode::Persistent),
            _ => None,
        }
        .map(|mode| properties.delivery_mode = Some(mode)),
        "priority" => value
            .as_int()
            .and_then(|level| u8::try_from(level).ok())
            .map(|level| properties.priority = Some(Priority(level))),
        "expiration" => text
            .and_then(|text| text.parse().ok())
            .map(|millis| properties.expiration = Some(Duration::from_millis(millis))),
        _ => {
            properties.extra.insert(name, value.into_value());
            return;
        }
    };
    if taken.is_none() && value != Raw::Null {
        properties.extra.insert(name, value.into_value());
    }
}

fn content_type(text: &str) -> Option<ContentType> {
    match text {
        "application/json" => Some(ContentType::JSON),
        "application/x-msgpack" => Some(ContentType::MSGPACK),
        other => other.parse().ok(),
    }
}

fn body(value: Option<Raw<'_>>, is_base64: bool) -> Bytes {
    match value {
        None | Some(Raw::Null) => Bytes::new(),
        Some(Raw::Text(text)) if is_base64 => base64(&text).map_or_else(|| text.into_owned().into(), Bytes::from),
        Some(Raw::Text(text)) => text.into_owned().into(),
        Some(Raw::Bool(bool)) => bool.to_string().into(),
        Some(Raw::Int(int)) => int.to_string().into(),
        // A body that was put there as it is, by hand.
        Some(Raw::Other(raw)) => raw.to_owned().into(),
    }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok().or_else(|| {
        // Broken into lines, as for a mail; Python skips such breaks.
        let whole: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        BASE64.decode(whole).ok()
    })
}

fn stamp(value: &Raw<'_>) -> Option<Stamp> {
    let (order, deliveries) = value.as_other()?.strip_prefix('[')?.strip_suffix(']')?.split_once(',')?;
    Some(Stamp { order: order.trim().parse().ok()?, deliveries: deliveries.trim().parse().ok()? })
}
