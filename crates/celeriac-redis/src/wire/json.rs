//! JSON at the speed of copying: read without building values, written without describing them.
//!
//! Whatever is more than a text, a small integer, a bool or null goes to and comes from `celeriac_serializer::Json`, which knows kombu's
//! JSON.

mod read;
mod write;

pub(super) use read::{Object, Raw, Reader, Wrong};
pub(crate) use write::{push_base64, push_text};
pub(super) use write::{push_int, push_map, push_text_or_null, push_value};
