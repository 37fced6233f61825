//! msgpack, with structs as maps, so that Python can read it.

mod narrow;
mod scan;

use std::borrow::Cow;

use celeriac_core::value::{MAX_DEPTH, ValueDeserializer};
use celeriac_core::{ContentType, Result, Value};
use serde::Serialize;

use self::narrow::Narrow;
use crate::error::{malformed, unencodable};
use crate::serializer::{ContentEncoding, Entry, Serializer, Visit};

/// msgpack as Celery uses it: text and bytes apart, structs and maps as maps.
///
/// Integers of more than 64 bits, dates, decimals and UUIDs are no part of msgpack: they travel as the tagged maps of
/// kombu's JSON, which Celeriac reads back and Python sees as plain dicts.
///
/// # Wire format
/// `msgpack.packb(use_bin_type=True)`, `kombu/serialization.py`, kombu 5.7.
#[derive(Clone, Copy, Debug, Default)]
pub struct Msgpack;

const NAME: &str = "msgpack";

fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<()> {
    // Human readable: ids and times as text, which is what a Python peer sends and reads.
    let mut target = rmp_serde::Serializer::new(out).with_struct_map().with_human_readable();
    value.serialize(Narrow(&mut target)).map_err(|error| unencodable(NAME, error))
}

impl Serializer for Msgpack {
    fn name(&self) -> &str {
        NAME
    }

    fn content_type(&self) -> ContentType {
        ContentType::MSGPACK
    }

    fn content_encoding(&self) -> ContentEncoding {
        ContentEncoding::Binary
    }

    fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut Vec<u8>) -> Result<()> {
        encode(value, out)
    }

    fn encode_value(&self, value: &Value, out: &mut Vec<u8>) -> Result<()> {
        encode(value, out)
    }

    fn decode(&self, data: &[u8], visit: Visit<'_>) -> Result<()> {
        // Refuses bytes after the value, and lengths that are not there.
        scan::whole(data)?;
        let mut first = None;
        if !may_be_tagged(data) {
            let mut source = rmp_serde::Deserializer::from_read_ref(data).with_human_readable();
            source.set_max_depth(MAX_DEPTH);
            match visit(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut source)) {
                Ok(()) => return Ok(()),
                Err(error) => first = Some(error),
            }
        }
        let value = read_value(data)?;
        visit(&mut <dyn erased_serde::Deserializer<'_>>::erase(ValueDeserializer::new(value)))
            .map_err(|error| malformed(NAME, first.unwrap_or(error)))
    }

    fn decode_value(&self, data: &[u8]) -> Result<Value> {
        scan::whole(data)?;
        read_value(data)
    }

    fn join_list(&self, items: &[&[u8]], out: &mut Vec<u8>) -> Result<()> {
        scan::push_header(out, items.len(), scan::LIST)?;
        for item in items {
            out.extend_from_slice(item);
        }
        Ok(())
    }

    fn join_map(&self, entries: &[(&str, &[u8])], out: &mut Vec<u8>) -> Result<()> {
        scan::push_header(out, entries.len(), scan::MAP)?;
        for (key, value) in entries {
            encode(*key, out)?;
            out.extend_from_slice(value);
        }
        Ok(())
    }

    fn split_list<'a>(&self, data: &'a [u8]) -> Result<Vec<Cow<'a, [u8]>>> {
        scan::list(data)
    }

    fn split_map<'a>(&self, data: &'a [u8]) -> Result<Vec<Entry<'a>>> {
        scan::map(data)
    }
}

fn may_be_tagged(data: &[u8]) -> bool {
    memchr::memmem::find(data, b"__type__").is_some()
}

fn read_value(data: &[u8]) -> Result<Value> {
    let mut source = rmp_serde::Deserializer::from_read_ref(data).with_human_readable();
    source.set_max_depth(MAX_DEPTH + 1);
    serde::Deserialize::deserialize(&mut source).map_err(|error| malformed(NAME, error))
}
