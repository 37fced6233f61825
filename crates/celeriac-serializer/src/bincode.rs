//! bincode: the smallest and fastest, between Celeriac's own peers.
//!
//! bincode says nothing of types, so every value starts with a byte that says what follows:
//!
//! | byte | what follows |
//! |---|---|
//! | 0 | a typed value, bincode's standard configuration |
//! | 1 | a value of any type, as msgpack |
//! | 2 | a list: count, then per item its length and bytes |
//! | 3 | a map: count, then per entry the key's and the value's length and bytes |
//!
//! Counts and lengths are LEB128. Items and values are such values again, so lists and maps can be joined and split
//! without knowing the types.

mod container;
mod guard;
mod read;

use std::borrow::Cow;

use celeriac_core::value::MAX_DEPTH;
use celeriac_core::{ContentType, Error, Map, Result, Value};

use self::container::{LIST, MAP, Parts, TYPED, VALUE, push_length};
use self::read::{VisitSeed, read};
use crate::Msgpack;
use crate::error::{DECODE, malformed, unencodable};
use crate::serializer::{ContentEncoding, Entry, Serializer, Visit, not_a};

/// bincode for typed values, with a form of its own for lists and maps of values already encoded.
///
/// For Celeriac's own peers: Python cannot read it. Both sides must agree on the types; types that need to be asked what
/// they are (`untagged`, `flatten`, `skip_serializing_if`, [`Value`] inside a struct) cannot be read back.
///
/// # Wire format
/// bincode 2.0.1, `config::standard()`, each value behind a byte that says what it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bincode;

const NAME: &str = "bincode";

impl Serializer for Bincode {
    fn name(&self) -> &str {
        NAME
    }

    fn content_type(&self) -> ContentType {
        ContentType::BINCODE
    }

    fn content_encoding(&self) -> ContentEncoding {
        ContentEncoding::Binary
    }

    fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut Vec<u8>) -> Result<()> {
        out.push(TYPED);
        bincode::serde::encode_into_std_write(value, out, bincode::config::standard())
            .map(drop)
            .map_err(|error| unencodable(NAME, error))
    }

    fn encode_value(&self, value: &Value, out: &mut Vec<u8>) -> Result<()> {
        out.push(VALUE);
        Msgpack.encode_value(value, out)
    }

    fn decode(&self, data: &[u8], visit: Visit<'_>) -> Result<()> {
        read(VisitSeed(visit), data, MAX_DEPTH).map_err(|error| malformed(NAME, error))
    }

    fn decode_value(&self, data: &[u8]) -> Result<Value> {
        decode_value(data, MAX_DEPTH)
    }

    fn join_list(&self, items: &[&[u8]], out: &mut Vec<u8>) -> Result<()> {
        out.push(LIST);
        push_length(out, items.len());
        for item in items {
            push_length(out, item.len());
            out.extend_from_slice(item);
        }
        Ok(())
    }

    fn join_map(&self, entries: &[(&str, &[u8])], out: &mut Vec<u8>) -> Result<()> {
        out.push(MAP);
        push_length(out, entries.len());
        for (key, value) in entries {
            push_length(out, key.len());
            out.extend_from_slice(key.as_bytes());
            push_length(out, value.len());
            out.extend_from_slice(value);
        }
        Ok(())
    }

    fn split_list<'a>(&self, data: &'a [u8]) -> Result<Vec<Cow<'a, [u8]>>> {
        match data.split_first() {
            Some((&LIST, rest)) => Ok(Parts::open(rest)?.list()?.into_iter().map(Cow::Borrowed).collect()),
            Some((&VALUE, rest)) => {
                let items = Msgpack.split_list(rest)?;
                Ok(items.into_iter().map(|item| Cow::Owned([&[VALUE], item.as_ref()].concat())).collect())
            }
            other => Err(unsplit("list", other.map(|(tag, _)| *tag))),
        }
    }

    fn split_map<'a>(&self, data: &'a [u8]) -> Result<Vec<Entry<'a>>> {
        match data.split_first() {
            Some((&MAP, rest)) => {
                let entries = Parts::open(rest)?.map()?;
                Ok(entries.into_iter().map(|(key, value)| (Cow::Borrowed(key), Cow::Borrowed(value))).collect())
            }
            Some((&VALUE, rest)) => {
                let entries = Msgpack.split_map(rest)?;
                Ok(entries
                    .into_iter()
                    .map(|(key, value)| (key, Cow::Owned([&[VALUE], value.as_ref()].concat())))
                    .collect())
            }
            other => Err(unsplit("map", other.map(|(tag, _)| *tag))),
        }
    }
}

fn unsplit(wanted: &str, tag: Option<u8>) -> Error {
    match tag {
        Some(TYPED) => {
            Error::unsupported(DECODE, format!("bincode: a typed value does not say whether it is a {wanted}"))
        }
        Some(LIST) => not_a(wanted, "a list"),
        Some(MAP) => not_a(wanted, "a map"),
        Some(tag) => malformed(NAME, format_args!("unknown form {tag}")),
        None => malformed(NAME, "no bytes"),
    }
}

fn decode_value(data: &[u8], depth: usize) -> Result<Value> {
    let deeper = || depth.checked_sub(1).ok_or_else(|| malformed(NAME, "nested too deep"));
    match data.split_first() {
        Some((&VALUE, rest)) => Msgpack.decode_value(rest),
        Some((&LIST, rest)) => {
            let depth = deeper()?;
            let items = Parts::open(rest)?.list()?;
            items.into_iter().map(|item| decode_value(item, depth)).collect::<Result<Vec<_>>>().map(Value::List)
        }
        Some((&MAP, rest)) => {
            let depth = deeper()?;
            let mut map = Map::new();
            for (key, value) in Parts::open(rest)?.map()? {
                map.insert(key, decode_value(value, depth)?);
            }
            Ok(Value::Map(map))
        }
        Some((&TYPED, _)) => Err(Error::unsupported(
            DECODE,
            "bincode: a typed value cannot be read without its type; encode it as a `Value` to have it readable",
        )),
        Some((tag, _)) => Err(malformed(NAME, format_args!("unknown form {tag}"))),
        None => Err(malformed(NAME, "no bytes")),
    }
}
