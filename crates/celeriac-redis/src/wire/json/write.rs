//! Appending to the bytes of an object.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use celeriac_core::{Map, Result, Value};
use celeriac_serializer::{Json, Serializer as _};

/// Appends a text, quoted. Other than Python does, only what must be escaped is.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    // No early end: so the compiler compares many bytes at a time.
    if text.bytes().fold(false, |found, byte| found | must_escape(byte)) {
        text.bytes().for_each(|byte| push_escaped(out, byte));
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
}

fn must_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        // Writing to a Vec cannot fail.
        0..0x20 => drop(write!(out, "\\u{byte:04x}")),
        _ => out.push(byte),
    }
}

pub(crate) fn push_text_or_null(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => push_text(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

pub(crate) fn push_int(out: &mut Vec<u8>, int: i64) {
    match u8::try_from(int) {
        Ok(digit @ 0..10) => out.push(b'0' + digit),
        // Writing to a Vec cannot fail.
        _ => drop(write!(out, "{int}")),
    }
}

/// Appends any value, in kombu's JSON.
pub(crate) fn push_value(out: &mut Vec<u8>, value: &Value) {
    whole(out, |out| Json.encode_value(value, out));
}

/// Appends a map, in kombu's JSON.
pub(crate) fn push_map(out: &mut Vec<u8>, map: &Map) {
    whole(out, |out| Json.encode(&map, out));
}

/// JSON holds every value; should it come to lack one, that is told to be none rather than to spoil the rest.
fn whole(out: &mut Vec<u8>, push: impl FnOnce(&mut Vec<u8>) -> Result<()>) {
    let start = out.len();
    if push(out).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// Appends base64, without quotes.
pub(crate) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    // The room is exact, and that it is too small the only error.
    let written = STANDARD.encode_slice(bytes, room).unwrap_or_default();
    debug_assert_eq!(written, room.len());
}
