//! `Serialize` for [`Value`].

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};

use super::tag::{TYPE_KEY, TaggedText, VALUE_KEY, tagged};
use super::{Map, Value};

/// Name of the newtype struct by which an integer above 128 bits is serialized: its digits as text.
///
/// A format with unbounded integers, such as JSON, writes the digits bare; any other writes the text.
#[doc(hidden)]
pub const BIG_INT_TOKEN: &str = "$celeriac::BigInt";

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::UInt(value) => serializer.serialize_u64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Str(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(map) => map.serialize(serializer),
            Self::BigInt(number) => match (number.to_i128(), number.to_u128()) {
                (Some(number), _) => serializer.serialize_i128(number),
                (_, Some(number)) => serializer.serialize_u128(number),
                _ => serializer.serialize_newtype_struct(BIG_INT_TOKEN, number.as_str()),
            },
            Self::DateTime(_) | Self::Date(_) | Self::Time(_) | Self::Decimal(_) | Self::Uuid(_) => {
                serialize_tagged(self, serializer)
            }
        }
    }
}

fn serialize_tagged<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    let Some((tag, text)) = tagged(value) else {
        return serializer.serialize_unit();
    };
    let mut object = serializer.serialize_struct("Tagged", 2)?;
    object.serialize_field(TYPE_KEY, tag)?;
    match text {
        TaggedText::Plain(text) => object.serialize_field(VALUE_KEY, text)?,
        TaggedText::Hex(hex) => object.serialize_field(VALUE_KEY, &Hex(&hex))?,
    }
    object.end()
}

struct Hex<'a>(&'a str);

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Hex", 1)?;
        object.serialize_field("hex", self.0)?;
        object.end()
    }
}

impl Serialize for Map {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
