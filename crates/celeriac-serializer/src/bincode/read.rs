//! Reads a value of any form into a type.

use std::fmt::Display;

use bincode::config::{Configuration, LittleEndian, Varint};
use celeriac_core::value::{ValueDeserializer, ValueError};
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::container::{LIST, MAP, Parts, TYPED, VALUE};
use super::guard::{Guard, Limits};
use crate::Msgpack;
use crate::serializer::{Serializer as _, Visit};

type Outcome<T> = Result<T, ValueError>;

fn wrong(error: impl Display) -> ValueError {
    ValueError::custom(error)
}

/// Hands the source to a visit.
pub(super) struct VisitSeed<'v>(pub(super) Visit<'v>);

impl<'de> DeserializeSeed<'de> for VisitSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        (self.0)(&mut <dyn erased_serde::Deserializer<'_>>::erase(deserializer)).map_err(D::Error::custom)
    }
}

pub(super) fn read<'de, S: DeserializeSeed<'de>>(seed: S, data: &'de [u8], depth: usize) -> Outcome<S::Value> {
    match data.split_first() {
        Some((&TYPED, rest)) => typed(seed, rest),
        Some((&VALUE, rest)) => {
            let value = Msgpack.decode_value(rest).map_err(|error| wrong(error.message()))?;
            seed.deserialize(ValueDeserializer::new(value))
        }
        Some((&form @ (LIST | MAP), rest)) => match depth.checked_sub(1) {
            Some(depth) => seed.deserialize(Container { form, rest, depth }),
            None => Err(wrong("nested too deep")),
        },
        Some((form, _)) => Err(wrong(format_args!("unknown form {form}"))),
        None => Err(wrong("no bytes")),
    }
}

fn typed<'de, S: DeserializeSeed<'de>>(seed: S, data: &'de [u8]) -> Outcome<S::Value> {
    // bincode counts a number at its full width, which is up to 16 times its bytes. The limit keeps a length that is not
    // there from being allocated, so it follows the data as far as its type allows.
    let most = data.len().saturating_mul(16).saturating_add(1024);
    if most <= 64 << 10 {
        limited::<S, { 64 << 10 }>(seed, data)
    } else if most <= 1 << 20 {
        limited::<S, { 1 << 20 }>(seed, data)
    } else if most <= 16 << 20 {
        limited::<S, { 16 << 20 }>(seed, data)
    } else if most <= 64 << 20 {
        limited::<S, { 64 << 20 }>(seed, data)
    } else if most <= 256 << 20 {
        limited::<S, { 256 << 20 }>(seed, data)
    } else {
        limited::<S, { 1 << 30 }>(seed, data)
    }
}

fn limited<'de, S: DeserializeSeed<'de>, const LIMIT: usize>(seed: S, data: &'de [u8]) -> Outcome<S::Value> {
    let config: Configuration<LittleEndian, Varint, bincode::config::Limit<LIMIT>> =
        bincode::config::standard().with_limit::<LIMIT>();
    let limits = Limits::new(data.len());
    let outcome = bincode::serde::seed_decode_from_slice(Guard::new(seed, &limits), data, config);
    let (value, taken) = outcome.map_err(|error| wrong(limits.describe(error)))?;
    if taken < data.len() {
        return Err(wrong(format_args!("{} bytes after the value", data.len() - taken)));
    }
    Ok(value)
}

/// A list or map of encoded values as the source of a type.
struct Container<'de> {
    form: u8,
    rest: &'de [u8],
    depth: usize,
}

impl<'de> Deserializer<'de> for Container<'de> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        let depth = self.depth;
        let parts = Parts::open(self.rest).map_err(|error| wrong(error.message()))?;
        if self.form == LIST {
            let items = parts.list().map_err(|error| wrong(error.message()))?;
            let mut access = SeqDeserializer::new(items.into_iter().map(|data| Slice { data, depth }));
            let value = visitor.visit_seq(&mut access)?;
            access.end()?;
            Ok(value)
        } else {
            let entries = parts.map().map_err(|error| wrong(error.message()))?;
            let entries = entries.into_iter().map(|(key, data)| (key, Slice { data, depth }));
            let mut access = MapDeserializer::new(entries);
            let value = visitor.visit_map(&mut access)?;
            access.end()?;
            Ok(value)
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Outcome<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

/// One encoded value in a container; what asks for it decides how it is read.
struct Slice<'de> {
    data: &'de [u8],
    depth: usize,
}

impl<'de> IntoDeserializer<'de, ValueError> for Slice<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! slice_calls {
    ($($method:ident($($arg:ident: $type:ty),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Outcome<V::Value> {
            struct Seed<V>(V, $($type),*);

            impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Seed<V> {
                type Value = V::Value;

                fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
                    let Self(visitor, $($arg),*) = self;
                    deserializer.$method($($arg,)* visitor)
                }
            }

            read(Seed(visitor, $($arg),*), self.data, self.depth)
        }
    )*};
}

impl<'de> Deserializer<'de> for Slice<'de> {
    type Error = ValueError;

    slice_calls! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        visitor.visit_unit()
    }

    // bincode writes ids and times as bytes, a value of any type has them as text.
    fn is_human_readable(&self) -> bool {
        self.data.first() != Some(&TYPED)
    }
}
