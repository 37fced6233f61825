//! kombu's JSON: plain JSON plus tagged objects, NaN and the infinities, and integers of any size.

#[cfg(feature = "json")]
mod parse;
#[cfg(feature = "json")]
mod scan;
pub(crate) mod write;

#[cfg(feature = "json")]
pub use format::Json;

#[cfg(feature = "json")]
mod format {
    use std::borrow::Cow;

    use celeriac_core::value::ValueDeserializer;
    use celeriac_core::{ContentType, Result, Value};
    use serde::Serialize as _;

    use super::write::{Flavour, Writer, push_str};
    use super::{parse, scan};
    use crate::body::{Body, split_parts};
    use crate::error::{malformed, unencodable};
    use crate::serializer::{ContentEncoding, Entry, Serializer, Visit};

    /// JSON as kombu writes and reads it, so that Python and Rust see the same values.
    ///
    /// Bytes travel as tagged objects, `u128` and [`BigInt`](celeriac_core::value::BigInt) as bare integers, NaN and the
    /// infinities as bare words; map keys that are numbers, bools or null become text.
    ///
    /// Typed decoding reads straight from the bytes. Only a body with tagged objects, long integers, or what plain JSON
    /// does not know goes by way of [`Value`]; a `Vec<u8>`, a `Uuid` or a `String` then takes Python's bytes, UUIDs and
    /// dates.
    ///
    /// # Wire format
    /// `kombu/utils/json.py`, kombu 5.7. Lone surrogates, which Rust's strings cannot hold, are read as U+FFFD.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Json;

    const NAME: &str = "json";

    impl Serializer for Json {
        fn name(&self) -> &str {
            NAME
        }

        fn content_type(&self) -> ContentType {
            ContentType::JSON
        }

        fn content_encoding(&self) -> ContentEncoding {
            ContentEncoding::Utf8
        }

        fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut Vec<u8>) -> Result<()> {
            value.serialize(&mut Writer::new(out, Flavour::Json)).map_err(|error| unencodable(NAME, error))
        }

        fn encode_value(&self, value: &Value, out: &mut Vec<u8>) -> Result<()> {
            value.serialize(&mut Writer::new(out, Flavour::Json)).map_err(|error| unencodable(NAME, error))
        }

        fn decode(&self, data: &[u8], visit: Visit<'_>) -> Result<()> {
            let mut first = None;
            if !is_extended(data) {
                let mut source = serde_json::Deserializer::from_slice(data);
                match visit(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut source)) {
                    Ok(()) => return source.end().map_err(|error| malformed(NAME, error)),
                    Err(error) => first = Some(error),
                }
            }
            let value = parse::value(data)?;
            visit(&mut <dyn erased_serde::Deserializer<'_>>::erase(ValueDeserializer::new(value)))
                // The first error knows the line and column.
                .map_err(|error| malformed(NAME, first.unwrap_or(error)))
        }

        fn is_plain_json(&self, data: &[u8]) -> bool {
            !is_extended(data)
        }

        fn decode_value(&self, data: &[u8]) -> Result<Value> {
            parse::value(data)
        }

        fn join_list(&self, items: &[&[u8]], out: &mut Vec<u8>) -> Result<()> {
            out.reserve(items.iter().map(|item| item.len() + 1).sum::<usize>() + 2);
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(item);
            }
            out.push(b']');
            Ok(())
        }

        fn join_map(&self, entries: &[(&str, &[u8])], out: &mut Vec<u8>) -> Result<()> {
            out.push(b'{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_str(out, key, Flavour::Json);
                out.push(b':');
                out.extend_from_slice(value);
            }
            out.push(b'}');
            Ok(())
        }

        fn split_list<'a>(&self, data: &'a [u8]) -> Result<Vec<Cow<'a, [u8]>>> {
            scan::list(data)
        }

        fn split_map<'a>(&self, data: &'a [u8]) -> Result<Vec<Entry<'a>>> {
            scan::map(data)
        }

        fn split_body<'a>(&self, data: &'a [u8]) -> Result<Body<'a>> {
            // What cannot be taken apart is gone through part by part, to tell what is wrong with it.
            scan::body(data).map_or_else(|| split_parts(self, data), Ok)
        }
    }

    /// Whether a reader of plain JSON might take the body for something else than kombu does, without an error.
    fn is_extended(data: &[u8]) -> bool {
        memchr::memmem::find(data, b"\"__type__\"").is_some() || has_long_number(data)
    }

    /// Whether 20 digits stand in a row: such an integer may not fit 64 bits.
    fn has_long_number(data: &[u8]) -> bool {
        const LONG: usize = 20;
        // A run of 20 touches every 20th byte, so the others need no look.
        data.iter().enumerate().skip(LONG - 1).step_by(LONG).any(|(index, byte)| {
            byte.is_ascii_digit() && {
                let (before, after) = data.split_at(index);
                let is_digit = |byte: &&u8| byte.is_ascii_digit();
                let before = before.iter().rev().take(LONG).take_while(is_digit).count();
                before + after.iter().take(LONG).take_while(is_digit).count() >= LONG
            }
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn long_numbers_are_seen_wherever_they_start() {
            for before in 0..45 {
                let text = |digits: usize| format!("{}{}]", " ".repeat(before), "1".repeat(digits));
                assert!(has_long_number(text(20).as_bytes()), "{before}");
                assert!(has_long_number(text(60).as_bytes()), "{before}");
                assert!(!has_long_number(text(19).as_bytes()), "{before}");
            }
        }
    }
}
