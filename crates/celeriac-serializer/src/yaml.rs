//! YAML: written in flow style, which JSON is but for a few scalars; read in any style.

mod depth;

use std::borrow::Cow;

use celeriac_core::value::ValueDeserializer;
use celeriac_core::{ContentType, Result, Value};
use serde::Serialize as _;

use crate::error::{malformed, unencodable};
use crate::json::write::{Flavour, Writer, push_str};
use crate::serializer::{ContentEncoding, Serializer, Visit};

/// YAML that Python's `safe_load` reads, and that reads what `safe_dump` writes.
///
/// Texts are always quoted, so that none turns into a date or a bool on the way. What YAML lacks travels as the tagged maps
/// of kombu's JSON, which Python sees as plain dicts. Python's dates and `!!binary` are read as text.
/// A [`Value`] is read up to 64 levels deep. Flow collections nested deeper than 128 are refused before they are parsed, and so are other large
/// texts with so many brackets that parsing them might take minutes.
///
/// # Wire format
/// `yaml.safe_dump` and `yaml.safe_load`, PyYAML 6.
#[derive(Clone, Copy, Debug, Default)]
pub struct Yaml;

const NAME: &str = "yaml";

impl Serializer for Yaml {
    fn name(&self) -> &str {
        NAME
    }

    fn content_type(&self) -> ContentType {
        ContentType::YAML
    }

    fn content_encoding(&self) -> ContentEncoding {
        ContentEncoding::Utf8
    }

    fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut Vec<u8>) -> Result<()> {
        value.serialize(&mut Writer::new(out, Flavour::Yaml)).map_err(|error| unencodable(NAME, error))
    }

    fn decode(&self, data: &[u8], visit: Visit<'_>) -> Result<()> {
        depth::check(data)?;
        let mut first = None;
        if memchr::memmem::find(data, b"__type__").is_none() {
            let source = serde_yaml_ng::Deserializer::from_slice(data);
            match visit(&mut <dyn erased_serde::Deserializer<'_>>::erase(source)) {
                Ok(()) => return Ok(()),
                Err(error) => first = Some(error),
            }
        }
        let value = self.decode_value(data)?;
        visit(&mut <dyn erased_serde::Deserializer<'_>>::erase(ValueDeserializer::new(value)))
            .map_err(|error| malformed(NAME, first.unwrap_or(error)))
    }

    fn decode_value(&self, data: &[u8]) -> Result<Value> {
        depth::check(data)?;
        serde_yaml_ng::from_slice(data).map_err(|error| malformed(NAME, error))
    }

    fn join_list(&self, items: &[&[u8]], out: &mut Vec<u8>) -> Result<()> {
        out.push(b'[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(&self.flow(item)?);
        }
        out.push(b']');
        Ok(())
    }

    fn join_map(&self, entries: &[(&str, &[u8])], out: &mut Vec<u8>) -> Result<()> {
        out.push(b'{');
        for (index, (key, value)) in entries.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            // Announced by `?`, a key may have any length.
            out.extend_from_slice(b"? ");
            push_str(out, key, Flavour::Yaml);
            out.extend_from_slice(b" : ");
            out.extend_from_slice(&self.flow(value)?);
        }
        out.push(b'}');
        Ok(())
    }
}

impl Yaml {
    /// The value in flow style: as it is if this crate wrote it, else rewritten.
    fn flow<'a>(&self, data: &'a [u8]) -> Result<Cow<'a, [u8]>> {
        // All on one line and opened by a bracket or quote, or a plain word: then it was written here, or is as good.
        let is_flow = match data.first() {
            Some(b'[' | b'{' | b'"') => !data.contains(&b'\n') && !data.contains(&b'#'),
            Some(_) => {
                data.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-'))
                    && data != b"-"
            }
            None => false,
        };
        if is_flow {
            return Ok(Cow::Borrowed(data));
        }
        let mut out = Vec::new();
        self.encode_value(&self.decode_value(data)?, &mut out)?;
        Ok(Cow::Owned(out))
    }
}
