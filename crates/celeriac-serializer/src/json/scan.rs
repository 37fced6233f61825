//! Takes JSON lists and maps apart by their brackets, without reading the values.

use std::borrow::Cow;

use celeriac_core::{Error, Result};
use smallvec::SmallVec;

use super::parse;
use crate::body::Body;
use crate::error::malformed;
use crate::serializer::{Entry, not_a};

pub(super) fn list(data: &[u8]) -> Result<Vec<Cow<'_, [u8]>>> {
    let mut scanner = Scanner { data, at: 0 };
    let items = scanner.list()?;
    scanner.end()?;
    Ok(items)
}

pub(super) fn map(data: &[u8]) -> Result<Vec<Entry<'_>>> {
    let mut scanner = Scanner { data, at: 0 };
    let entries = scanner.map()?;
    scanner.end()?;
    Ok(entries)
}

/// Takes a task's body apart in one pass. Does not tell what is wrong with one that cannot be.
pub(super) fn body(data: &[u8]) -> Option<Body<'_>> {
    let mut scanner = Scanner { data, at: 0 };
    scanner.open(b'[', "list").ok()?;
    let args = scanner.list().ok()?;
    scanner.more(b']').ok().filter(|more| *more)?;
    let kwargs = scanner.map().ok()?;
    scanner.more(b']').ok().filter(|more| *more)?;
    let embed = scanner.embed().ok()?;
    scanner.more(b']').ok().filter(|more| !more)?;
    scanner.end().ok()?;
    Some(Body { args, kwargs, embed: Cow::Borrowed(embed) })
}

struct Scanner<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn list(&mut self) -> Result<Vec<Cow<'a, [u8]>>> {
        self.open(b'[', "list")?;
        let mut items = Vec::new();
        if self.closes(b']') {
            return Ok(items);
        }
        loop {
            items.push(Cow::Borrowed(self.value()?));
            if !self.more(b']')? {
                return Ok(items);
            }
        }
    }

    fn map(&mut self) -> Result<Vec<Entry<'a>>> {
        self.open(b'{', "map")?;
        let mut entries = Vec::new();
        if self.closes(b'}') {
            return Ok(entries);
        }
        loop {
            let key = self.key()?;
            self.space();
            if !self.take(b':') {
                return Err(self.wrong("no `:` in a map"));
            }
            entries.push((key, Cow::Borrowed(self.value()?)));
            if !self.more(b'}')? {
                return Ok(entries);
            }
        }
    }

    /// Passes the third part of a body, which nearly always has nothing in it.
    fn embed(&mut self) -> Result<&'a [u8]> {
        self.space();
        let rest = self.data.get(self.at..).unwrap_or_default();
        match Body::PLAIN_EMBEDS.into_iter().find_map(|plain| rest.get(..plain.len()).filter(|start| *start == plain)) {
            Some(plain) => {
                self.at += plain.len();
                Ok(plain)
            }
            None => self.value(),
        }
    }

    fn open(&mut self, bracket: u8, wanted: &str) -> Result<()> {
        self.space();
        if self.take(bracket) {
            return Ok(());
        }
        Err(not_a(
            wanted,
            match self.peek() {
                Some(b'[') => "a list",
                Some(b'{') => "a map",
                Some(b'"') => "a text",
                Some(_) => "a scalar",
                None => "nothing",
            },
        ))
    }

    fn wrong(&self, what: &str) -> Error {
        malformed("json", format_args!("{what} at byte {}", self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.data.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn closes(&mut self, bracket: u8) -> bool {
        self.space();
        self.take(bracket)
    }

    /// After a value: whether another follows.
    fn more(&mut self, close: u8) -> Result<bool> {
        if self.closes(close) {
            return Ok(false);
        }
        if self.take(b',') { Ok(true) } else { Err(self.wrong("no `,` or closing bracket")) }
    }

    fn end(&mut self) -> Result<()> {
        self.space();
        if self.at < self.data.len() { Err(self.wrong("bytes after the value")) } else { Ok(()) }
    }

    fn key(&mut self) -> Result<Cow<'a, str>> {
        self.space();
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.wrong("no text as key of a map"));
        }
        self.string()?;
        let quoted = self.data.get(start..self.at).unwrap_or_default();
        let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
        if inner.contains(&b'\\') {
            return Ok(Cow::Owned(parse::string(quoted)?.0));
        }
        std::str::from_utf8(inner).map(Cow::Borrowed).map_err(|error| malformed("json", error))
    }

    /// Passes a string.
    fn string(&mut self) -> Result<()> {
        self.at += 1;
        loop {
            let rest = self.data.get(self.at..).unwrap_or_default();
            match memchr::memchr2(b'"', b'\\', rest) {
                Some(length) => {
                    self.at += length;
                    if self.take(b'"') {
                        return Ok(());
                    }
                    // The backslash and what it escapes.
                    self.at += 2;
                }
                None => return Err(self.wrong("a text without end")),
            }
        }
    }

    /// Passes a value and returns its bytes.
    fn value(&mut self) -> Result<&'a [u8]> {
        self.space();
        let start = self.at;
        // Deeper brackets than these are rare.
        let mut open = SmallVec::<[u8; 32]>::new();
        loop {
            match self.peek() {
                Some(b'"') => self.string()?,
                Some(b'[') => {
                    open.push(b']');
                    self.at += 1;
                }
                Some(b'{') => {
                    open.push(b'}');
                    self.at += 1;
                }
                Some(close @ (b']' | b'}')) => {
                    if open.pop() != Some(close) {
                        return Err(self.wrong("an unexpected bracket"));
                    }
                    self.at += 1;
                }
                Some(b',' | b':') if open.is_empty() => return Err(self.wrong("an unexpected separator")),
                Some(b',' | b':' | b' ' | b'\t' | b'\n' | b'\r') => {
                    self.at += 1;
                    continue;
                }
                Some(_) => self.scalar(),
                None => return Err(self.wrong("the end")),
            }
            if open.is_empty() {
                return Ok(self.data.get(start..self.at).unwrap_or_default());
            }
        }
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
