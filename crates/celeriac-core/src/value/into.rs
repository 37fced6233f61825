//! A [`Value`] as the source of any `Deserialize` type.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer, StringDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::de::VALUE_TOKEN;
use super::tag::{TYPE_KEY, TaggedText, VALUE_KEY, tagged};
use super::{BigInt, IntoIter, Value};
use crate::error::Error;

/// What serde reports when a [`Value`] and a type do not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError(Box<str>);

impl ValueError {
    /// The same as an [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) of `operation`.
    #[must_use]
    pub fn into_malformed(self, operation: &'static str) -> Error {
        Error::malformed(operation, String::from(self.0))
    }

    pub(super) fn into_unsupported(self, operation: &'static str) -> Error {
        Error::unsupported(operation, String::from(self.0))
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ValueError {}

impl serde::de::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string().into())
    }
}

impl serde::ser::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string().into())
    }
}

/// Reads a [`Value`] as a serde format; see [`Value::deserialize_into`] for what fits what.
#[derive(Clone, Debug)]
pub struct ValueDeserializer {
    value: Value,
    /// Asked for by a [`Value`]: tagged objects keep the types of dates and the like.
    tagged: bool,
}

impl ValueDeserializer {
    /// Reads `value`.
    #[must_use]
    pub fn new(value: Value) -> Self {
        Self { value, tagged: false }
    }

    fn unexpected(&self, expected: &dyn serde::de::Expected) -> ValueError {
        let found = match &self.value {
            Value::Null => Unexpected::Unit,
            Value::Bool(value) => Unexpected::Bool(*value),
            Value::Int(value) => Unexpected::Signed(*value),
            Value::UInt(value) => Unexpected::Unsigned(*value),
            Value::Float(value) => Unexpected::Float(*value),
            Value::List(_) => Unexpected::Seq,
            Value::Map(_) => Unexpected::Map,
            // Contents that may be long or private are not shown.
            other => Unexpected::Other(other.kind()),
        };
        ValueError::invalid_type(found, expected)
    }
}

impl<'de> IntoDeserializer<'de, ValueError> for Value {
    type Deserializer = ValueDeserializer;

    fn into_deserializer(self) -> ValueDeserializer {
        ValueDeserializer::new(self)
    }
}

fn visit_tagged<'de, V: Visitor<'de>>(value: &Value, visitor: V) -> Result<V::Value, ValueError> {
    let Some((tag, text)) = tagged(value) else {
        return visitor.visit_unit();
    };
    let value = match text {
        TaggedText::Plain(text) => Value::from(text),
        TaggedText::Hex(hex) => Value::Map([("hex", hex)].into_iter().collect()),
    };
    visitor.visit_map(MapDeserializer::new([(TYPE_KEY, Value::from(tag)), (VALUE_KEY, value)].into_iter()))
}

fn visit_big<'de, V: Visitor<'de>>(number: &BigInt, visitor: V) -> Result<V::Value, ValueError> {
    match (number.to_i128(), number.to_u128()) {
        (Some(number), _) => visitor.visit_i128(number),
        (_, Some(number)) => visitor.visit_u128(number),
        _ => visitor.visit_str(number.as_str()),
    }
}

fn visit_list<'de, V: Visitor<'de>>(items: Vec<Value>, visitor: V) -> Result<V::Value, ValueError> {
    let mut access = SeqDeserializer::new(items.into_iter());
    let value = visitor.visit_seq(&mut access)?;
    access.end()?;
    Ok(value)
}

fn visit_entries<'de, V: Visitor<'de>>(entries: IntoIter, visitor: V) -> Result<V::Value, ValueError> {
    let mut access = MapDeserializer::new(entries.map(|(key, value)| (Key(key), value)));
    let value = visitor.visit_map(&mut access)?;
    access.end()?;
    Ok(value)
}

impl<'de> Deserializer<'de> for ValueDeserializer {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Int(value) => visitor.visit_i64(value),
            Value::UInt(value) => visitor.visit_u64(value),
            Value::Float(value) => visitor.visit_f64(value),
            Value::Str(text) => visitor.visit_string(text),
            Value::Bytes(bytes) => visitor.visit_byte_buf(bytes),
            Value::List(items) => visit_list(items, visitor),
            Value::Map(map) => visit_entries(map.into_iter(), visitor),
            extended if self.tagged => visit_tagged(&extended, visitor),
            Value::BigInt(number) => visit_big(&number, visitor),
            Value::DateTime(text) => visitor.visit_str(text.as_str()),
            Value::Date(text) => visitor.visit_str(text.as_str()),
            Value::Time(text) => visitor.visit_str(text.as_str()),
            Value::Decimal(text) => visitor.visit_str(text.as_str()),
            Value::Uuid(uuid) => visitor.visit_string(uuid.to_string()),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match (&self.value, self.value.as_f64()) {
            (Value::Decimal(text), _) => match text.as_str().parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => self.deserialize_any(visitor),
            },
            (_, Some(number)) => visitor.visit_f64(number),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.value {
            Value::BigInt(number) => visitor.visit_str(number.as_str()),
            Value::Bytes(bytes) => match String::from_utf8(bytes) {
                Ok(text) => visitor.visit_string(text),
                Err(error) => visitor.visit_byte_buf(error.into_bytes()),
            },
            value => Self { value, tagged: false }.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.value {
            Value::Uuid(uuid) => visitor.visit_bytes(uuid.as_bytes()),
            value => Self { value, tagged: false }.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.value {
            // `Vec<u8>` asks for a list of numbers.
            Value::Bytes(bytes) => {
                let mut access = SeqDeserializer::new(bytes.into_iter());
                let value = visitor.visit_seq(&mut access)?;
                access.end()?;
                Ok(value)
            }
            value => Self { value, tagged: false }.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            value => visitor.visit_some(Self { value, tagged: self.tagged }),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(Self { value: self.value, tagged: name == VALUE_TOKEN })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self.value {
            Value::Str(variant) => visitor.visit_enum(Variant { variant, value: None }),
            Value::Map(map) if map.len() == 1 => match map.into_iter().next() {
                Some((variant, value)) => visitor.visit_enum(Variant { variant, value: Some(value) }),
                None => Err(ValueError::custom("an enum's map is empty")),
            },
            value => Err(Self::new(value).unexpected(&"a text or a map of one entry")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char unit unit_struct map struct identifier
    }
}

/// A map's key: text, parsed where a number or bool is asked for, since JSON turns such keys into text.
struct Key(String);

impl<'de> IntoDeserializer<'de, ValueError> for Key {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed_keys {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            match self.0.parse::<$type>() {
                Ok(value) => visitor.$visit(value),
                Err(_) => visitor.visit_string(self.0),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Key {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_string(self.0)
    }

    parsed_keys! {
        deserialize_bool visit_bool bool;
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_i128 visit_i128 i128;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_u128 visit_u128 u128;
        deserialize_f32 visit_f32 f32;
        deserialize_f64 visit_f64 f64;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let key: StringDeserializer<ValueError> = self.0.into_deserializer();
        key.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Variant {
    variant: String,
    value: Option<Value>,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = ValueError;
    type Variant = Content;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content), ValueError> {
        let name: StrDeserializer<'_, ValueError> = self.variant.as_str().into_deserializer();
        Ok((seed.deserialize(name)?, Content(self.value)))
    }
}

struct Content(Option<Value>);

impl Content {
    fn into_value(self) -> Result<ValueDeserializer, ValueError> {
        let value = self.0.ok_or_else(|| ValueError::custom("an enum variant without the content it takes"))?;
        Ok(ValueDeserializer::new(value))
    }
}

impl<'de> VariantAccess<'de> for Content {
    type Error = ValueError;

    fn unit_variant(self) -> Result<(), ValueError> {
        match self.0 {
            None | Some(Value::Null) => Ok(()),
            Some(other) => Err(ValueDeserializer::new(other).unexpected(&"an enum variant without content")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ValueError> {
        seed.deserialize(self.into_value()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, ValueError> {
        self.into_value()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.into_value()?.deserialize_any(visitor)
    }
}
