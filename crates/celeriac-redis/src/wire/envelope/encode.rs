//! Writing an envelope: the hot path of sending.

use celeriac_core::{DeliveryMode, HeaderValue, Message, Properties};
use uuid::Uuid;

use super::UNTYPED;
use crate::wire::json::{push_base64, push_int, push_map, push_text, push_text_or_null, push_value};

/// Properties that tell of the envelope, not of the message. Who reads an envelope takes them out, so no message brings them along but by
/// its sender's hand.
const OWN: [&str; 3] = ["body_encoding", "delivery_info", "delivery_tag"];

/// About what an envelope takes beside its body.
const ROOM: usize = 1024;

/// Appends the envelope of `message`, published to `exchange` with `routing_key`, under a fresh delivery tag.
///
/// # Wire format
/// `kombu/transport/virtual/base.py::Channel.prepare_message` and `basic_publish` (kombu 5.7), in that order of keys and with the
/// separators of Python's `json.dumps`. What the message does not say is left out, save `content-encoding`, which is null then, and
/// `content-type`: see [`UNTYPED`]. Texts are UTF-8, not ASCII with escapes.
pub(crate) fn encode(message: &Message, exchange: &str, routing_key: &str, out: &mut Vec<u8>) {
    let Message { headers, properties, body } = message;
    out.reserve(body.len().div_ceil(3) * 4 + ROOM);
    out.extend_from_slice(b"{\"body\": \"");
    push_base64(out, body);
    out.extend_from_slice(b"\", \"content-encoding\": ");
    push_text_or_null(out, properties.content_encoding.as_deref());
    out.extend_from_slice(b", \"content-type\": ");
    push_text(out, properties.content_type.as_deref().unwrap_or(UNTYPED));
    out.extend_from_slice(b", \"headers\": ");
    let mut before = "{";
    headers.visit(|name, value| {
        push_key(out, &mut before, name);
        push_header(out, value);
    });
    let end = if before == "{" { "{}" } else { "}" };
    out.extend_from_slice(end.as_bytes());
    out.extend_from_slice(b", \"properties\": ");
    push_properties(out, properties, exchange, routing_key);
    out.push(b'}');
}

/// Appends a key and what comes before it: the bracket, and from then on a comma.
fn push_key(out: &mut Vec<u8>, before: &mut &'static str, name: &str) {
    out.extend_from_slice(std::mem::replace(before, ", ").as_bytes());
    push_text(out, name);
    out.extend_from_slice(b": ");
}

fn push_header(out: &mut Vec<u8>, value: HeaderValue<'_>) {
    match value {
        HeaderValue::Null => out.extend_from_slice(b"null"),
        HeaderValue::Bool(true) => out.extend_from_slice(b"true"),
        HeaderValue::Bool(false) => out.extend_from_slice(b"false"),
        HeaderValue::Int(int) => push_int(out, int),
        HeaderValue::Str(text) => push_text(out, text),
        HeaderValue::Map(map) if map.is_empty() => out.extend_from_slice(b"{}"),
        HeaderValue::Map(map) => push_map(out, map),
        HeaderValue::Value(value) => push_value(out, value),
    }
}

fn push_properties(out: &mut Vec<u8>, properties: &Properties, exchange: &str, routing_key: &str) {
    let mut before = "{";
    if let Some(id) = &properties.correlation_id {
        push_key(out, &mut before, "correlation_id");
        push_text(out, id);
    }
    if let Some(queue) = &properties.reply_to {
        push_key(out, &mut before, "reply_to");
        push_text(out, queue);
    }
    if let Some(mode) = properties.delivery_mode {
        push_key(out, &mut before, "delivery_mode");
        out.push(if mode == DeliveryMode::Transient { b'1' } else { b'2' });
    }
    if let Some(expiration) = properties.expiration {
        push_key(out, &mut before, "expiration");
        push_text(out, &expiration.as_millis().to_string());
    }
    push_key(out, &mut before, "delivery_info");
    out.extend_from_slice(b"{\"exchange\": ");
    push_text(out, exchange);
    out.extend_from_slice(b", \"routing_key\": ");
    push_text(out, routing_key);
    out.push(b'}');
    if let Some(priority) = properties.priority {
        out.extend_from_slice(b", \"priority\": ");
        push_int(out, priority.0.into());
    }
    out.extend_from_slice(b", \"body_encoding\": \"base64\", \"delivery_tag\": \"");
    out.extend_from_slice(Uuid::new_v4().hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    out.push(b'"');
    for (name, value) in properties.extra.iter().filter(|(name, _)| !OWN.contains(name)) {
        push_key(out, &mut before, name);
        push_value(out, value);
    }
    out.push(b'}');
}
