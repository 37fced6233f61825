//! Turns what msgpack does not hold into what it does: integers of more than 64 bits and unit structs.

use celeriac_core::value::{BIG_INT_TOKEN, TYPE_KEY, VALUE_KEY};
use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// A serializer, or a part of one, that passes everything else through to `S`.
pub(super) struct Narrow<S>(pub(super) S);

/// A value that meets a [`Narrow`] serializer.
struct Narrowed<'a, T: ?Sized>(&'a T);

impl<T: Serialize + ?Sized> Serialize for Narrowed<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Narrow(serializer))
    }
}

fn tagged<S: Serializer, T: Serialize + ?Sized>(serializer: S, digits: &T) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(2))?;
    map.serialize_entry(TYPE_KEY, "bigint")?;
    map.serialize_entry(VALUE_KEY, digits)?;
    map.end()
}

macro_rules! pass {
    ($($method:ident($($arg:ident: $type:ty),*);)*) => {$(
        fn $method(self, $($arg: $type),*) -> Result<S::Ok, S::Error> {
            self.0.$method($($arg),*)
        }
    )*};
}

macro_rules! pass_compound {
    ($($method:ident($($arg:ident: $type:ty),*) -> $part:ident;)*) => {$(
        fn $method(self, $($arg: $type),*) -> Result<Self::$part, S::Error> {
            self.0.$method($($arg),*).map(Narrow)
        }
    )*};
}

impl<S: Serializer> Serializer for Narrow<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Narrow<S::SerializeSeq>;
    type SerializeTuple = Narrow<S::SerializeTuple>;
    type SerializeTupleStruct = Narrow<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Narrow<S::SerializeTupleVariant>;
    type SerializeMap = Narrow<S::SerializeMap>;
    type SerializeStruct = Narrow<S::SerializeStruct>;
    type SerializeStructVariant = Narrow<S::SerializeStructVariant>;

    pass! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_f32(value: f32);
        serialize_f64(value: f64);
        serialize_char(value: char);
        serialize_str(value: &str);
        serialize_bytes(value: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    pass_compound! {
        serialize_seq(len: Option<usize>) -> SerializeSeq;
        serialize_tuple(len: usize) -> SerializeTuple;
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct;
        serialize_tuple_variant(
            name: &'static str,
            index: u32,
            variant: &'static str,
            len: usize
        ) -> SerializeTupleVariant;
        serialize_map(len: Option<usize>) -> SerializeMap;
        serialize_struct(name: &'static str, len: usize) -> SerializeStruct;
        serialize_struct_variant(
            name: &'static str,
            index: u32,
            variant: &'static str,
            len: usize
        ) -> SerializeStructVariant;
    }

    fn serialize_i128(self, value: i128) -> Result<S::Ok, S::Error> {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.0.serialize_i64(value),
            (_, Ok(value)) => self.0.serialize_u64(value),
            _ => tagged(self.0, &value.to_string()),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<S::Ok, S::Error> {
        match u64::try_from(value) {
            Ok(value) => self.0.serialize_u64(value),
            Err(_) => tagged(self.0, &value.to_string()),
        }
    }

    // Python reads the empty list that rmp-serde writes as a list, not as nothing.
    fn serialize_unit_struct(self, _name: &'static str) -> Result<S::Ok, S::Error> {
        self.0.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.serialize_some(&Narrowed(value))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        if name == BIG_INT_TOKEN {
            return tagged(self.0, value);
        }
        // Not as a newtype of that name: rmp-serde gives one name a meaning of its own.
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_variant(name, index, variant, &Narrowed(value))
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! pass_elements {
    ($($part:ident $method:ident;)*) => {$(
        impl<S: $part> $part for Narrow<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                self.0.$method(&Narrowed(value))
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.0.end()
            }
        }
    )*};
}

pass_elements! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

macro_rules! pass_fields {
    ($($part:ident)*) => {$(
        impl<S: $part> $part for Narrow<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), S::Error> {
                self.0.serialize_field(key, &Narrowed(value))
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.0.end()
            }
        }
    )*};
}

pass_fields!(SerializeStruct SerializeStructVariant);

impl<S: SerializeMap> SerializeMap for Narrow<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        self.0.serialize_key(&Narrowed(key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.0.serialize_value(&Narrowed(value))
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}
