//! Reading from the front to the back, once.

use std::borrow::Cow;
use std::fmt;

use celeriac_core::Value;
use celeriac_serializer::{Json, Serializer as _};

/// What is wrong with a text that should be JSON: what, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wrong {
    what: &'static str,
    at: usize,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

/// A value, read as far as it can be for nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Raw<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Text(Cow<'a, str>),
    /// Anything else as it stands there: its brackets match, more is not known.
    Other(&'a str),
}

impl<'a> Raw<'a> {
    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// What stands there, if it was not read.
    pub(crate) fn as_other(&self) -> Option<&'a str> {
        if let Self::Other(raw) = self { Some(raw) } else { None }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(bool) = self { Some(*bool) } else { None }
    }

    pub(crate) fn as_int(&self) -> Option<i64> {
        if let Self::Int(int) = self { Some(*int) } else { None }
    }

    /// The value. One that kombu's JSON does not know stays the text that stands there, so that nothing is lost.
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(bool) => Value::Bool(bool),
            Self::Int(int) => Value::Int(int),
            Self::Text(text) => Value::Str(text.into_owned()),
            Self::Other(raw) => Json.decode_value(raw.as_bytes()).unwrap_or_else(|_| Value::from(raw)),
        }
    }
}

/// Reads JSON without recursion: containers are entered by whoever expects them, or passed.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    /// INVARIANT: on a character's boundary, at most the text's length.
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// How many bytes were read.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    fn wrong(&self, what: &'static str) -> Wrong {
        Wrong { what, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Enters an object; `None`, and nothing is read, if something else comes.
    pub(crate) fn object(&mut self) -> Option<Object> {
        self.space();
        self.take(b'{').then_some(Object { is_first: true })
    }

    /// Whether only blanks are left.
    pub(crate) fn end(&mut self) -> Result<(), Wrong> {
        self.space();
        if self.at < self.text.len() { Err(self.wrong("bytes after the object")) } else { Ok(()) }
    }

    /// Reads the next value.
    pub(crate) fn value(&mut self) -> Result<Raw<'a>, Wrong> {
        self.space();
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                let (text, is_plain) = self.string()?;
                if is_plain {
                    return Ok(Raw::Text(Cow::Borrowed(text)));
                }
                Ok(unescaped(self.since(start)).map_or(Raw::Other(self.since(start)), |text| Raw::Text(text.into())))
            }
            Some(b'{' | b'[') => {
                self.container()?;
                Ok(Raw::Other(self.since(start)))
            }
            Some(b'n') if self.word(b"null") => Ok(Raw::Null),
            Some(b't') if self.word(b"true") => Ok(Raw::Bool(true)),
            Some(b'f') if self.word(b"false") => Ok(Raw::Bool(false)),
            Some(_) => {
                self.scalar();
                match self.since(start) {
                    "" => Err(self.wrong("no value")),
                    token => Ok(int(token).map_or(Raw::Other(token), Raw::Int)),
                }
            }
            None => Err(self.wrong("the end")),
        }
    }

    /// Passes a text; gives it without quotes, and whether it stands for itself.
    fn string(&mut self) -> Result<(&'a str, bool), Wrong> {
        self.at += 1;
        let start = self.at;
        let mut is_plain = true;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let Some(length) = special(rest) else {
                return Err(self.wrong("a text without end"));
            };
            self.at += length;
            if rest.get(length) == Some(&b'"') {
                let text = self.since(start);
                self.at += 1;
                return Ok((text, is_plain));
            }
            is_plain = false;
            // The backslash and what it escapes, which is no part of a longer character.
            self.at += 2;
            if !self.text.is_char_boundary(self.at) {
                return Err(self.wrong("an unknown escape"));
            }
        }
    }

    /// Passes a list or an object.
    fn container(&mut self) -> Result<(), Wrong> {
        let mut open = 0_usize;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.string()?;
                    continue;
                }
                Some(b'{' | b'[') => open += 1,
                Some(b'}' | b']') => open -= 1,
                Some(_) => {}
                None => return Err(self.wrong("the end")),
            }
            self.at += 1;
            if open == 0 {
                return Ok(());
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> bool {
        let found = self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(word));
        if found {
            self.at += word.len();
        }
        found
    }

    /// Passes a number or a word.
    fn scalar(&mut self) {
        while let Some(byte) = self.peek() {
            if matches!(byte, b',' | b':' | b']' | b'}' | b'[' | b'{' | b'"' | b' ' | b'\t' | b'\n' | b'\r') {
                break;
            }
            self.at += 1;
        }
    }
}

/// An object that was entered. Whoever takes a key reads its value next.
#[derive(Debug)]
pub(crate) struct Object {
    is_first: bool,
}

/// The key of an entry.
#[derive(Debug)]
pub(crate) struct Key<'a> {
    pub(crate) text: Cow<'a, str>,
    /// Where it starts, at its quote.
    pub(crate) at: usize,
}

impl Object {
    /// The next key; `None` once the object is closed.
    pub(crate) fn next<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Option<Key<'a>>, Wrong> {
        reader.space();
        if reader.take(b'}') {
            return Ok(None);
        }
        if !std::mem::take(&mut self.is_first) {
            if !reader.take(b',') {
                return Err(reader.wrong("no `,` or `}` in an object"));
            }
            reader.space();
        }
        let at = reader.at;
        if reader.peek() != Some(b'"') {
            return Err(reader.wrong("no text as key of an object"));
        }
        let (text, is_plain) = reader.string()?;
        let text = if is_plain {
            Cow::Borrowed(text)
        } else {
            Cow::Owned(unescaped(reader.since(at)).ok_or_else(|| reader.wrong("an unknown escape"))?)
        };
        reader.space();
        if !reader.take(b':') {
            return Err(reader.wrong("no `:` in an object"));
        }
        Ok(Some(Key { text, at }))
    }
}

/// Where the first quote or backslash is. Most texts are short: for them this takes half the time of a search that is made for long ones.
fn special(bytes: &[u8]) -> Option<usize> {
    const SHORT: usize = 64;
    let mut at = 0;
    while at < SHORT {
        let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) else { break };
        let chunk = u64::from_le_bytes(*chunk);
        let found = zeros(chunk ^ u64::from_le_bytes([b'"'; 8])) | zeros(chunk ^ u64::from_le_bytes([b'\\'; 8]));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    Some(at + memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?)
}

/// The highest bit of the lowest byte that is zero, and perhaps bits above it; none if no byte is zero.
fn zeros(bytes: u64) -> u64 {
    bytes.wrapping_sub(u64::from_le_bytes([0x01; 8])) & !bytes & u64::from_le_bytes([0x80; 8])
}

/// The text that a quoted one with escapes stands for.
fn unescaped(quoted: &str) -> Option<String> {
    match Json.decode_value(quoted.as_bytes()) {
        Ok(Value::Str(text)) => Some(text),
        _ => None,
    }
}

/// An integer that surely fits.
fn int(token: &str) -> Option<i64> {
    const MOST: usize = 18;
    (token.len() <= MOST && !token.starts_with('+')).then(|| token.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_or_backslash_is_found_wherever_it_is() {
        for plain in ['a', '!', '#', '[', ']', '\u{1}', 'é', '\u{7f}'] {
            for length in 0..100 {
                let text = plain.to_string().repeat(length);
                assert_eq!(special(text.as_bytes()), None);
                for (found, after) in [('"', '\\'), ('\\', '"')] {
                    let more = format!("{text}{found}{text}{after}");
                    assert_eq!(special(more.as_bytes()), Some(text.len()), "{more}");
                }
            }
        }
    }

    #[test]
    fn scalars_are_read_and_the_rest_is_left_as_it_stands() {
        for (text, expected) in [
            (" null ", Raw::Null),
            ("true", Raw::Bool(true)),
            ("-12", Raw::Int(-12)),
            ("123456789012345678", Raw::Int(123_456_789_012_345_678)),
            ("9223372036854775807", Raw::Other("9223372036854775807")),
            ("+1", Raw::Other("+1")),
            ("1.0", Raw::Other("1.0")),
            ("-Infinity", Raw::Other("-Infinity")),
            (r#""a\"b\ud83c\udf31""#, Raw::Text("a\"b\u{1f331}".into())),
            (r#""\ud83c""#, Raw::Text("\u{fffd}".into())),
            (r#""\q""#, Raw::Other(r#""\q""#)),
            (r#"["]", {"}": 1}] x"#, Raw::Other(r#"["]", {"}": 1}]"#)),
        ] {
            assert_eq!(Reader::new(text).value(), Ok(expected), "{text}");
        }
        for text in ["", " ", ",", "\"", "\"\\", "\"\\é", "[", "{\"a\": [}"] {
            assert!(Reader::new(text).value().is_err(), "{text}");
        }
    }
}
