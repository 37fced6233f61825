//! The serde serializer behind JSON, and behind YAML, whose flow style is JSON but for a few scalars.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use celeriac_core::repr::push_float;
use celeriac_core::value::{BIG_INT_TOKEN, TYPE_KEY, VALUE_KEY, ValueError};
use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// Which notation the scalars follow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    #[cfg_attr(not(feature = "json"), expect(dead_code, reason = "YAML alone is compiled in"))]
    Json,
    Yaml,
}

pub(crate) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    flavour: Flavour,
}

type Outcome<T = ()> = Result<T, ValueError>;

impl<'o> Writer<'o> {
    pub(crate) fn new(out: &'o mut Vec<u8>, flavour: Flavour) -> Self {
        Self { out, flavour }
    }

    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn string(&mut self, text: &str) {
        push_str(self.out, text, self.flavour);
    }

    fn tagged(&mut self, tag: &str, value: &str) {
        self.raw("{");
        self.string(TYPE_KEY);
        self.raw(":");
        self.space();
        self.string(tag);
        self.raw(",");
        self.space();
        self.string(VALUE_KEY);
        self.raw(":");
        self.space();
        self.string(value);
        self.raw("}");
    }

    /// YAML 1.1 wants a space after `:`; PyYAML also breaks lines by it.
    fn space(&mut self) {
        if self.flavour == Flavour::Yaml {
            self.out.push(b' ');
        }
    }

    fn open(&mut self, open: &str, close: &'static str) -> Compound<'_, 'o> {
        self.raw(open);
        Compound { writer: self, close, is_first: true }
    }

    fn open_variant(&mut self, variant: &str, open: &str, close: &'static str) -> Compound<'_, 'o> {
        self.raw("{");
        self.string(variant);
        self.raw(":");
        self.space();
        self.open(open, close)
    }

    /// Writes `key` as a value and makes a text of it, as Python does with numbers, bools and None.
    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Outcome {
        let start = self.out.len();
        key.serialize(&mut *self)?;
        match self.out.get(start) {
            Some(b'"') => Ok(()),
            Some(b'[' | b'{') | None => {
                self.out.truncate(start);
                Err(ValueError::custom("a map's key is neither text nor number, bool or null"))
            }
            Some(_) => {
                self.out.insert(start, b'"');
                self.out.push(b'"');
                Ok(())
            }
        }
    }
}

/// Appends a quoted string.
pub(crate) fn push_str(out: &mut Vec<u8>, text: &str, flavour: Flavour) {
    out.push(b'"');
    match flavour {
        Flavour::Json => push_json_escaped(out, text),
        Flavour::Yaml => push_yaml_escaped(out, text),
    }
    out.push(b'"');
}

fn push_json_escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(length) = rest.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')) {
        let (plain, tail) = rest.split_at(length);
        out.extend_from_slice(plain);
        if let Some((&byte, tail)) = tail.split_first() {
            push_escape(out, char::from(byte));
            rest = tail;
        }
    }
    out.extend_from_slice(rest);
}

// PyYAML refuses raw control characters and reads surrogate pairs as two lone surrogates: all but ASCII is escaped by its
// code point.
fn push_yaml_escaped(out: &mut Vec<u8>, text: &str) {
    for char in text.chars() {
        match char {
            '"' | '\\' | '\0'..' ' => push_escape(out, char),
            ' '..='~' => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            _ if u32::from(char) <= 0xffff => push_escape(out, char),
            _ => push_fmt(out, format_args!("\\U{:08x}", u32::from(char))),
        }
    }
}

fn push_escape(out: &mut Vec<u8>, char: char) {
    match char {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        _ => push_fmt(out, format_args!("\\u{:04x}", u32::from(char))),
    }
}

fn push_fmt(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

macro_rules! integers {
    ($($method:ident $type:ty;)*) => {$(
        fn $method(self, value: $type) -> Outcome {
            self.raw(itoa::Buffer::new().format(value));
            Ok(())
        }
    )*};
}

impl<'w, 'o> Serializer for &'w mut Writer<'o> {
    type Ok = ();
    type Error = ValueError;
    type SerializeSeq = Compound<'w, 'o>;
    type SerializeTuple = Compound<'w, 'o>;
    type SerializeTupleStruct = Compound<'w, 'o>;
    type SerializeTupleVariant = Compound<'w, 'o>;
    type SerializeMap = Compound<'w, 'o>;
    type SerializeStruct = Compound<'w, 'o>;
    type SerializeStructVariant = Compound<'w, 'o>;

    integers! {
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

    fn serialize_bool(self, value: bool) -> Outcome {
        self.raw(if value { "true" } else { "false" });
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Outcome {
        // By way of text, so that 0.1 stays 0.1.
        self.serialize_f64(value.to_string().parse().unwrap_or_else(|_| f64::from(value)))
    }

    fn serialize_f64(self, value: f64) -> Outcome {
        let words = match self.flavour {
            Flavour::Json => ["NaN", "Infinity", "-Infinity"],
            Flavour::Yaml => [".nan", ".inf", "-.inf"],
        };
        let [nan, infinity, negative] = words;
        if value.is_nan() {
            self.raw(nan);
        } else if value.is_infinite() {
            self.raw(if value > 0.0 { infinity } else { negative });
        } else {
            let mut text = String::new();
            push_float(&mut text, value);
            // YAML 1.1 takes a number with exponent but without a point for a text.
            match text.split_once('e') {
                Some((digits, exponent)) if self.flavour == Flavour::Yaml && !digits.contains('.') => {
                    push_fmt(self.out, format_args!("{digits}.0e{exponent}"));
                }
                _ => self.raw(&text),
            }
        }
        Ok(())
    }

    fn serialize_char(self, value: char) -> Outcome {
        self.string(value.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Outcome {
        self.string(value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Outcome {
        match std::str::from_utf8(value) {
            Ok(text) => self.tagged("bytes", text),
            Err(_) => self.tagged("base64", &STANDARD.encode(value)),
        }
        Ok(())
    }

    fn serialize_none(self) -> Outcome {
        self.raw("null");
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Outcome {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Outcome {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Outcome {
        self.serialize_none()
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Outcome {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Outcome {
        if name != BIG_INT_TOKEN {
            return value.serialize(self);
        }
        let mut digits = Vec::new();
        value.serialize(&mut Writer::new(&mut digits, self.flavour))?;
        let digits = digits.trim_ascii().strip_prefix(b"\"").and_then(|digits| digits.strip_suffix(b"\""));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default();
        match self.flavour {
            Flavour::Json => self.raw(digits),
            // Rust's YAML readers round such integers: keep the digits.
            Flavour::Yaml => self.tagged("bigint", digits),
        }
        Ok(())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Outcome {
        let mut map = self.open("{", "}");
        map.field(variant, value)?;
        map.close();
        Ok(())
    }

    fn serialize_seq(self, _len: Option<usize>) -> Outcome<Compound<'w, 'o>> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple(self, _len: usize) -> Outcome<Compound<'w, 'o>> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Outcome<Compound<'w, 'o>> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Outcome<Compound<'w, 'o>> {
        Ok(self.open_variant(variant, "[", "]}"))
    }

    fn serialize_map(self, _len: Option<usize>) -> Outcome<Compound<'w, 'o>> {
        Ok(self.open("{", "}"))
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Outcome<Compound<'w, 'o>> {
        Ok(self.open("{", "}"))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Outcome<Compound<'w, 'o>> {
        Ok(self.open_variant(variant, "{", "}}"))
    }
}

/// An open list or map.
pub(crate) struct Compound<'w, 'o> {
    writer: &'w mut Writer<'o>,
    close: &'static str,
    is_first: bool,
}

impl Compound<'_, '_> {
    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.writer.raw(",");
            self.writer.space();
        }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Outcome {
        self.separate();
        value.serialize(&mut *self.writer)
    }

    fn map_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Outcome {
        /// A YAML key longer than 1024 characters must be announced by `?`.
        const LONG_KEY: usize = 512;

        self.separate();
        let start = self.writer.out.len();
        self.writer.key(key)?;
        if self.writer.flavour == Flavour::Yaml && self.writer.out.len() - start > LONG_KEY {
            self.writer.out.splice(start..start, *b"? ");
            self.writer.space();
        }
        self.writer.raw(":");
        self.writer.space();
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Outcome {
        self.map_key(key)?;
        value.serialize(&mut *self.writer)
    }

    fn close(self) {
        self.writer.raw(self.close);
    }
}

macro_rules! elements {
    ($($part:ident $method:ident;)*) => {$(
        impl $part for Compound<'_, '_> {
            type Ok = ();
            type Error = ValueError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Outcome {
                self.element(value)
            }

            fn end(self) -> Outcome {
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

impl SerializeMap for Compound<'_, '_> {
    type Ok = ();
    type Error = ValueError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Outcome {
        self.map_key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Outcome {
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Outcome {
        self.close();
        Ok(())
    }
}

macro_rules! fields {
    ($($part:ident)*) => {$(
        impl $part for Compound<'_, '_> {
            type Ok = ();
            type Error = ValueError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Outcome {
                self.field(key, value)
            }

            fn end(self) -> Outcome {
                self.close();
                Ok(())
            }
        }
    )*};
}

fields!(SerializeStruct SerializeStructVariant);
