//! Celery's tagged objects: `{"__type__": "uuid", "__value__": {"hex": …}}`.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::text::{BigInt, Date, DateTime, Decimal, Time, Uuid};
use super::{Map, Value};
use crate::error::{Error, Result};

/// The key of a tagged object that names its type.
pub const TYPE_KEY: &str = "__type__";
/// The key of a tagged object that holds its value.
pub const VALUE_KEY: &str = "__value__";

/// Celeriac's own tag for integers above 128 bits, in formats without such integers.
pub(super) const BIG_INT_TAG: &str = "bigint";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The tag of an extended value and what is written under it.
pub(super) fn tagged(value: &Value) -> Option<(&'static str, TaggedText<'_>)> {
    Some(match value {
        Value::DateTime(text) => ("datetime", TaggedText::Plain(text.as_str())),
        Value::Date(text) => ("date", TaggedText::Plain(text.as_str())),
        Value::Time(text) => ("time", TaggedText::Plain(text.as_str())),
        Value::Decimal(text) => ("decimal", TaggedText::Plain(text.as_str())),
        Value::BigInt(text) => (BIG_INT_TAG, TaggedText::Plain(text.as_str())),
        Value::Uuid(uuid) => ("uuid", TaggedText::Hex(uuid.to_hex())),
        _ => return None,
    })
}

/// What stands under `__value__`.
pub(super) enum TaggedText<'a> {
    Plain(&'a str),
    /// `{"hex": …}`
    Hex(String),
}

/// Whether the keys are exactly the two of a tagged object.
pub(super) fn is_tagged(map: &Map) -> bool {
    map.len() == 2 && map.contains_key(TYPE_KEY) && map.contains_key(VALUE_KEY)
}

/// Turns a tagged object into the value it stands for; any other map stays a map.
///
/// For readers of a format of their own; `Deserialize` of [`Value`] does it at every depth.
///
/// # Errors
/// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) naming an unknown tag, as in kombu, or what is wrong under a
/// known one.
pub fn untag(mut map: Map) -> Result<Value> {
    if !is_tagged(&map) {
        return Ok(Value::Map(map));
    }
    let tag = map.remove(TYPE_KEY).unwrap_or_default();
    let value = map.remove(VALUE_KEY).unwrap_or_default();
    let Value::Str(tag) = tag else {
        return Err(Error::malformed("decode value", format!("the tag `__type__` is a {}, not a text", tag.kind())));
    };
    match tag.as_str() {
        "datetime" => Ok(Value::DateTime(DateTime::new(text(&tag, value)?)?)),
        "date" => Ok(Value::Date(Date::new(date_part(&text(&tag, value)?))?)),
        "time" => Ok(Value::Time(Time::new(text(&tag, value)?)?)),
        "decimal" => Ok(Value::Decimal(Decimal::new(text(&tag, value)?)?)),
        "uuid" => uuid(value),
        "bytes" => Ok(Value::Bytes(text(&tag, value)?.into_bytes())),
        "base64" => base64(&text(&tag, value)?),
        BIG_INT_TAG => Ok(Value::from(BigInt::new(&text(&tag, value)?)?)),
        _ => {
            let shown: String = tag.chars().take(64).collect();
            Err(Error::malformed("decode value", format!("unknown tag `__type__`: `{shown}`")))
        }
    }
}

// kombu writes a date as `isoformat()` of a date, yet its reader goes through `datetime` and drops the time.
fn date_part(text: &str) -> &str {
    text.get(..10).filter(|_| text.as_bytes().get(10) == Some(&b'T')).unwrap_or(text)
}

fn text(tag: &str, value: Value) -> Result<String> {
    match value {
        Value::Str(text) => Ok(text),
        other => {
            Err(Error::malformed("decode value", format!("a {} is tagged `{tag}`, which takes a text", other.kind())))
        }
    }
}

fn uuid(value: Value) -> Result<Value> {
    let hex = match &value {
        Value::Map(map) => map.get("hex").and_then(Value::as_str),
        other => other.as_str(),
    };
    match hex {
        Some(hex) => Ok(Value::Uuid(Uuid::new(hex)?)),
        None => Err(Error::malformed("decode value", "a value tagged `uuid` has no `hex`")),
    }
}

fn base64(text: &str) -> Result<Value> {
    BASE64
        .decode(text)
        .map(Value::Bytes)
        .map_err(|error| Error::malformed("decode value", "a value tagged `base64` is not base64").with_source(error))
}
