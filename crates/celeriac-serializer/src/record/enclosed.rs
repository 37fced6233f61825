//! A result in a format that no record is written in, such as bincode, within a record in JSON.
//!
//! It stands there as `{"__celeriac__": {"content_type": "...", "data": "<base64>"}}`. Python sees that object; Celeriac sees the result.

use std::io::Write as _;

use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use celeriac_core::Payload;

use crate::json::write::{Flavour, push_str};
use crate::{Json, Serializer as _, SerializerExt as _};

/// How such an object begins, to the letter: a result of the user's that begins so is enclosed too.
const START: &[u8] = b"{\"__celeriac__\": ";

pub(super) fn push(out: &mut Vec<u8>, payload: &Payload) {
    out.extend_from_slice(START);
    out.extend_from_slice(b"{\"content_type\": ");
    push_str(out, &payload.content_type, Flavour::Json);
    // Writing to a Vec cannot fail.
    let _ = write!(out, ", \"data\": \"{}\"}}}}", Base64Display::new(&payload.data, &STANDARD));
}

/// Whether bare JSON would be taken for an enclosed result.
pub(super) fn looks_so(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(START)
}

/// The result in an object that [`push`] wrote; `None` for any other value.
pub(super) fn read(json: &[u8]) -> Option<Payload> {
    if !looks_so(json) {
        return None;
    }
    let outer = Json.split_map(json).ok()?;
    let [(_, inner)] = outer.as_slice() else { return None };
    let inner = Json.split_map(inner).ok()?;
    let [(content_type, kind), (data, text)] = inner.as_slice() else { return None };
    if (&**content_type, &**data) != ("content_type", "data") {
        return None;
    }
    let text: String = Json.from_bytes(text).ok()?;
    Some(Payload { content_type: Json.from_bytes(kind).ok()?, data: STANDARD.decode(text).ok()?.into() })
}
