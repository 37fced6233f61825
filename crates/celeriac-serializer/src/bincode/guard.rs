//! Limits that bincode lacks: how many elements lists may claim, and how deep types may nest.
//!
//! A list of a type without bytes, such as `Vec<()>`, may claim any count in nine bytes; a type that contains itself may
//! nest as deep as there are bytes.
//!
//! Errors are noted where they arise and cross the levels as a mark only. An erased visitor prints the error at each level
//! into the next one's, and bincode's prints quoted: the text would double with every level.

use std::cell::{Cell, RefCell};
use std::fmt;

use celeriac_core::value::ValueError;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

/// How deep a value's types may nest: each struct, tuple, list, map, `Some`, newtype and enum is a level.
const MAX_LEVELS: usize = 256;

/// How many elements without bytes a value may hold.
const MAX_EMPTY: usize = 1024;

/// What is left, for one value.
pub(super) struct Limits {
    elements: Cell<usize>,
    /// The first error met.
    error: RefCell<Option<String>>,
}

impl Limits {
    /// For a value of `length` bytes: each element takes a byte, but for a few that take none.
    pub(super) fn new(length: usize) -> Self {
        Self { elements: Cell::new(length.saturating_add(MAX_EMPTY)), error: RefCell::new(None) }
    }

    /// The text of the first error, or of `last`.
    pub(super) fn describe(self, last: impl fmt::Display) -> String {
        self.error.into_inner().unwrap_or_else(|| last.to_string())
    }

    fn note<O: Error>(&self, error: impl fmt::Display) -> O {
        let mut first = self.error.borrow_mut();
        if first.is_none() {
            *first = Some(error.to_string());
        }
        O::custom("unreadable")
    }

    fn spend(&self) -> Result<(), ValueError> {
        let left = self.elements.get().checked_sub(1).ok_or_else(|| self.note("more elements than bytes"))?;
        self.elements.set(left);
        Ok(())
    }
}

/// Any part of a deserialization, under the limits.
#[derive(Clone, Copy)]
pub(super) struct Guard<'l, T> {
    inner: T,
    limits: &'l Limits,
    levels: usize,
    /// A list or map whose length came with the data, as against a tuple or struct.
    is_counted: bool,
}

impl<'l, T> Guard<'l, T> {
    pub(super) fn new(inner: T, limits: &'l Limits) -> Self {
        Self { inner, limits, levels: MAX_LEVELS, is_counted: false }
    }

    /// Another part on the same level.
    fn beside<U>(limits: &'l Limits, levels: usize, inner: U) -> Guard<'l, U> {
        Guard { inner, limits, levels, is_counted: false }
    }

    fn levels_below<E: Error>(&self) -> Result<usize, E> {
        self.levels.checked_sub(1).ok_or_else(|| self.limits.note("nested too deep"))
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Guard<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        let guarded = Guard::<T>::beside(self.limits, self.levels, deserializer);
        self.inner.deserialize(guarded).map_err(|error| self.limits.note(error))
    }
}

macro_rules! pass {
    ($($counted:literal $method:ident($($arg:ident: $type:ty),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Result<V::Value, ValueError> {
            let visitor = Guard { inner: visitor, limits: self.limits, levels: self.levels, is_counted: $counted };
            self.inner.$method($($arg,)* visitor).map_err(|error| self.limits.note(error))
        }
    )*};
}

impl<'de, T: Deserializer<'de>> Deserializer<'de> for Guard<'_, T> {
    type Error = ValueError;

    pass! {
        true deserialize_any();
        false deserialize_bool();
        false deserialize_i8();
        false deserialize_i16();
        false deserialize_i32();
        false deserialize_i64();
        false deserialize_i128();
        false deserialize_u8();
        false deserialize_u16();
        false deserialize_u32();
        false deserialize_u64();
        false deserialize_u128();
        false deserialize_f32();
        false deserialize_f64();
        false deserialize_char();
        false deserialize_str();
        false deserialize_string();
        false deserialize_bytes();
        false deserialize_byte_buf();
        false deserialize_option();
        false deserialize_unit();
        false deserialize_unit_struct(name: &'static str);
        false deserialize_newtype_struct(name: &'static str);
        true deserialize_seq();
        false deserialize_tuple(len: usize);
        false deserialize_tuple_struct(name: &'static str, len: usize);
        true deserialize_map();
        false deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        false deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        false deserialize_identifier();
        true deserialize_ignored_any();
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! pass_values {
    ($($method:ident $type:ty;)*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<T::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, T: Visitor<'de>> Visitor<'de> for Guard<'_, T> {
    type Value = T::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    pass_values! {
        visit_bool bool;
        visit_i8 i8;
        visit_i16 i16;
        visit_i32 i32;
        visit_i64 i64;
        visit_i128 i128;
        visit_u8 u8;
        visit_u16 u16;
        visit_u32 u32;
        visit_u64 u64;
        visit_u128 u128;
        visit_f32 f32;
        visit_f64 f64;
        visit_char char;
        visit_str &str;
        visit_borrowed_str &'de str;
        visit_string String;
        visit_bytes &[u8];
        visit_borrowed_bytes &'de [u8];
        visit_byte_buf Vec<u8>;
    }

    fn visit_none<E: Error>(self) -> Result<T::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<T::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        let levels = self.levels_below()?;
        let guarded = Guard::<T>::beside(self.limits, levels, deserializer);
        self.inner.visit_some(guarded).map_err(|error| self.limits.note(error))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        let levels = self.levels_below()?;
        let guarded = Guard::<T>::beside(self.limits, levels, deserializer);
        self.inner.visit_newtype_struct(guarded).map_err(|error| self.limits.note(error))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<T::Value, A::Error> {
        let levels = self.levels_below()?;
        let guarded = Guard { inner: access, limits: self.limits, levels, is_counted: self.is_counted };
        self.inner.visit_seq(guarded).map_err(|error| self.limits.note(error))
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<T::Value, A::Error> {
        let levels = self.levels_below()?;
        let guarded = Guard { inner: access, limits: self.limits, levels, is_counted: self.is_counted };
        self.inner.visit_map(guarded).map_err(|error| self.limits.note(error))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<T::Value, A::Error> {
        let levels = self.levels_below()?;
        let guarded = Guard::<T>::beside(self.limits, levels, access);
        self.inner.visit_enum(guarded).map_err(|error| self.limits.note(error))
    }
}

impl<'de, T: SeqAccess<'de>> SeqAccess<'de> for Guard<'_, T> {
    type Error = ValueError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ValueError> {
        let element = self
            .inner
            .next_element_seed(Guard::<T>::beside(self.limits, self.levels, seed))
            .map_err(|error| self.limits.note(error))?;
        if self.is_counted && element.is_some() {
            self.limits.spend()?;
        }
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint().map(|count| count.min(self.limits.elements.get()))
    }
}

impl<'de, T: MapAccess<'de>> MapAccess<'de> for Guard<'_, T> {
    type Error = ValueError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ValueError> {
        let key = self
            .inner
            .next_key_seed(Guard::<T>::beside(self.limits, self.levels, seed))
            .map_err(|error| self.limits.note(error))?;
        if self.is_counted && key.is_some() {
            self.limits.spend()?;
        }
        Ok(key)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ValueError> {
        self.inner
            .next_value_seed(Guard::<T>::beside(self.limits, self.levels, seed))
            .map_err(|error| self.limits.note(error))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint().map(|count| count.min(self.limits.elements.get()))
    }
}

impl<'de, 'l, T: EnumAccess<'de>> EnumAccess<'de> for Guard<'l, T> {
    type Error = ValueError;
    type Variant = Guard<'l, T::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), ValueError> {
        let limits = self.limits;
        let seed = Guard::<T>::beside(limits, self.levels, seed);
        let (value, variant) = self.inner.variant_seed(seed).map_err(|error| limits.note(error))?;
        Ok((value, Guard::<T>::beside(self.limits, self.levels, variant)))
    }
}

impl<'de, T: VariantAccess<'de>> VariantAccess<'de> for Guard<'_, T> {
    type Error = ValueError;

    fn unit_variant(self) -> Result<(), ValueError> {
        self.inner.unit_variant().map_err(|error| self.limits.note(error))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, ValueError> {
        self.inner
            .newtype_variant_seed(Guard::<T>::beside(self.limits, self.levels, seed))
            .map_err(|error| self.limits.note(error))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, ValueError> {
        self.inner
            .tuple_variant(len, Guard::<T>::beside(self.limits, self.levels, visitor))
            .map_err(|error| self.limits.note(error))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.inner
            .struct_variant(fields, Guard::<T>::beside(self.limits, self.levels, visitor))
            .map_err(|error| self.limits.note(error))
    }
}
