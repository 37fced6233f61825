//! Any `Serialize` type as a [`Value`].

use serde::ser::{
    Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::ser::BIG_INT_TOKEN;
use super::tag::{is_tagged, untag};
use super::{BigInt, MAX_DEPTH, Map, Value, ValueError};
use crate::error::Result;

/// Turns `value` into a [`Value`].
///
/// Structs and maps become maps, tuples become lists, enum variants take serde's usual form (`"Name"` or `{"Name": …}`).
/// Map keys must be text, numbers, bools or null; all become text.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if a map has other keys, if it nests deeper than
/// [`MAX_DEPTH`], or if the type's own `Serialize` fails.
///
/// # Examples
/// ```
/// use celeriac_core::value::to_value;
///
/// let value = to_value(&(1, "x"))?;
/// assert_eq!(value.at(1).and_then(|text| text.as_str()), Some("x"));
/// # Ok::<(), celeriac_core::Error>(())
/// ```
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value> {
    value.serialize(ToValue { depth: MAX_DEPTH }).map_err(|error| error.into_unsupported("encode value"))
}

#[derive(Clone, Copy)]
struct ToValue {
    depth: usize,
}

type Outcome<T = Value> = std::result::Result<T, ValueError>;

impl ToValue {
    fn deeper(self) -> Outcome<Self> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth }),
            None => Err(ValueError::custom(format_args!("nested deeper than {MAX_DEPTH} levels"))),
        }
    }

    fn list(self, len: usize, variant: Option<&'static str>) -> Outcome<ListBuilder> {
        // The length is the type's word: believe it only so far.
        Ok(ListBuilder { items: Vec::with_capacity(len.min(1024)), variant, inner: self.deeper()? })
    }

    fn map(self, len: usize, variant: Option<&'static str>) -> Outcome<MapBuilder> {
        Ok(MapBuilder { map: Map::with_capacity(len.min(1024)), key: None, variant, inner: self.deeper()? })
    }
}

macro_rules! from_scalar {
    ($($method:ident $type:ty;)*) => {$(
        fn $method(self, value: $type) -> Outcome {
            Ok(Value::from(value))
        }
    )*};
}

impl Serializer for ToValue {
    type Ok = Value;
    type Error = ValueError;
    type SerializeSeq = ListBuilder;
    type SerializeTuple = ListBuilder;
    type SerializeTupleStruct = ListBuilder;
    type SerializeTupleVariant = ListBuilder;
    type SerializeMap = MapBuilder;
    type SerializeStruct = MapBuilder;
    type SerializeStructVariant = MapBuilder;

    from_scalar! {
        serialize_bool bool;
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_i128 i128;
        serialize_u8 u8;
        serialize_u16 u16;
        serialize_u32 u32;
        serialize_u64 u64;
        serialize_u128 u128;
        serialize_f32 f32;
        serialize_f64 f64;
        serialize_str &str;
        serialize_bytes &[u8];
    }

    fn serialize_char(self, value: char) -> Outcome {
        Ok(Value::Str(value.to_string()))
    }

    fn serialize_none(self) -> Outcome {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Outcome {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Outcome {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Outcome {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Outcome {
        Ok(Value::from(variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Outcome {
        let inner = value.serialize(self.deeper()?)?;
        match inner {
            Value::Str(digits) if name == BIG_INT_TOKEN => {
                BigInt::new(&digits).map(Value::from).map_err(|error| ValueError::custom(error.message()))
            }
            inner => Ok(inner),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Outcome {
        let inner = value.serialize(self.deeper()?)?;
        Ok(wrap(Some(variant), inner))
    }

    fn serialize_seq(self, len: Option<usize>) -> Outcome<ListBuilder> {
        self.list(len.unwrap_or(0), None)
    }

    fn serialize_tuple(self, len: usize) -> Outcome<ListBuilder> {
        self.list(len, None)
    }

    fn serialize_tuple_struct(self, _name: &'static str, len: usize) -> Outcome<ListBuilder> {
        self.list(len, None)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Outcome<ListBuilder> {
        self.list(len, Some(variant))
    }

    fn serialize_map(self, len: Option<usize>) -> Outcome<MapBuilder> {
        self.map(len.unwrap_or(0), None)
    }

    fn serialize_struct(self, _name: &'static str, len: usize) -> Outcome<MapBuilder> {
        self.map(len, None)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Outcome<MapBuilder> {
        self.map(len, Some(variant))
    }
}

/// A variant's content under its name.
fn wrap(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        Some(variant) => Value::Map([(variant, value)].into_iter().collect()),
        None => value,
    }
}

struct ListBuilder {
    items: Vec<Value>,
    variant: Option<&'static str>,
    inner: ToValue,
}

macro_rules! list_parts {
    ($($part:ident $method:ident;)*) => {$(
        impl $part for ListBuilder {
            type Ok = Value;
            type Error = ValueError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Outcome<()> {
                self.items.push(value.serialize(self.inner)?);
                Ok(())
            }

            fn end(self) -> Outcome {
                Ok(wrap(self.variant, Value::List(self.items)))
            }
        }
    )*};
}

list_parts! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

struct MapBuilder {
    map: Map,
    key: Option<String>,
    variant: Option<&'static str>,
    inner: ToValue,
}

impl MapBuilder {
    fn finish(self) -> Outcome {
        let value = if is_tagged(&self.map) {
            // A tag that Celery does not know is the user's own data.
            untag(self.map.clone()).unwrap_or(Value::Map(self.map))
        } else {
            Value::Map(self.map)
        };
        Ok(wrap(self.variant, value))
    }
}

impl SerializeMap for MapBuilder {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Outcome<()> {
        self.key = Some(key.serialize(KeyText)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Outcome<()> {
        let key = self.key.take().ok_or_else(|| ValueError::custom("a map's value without its key"))?;
        self.map.insert(key, value.serialize(self.inner)?);
        Ok(())
    }

    fn end(self) -> Outcome {
        self.finish()
    }
}

macro_rules! struct_parts {
    ($($part:ident)*) => {$(
        impl $part for MapBuilder {
            type Ok = Value;
            type Error = ValueError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Outcome<()> {
                self.map.insert(key, value.serialize(self.inner)?);
                Ok(())
            }

            fn end(self) -> Outcome {
                self.finish()
            }
        }
    )*};
}

struct_parts!(SerializeStruct SerializeStructVariant);

/// A map's key as the text Python's JSON makes of it.
struct KeyText;

impl KeyText {
    fn refuse<T>(what: &str) -> Outcome<T> {
        Err(ValueError::custom(format_args!("a map's key is {what}; keys are text, numbers, bools or null")))
    }
}

macro_rules! key_text {
    ($($method:ident $type:ty;)*) => {$(
        fn $method(self, value: $type) -> Outcome<String> {
            Ok(value.to_string())
        }
    )*};
}

impl Serializer for KeyText {
    type Ok = String;
    type Error = ValueError;
    type SerializeSeq = Impossible<String, ValueError>;
    type SerializeTuple = Impossible<String, ValueError>;
    type SerializeTupleStruct = Impossible<String, ValueError>;
    type SerializeTupleVariant = Impossible<String, ValueError>;
    type SerializeMap = Impossible<String, ValueError>;
    type SerializeStruct = Impossible<String, ValueError>;
    type SerializeStructVariant = Impossible<String, ValueError>;

    key_text! {
        serialize_bool bool;
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_i128 i128;
        serialize_u8 u8;
        serialize_u16 u16;
        serialize_u32 u32;
        serialize_u64 u64;
        serialize_u128 u128;
        serialize_char char;
        serialize_str &str;
    }

    fn serialize_f32(self, value: f32) -> Outcome<String> {
        self.serialize_f64(f64::from(value))
    }

    fn serialize_f64(self, value: f64) -> Outcome<String> {
        let mut text = String::new();
        crate::repr::push_float(&mut text, value);
        Ok(text)
    }

    fn serialize_bytes(self, _value: &[u8]) -> Outcome<String> {
        Self::refuse("bytes")
    }

    fn serialize_none(self) -> Outcome<String> {
        Ok("null".to_owned())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Outcome<String> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Outcome<String> {
        Ok("null".to_owned())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Outcome<String> {
        Ok("null".to_owned())
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Outcome<String> {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Outcome<String> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Outcome<String> {
        Self::refuse("an enum variant with content")
    }

    fn serialize_seq(self, _len: Option<usize>) -> Outcome<Self::SerializeSeq> {
        Self::refuse("a list")
    }

    fn serialize_tuple(self, _len: usize) -> Outcome<Self::SerializeTuple> {
        Self::refuse("a tuple")
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Outcome<Self::SerializeTupleStruct> {
        Self::refuse("a tuple")
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Outcome<Self::SerializeTupleVariant> {
        Self::refuse("an enum variant with content")
    }

    fn serialize_map(self, _len: Option<usize>) -> Outcome<Self::SerializeMap> {
        Self::refuse("a map")
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Outcome<Self::SerializeStruct> {
        Self::refuse("a struct")
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Outcome<Self::SerializeStructVariant> {
        Self::refuse("an enum variant with content")
    }
}
