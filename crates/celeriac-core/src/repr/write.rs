//! The serde serializer that writes Python's notation.

use std::fmt;

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::{LIMIT, MAX_LEVELS, push_float};
use crate::value::BIG_INT_TOKEN;

/// The text so far, and how much more may follow.
#[derive(Debug)]
pub(super) struct Out {
    text: String,
    /// Characters left; once used up, only closing brackets follow.
    left: usize,
    /// How many containers are open.
    level: usize,
    cut: bool,
}

/// Ends the writing early. Not a failure: the text so far is the result.
#[derive(Debug)]
pub(super) struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped")
    }
}

impl std::error::Error for Stop {}

impl serde::ser::Error for Stop {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Self
    }
}

impl Out {
    pub(super) fn new(open: &str) -> Self {
        Self { text: open.to_owned(), left: LIMIT - open.len(), level: 1, cut: false }
    }

    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Writes notation, unless the limit is used up.
    pub(super) fn raw(&mut self, text: &str) {
        if self.left == 0 {
            // Marks the place once; what follows it is dropped.
            if !self.cut {
                self.cut = true;
                self.text.push_str(", ...");
            }
            return;
        }
        self.text.push_str(text);
        self.left = self.left.saturating_sub(text.chars().count());
    }

    /// Writes a value, or as much of it as there is room for.
    pub(super) fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        let level = self.level;
        let length = self.text.len();
        if value.serialize(&mut *self).is_err() && !self.is_full() {
            // The type's own `Serialize` failed: the message will not be sent, so what is shown matters little.
            self.text.truncate(length);
            self.raw("...");
        }
        self.level = level;
    }

    pub(super) fn finish(mut self, close: &str) -> String {
        self.text.push_str(close);
        self.text
    }

    fn quoted(&mut self, text: &str) {
        let mut cut = text;
        let mut dots = "";
        if let Some((end, _)) = text.char_indices().nth(self.left) {
            cut = text.get(..end).unwrap_or(text);
            dots = "...";
        }
        self.text.push('\'');
        for part in cut.split_inclusive('\'') {
            match part.strip_suffix('\'') {
                Some(part) => {
                    self.text.push_str(part);
                    self.text.push_str("\\'");
                }
                None => self.text.push_str(part),
            }
        }
        self.text.push_str(dots);
        self.text.push('\'');
        self.left = self.left.saturating_sub(cut.chars().count() + 2);
    }

    fn check(&mut self) -> Result<(), Stop> {
        if self.is_full() { Err(Stop) } else { Ok(()) }
    }

    fn container(&mut self, open: &'static str, close: &'static str) -> Result<Items<'_>, Stop> {
        self.check()?;
        self.raw(open);
        let elided = self.level > MAX_LEVELS - 1;
        if elided {
            self.raw("...");
        }
        self.level += 1;
        Ok(Items { out: self, close, count: 0, elided, outer: "" })
    }

    fn variant(&mut self, variant: &str, open: &'static str, close: &'static str) -> Result<Items<'_>, Stop> {
        self.check()?;
        self.raw("{");
        self.quoted(variant);
        self.raw(": ");
        let items = self.container(open, close)?;
        Ok(Items { outer: "}", ..items })
    }
}

macro_rules! displayed {
    ($($method:ident $type:ty;)*) => {$(
        fn $method(self, value: $type) -> Result<(), Stop> {
            self.check()?;
            self.raw(&value.to_string());
            Ok(())
        }
    )*};
}

impl<'a> Serializer for &'a mut Out {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Items<'a>;
    type SerializeMap = Items<'a>;
    type SerializeStruct = Items<'a>;
    type SerializeStructVariant = Items<'a>;

    displayed! {
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
    }

    fn serialize_bool(self, value: bool) -> Result<(), Stop> {
        self.check()?;
        self.raw(if value { "True" } else { "False" });
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Stop> {
        self.serialize_f64(f64::from(value))
    }

    fn serialize_f64(self, value: f64) -> Result<(), Stop> {
        self.check()?;
        let mut text = String::new();
        push_float(&mut text, value);
        self.raw(&text);
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Stop> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Stop> {
        self.check()?;
        self.quoted(value);
        Ok(())
    }

    // COMPAT: celery 5.7 shows bytes that are no UTF-8 as hex digits (`celery/utils/saferepr.py`).
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Stop> {
        self.check()?;
        self.raw("b");
        let shown = value.get(..self.left.saturating_mul(4)).unwrap_or(value);
        match std::str::from_utf8(shown) {
            Ok(text) => self.quoted(text),
            Err(_) => {
                let shown = shown.get(..self.left / 2 + 1).unwrap_or(shown);
                let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
                self.quoted(&hex);
            }
        }
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Stop> {
        self.check()?;
        self.raw("None");
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stop> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Stop> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Stop> {
        self.serialize_none()
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Result<(), Stop> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<(), Stop> {
        if name == BIG_INT_TOKEN {
            // The digits come as text; Python shows them bare.
            let mut digits = Out { text: String::new(), left: self.left, level: 0, cut: false };
            value.serialize(&mut digits)?;
            self.raw(digits.text.trim_matches('\''));
            return Ok(());
        }
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        let mut items = self.container("{", "}")?;
        items.entry(variant, value)?;
        items.close();
        Ok(())
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Items<'a>, Stop> {
        self.container("[", "]")
    }

    fn serialize_tuple(self, len: usize) -> Result<Items<'a>, Stop> {
        self.container("(", if len == 1 { ",)" } else { ")" })
    }

    fn serialize_tuple_struct(self, _name: &'static str, len: usize) -> Result<Items<'a>, Stop> {
        self.serialize_tuple(len)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Items<'a>, Stop> {
        self.variant(variant, "(", if len == 1 { ",)" } else { ")" })
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Items<'a>, Stop> {
        self.container("{", "}")
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Items<'a>, Stop> {
        self.container("{", "}")
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Items<'a>, Stop> {
        self.variant(variant, "{", "}")
    }
}

/// The inside of a container.
///
/// An element that stops for want of room does not stop the container from closing, so the brackets stay paired.
pub(super) struct Items<'a> {
    out: &'a mut Out,
    close: &'static str,
    count: usize,
    /// Nested too deep: `...` is written and the elements are not looked at.
    elided: bool,
    /// What closes around it: a variant's map.
    outer: &'static str,
}

impl Items<'_> {
    /// Whether the next element is to be written; its separator is.
    fn next(&mut self) -> bool {
        if self.elided || self.out.cut {
            return false;
        }
        self.count += 1;
        if self.count > 1 || self.out.is_full() {
            self.out.raw(", ");
        }
        !self.out.is_full()
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        if self.next() {
            self.nested(value)?;
        }
        Ok(())
    }

    fn nested<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        let level = self.out.level;
        let done = value.serialize(&mut *self.out);
        self.out.level = level;
        match done {
            Err(Stop) if !self.out.is_full() => Err(Stop),
            _ => Ok(()),
        }
    }

    fn entry<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), Stop> {
        if self.next() {
            self.out.quoted(key);
            self.out.raw(": ");
            self.nested(value)?;
        }
        Ok(())
    }

    fn close(self) {
        self.out.level -= 1;
        // Brackets are always written, whatever is left.
        self.out.text.push_str(if self.elided { self.close.trim_start_matches(',') } else { self.close });
        self.out.text.push_str(self.outer);
        self.out.left = self.out.left.saturating_sub(self.close.len() + self.outer.len());
    }
}

macro_rules! elements {
    ($($part:ident $method:ident;)*) => {$(
        impl $part for Items<'_> {
            type Ok = ();
            type Error = Stop;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
                self.element(value)
            }

            fn end(self) -> Result<(), Stop> {
                self.close();
                Ok(())
            }
        }
    )*};
}

elements! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

impl SerializeMap for Items<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Stop> {
        if self.next() {
            self.nested(key)?;
            self.out.raw(": ");
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        if self.elided || self.out.is_full() {
            return Ok(());
        }
        self.nested(value)
    }

    fn end(self) -> Result<(), Stop> {
        self.close();
        Ok(())
    }
}

macro_rules! fields {
    ($($part:ident)*) => {$(
        impl $part for Items<'_> {
            type Ok = ();
            type Error = Stop;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Stop> {
                self.entry(key, value)
            }

            fn end(self) -> Result<(), Stop> {
                self.close();
                Ok(())
            }
        }
    )*};
}

fields!(SerializeStruct SerializeStructVariant);
