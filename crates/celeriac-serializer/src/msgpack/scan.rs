//! Takes msgpack lists and maps apart by their headers, without reading the values.

use std::borrow::Cow;

use celeriac_core::{Error, Result};

use crate::error::{ENCODE, malformed};
use crate::serializer::{Entry, not_a};

/// The headers of one kind of container: short form with its highest count, 16 and 32 bit form.
pub(super) type Headers = (u8, usize, u8, u8);
pub(super) const LIST: Headers = (0x90, 15, 0xdc, 0xdd);
pub(super) const MAP: Headers = (0x80, 15, 0xde, 0xdf);

pub(super) fn push_header(out: &mut Vec<u8>, count: usize, (short, most, two, four): Headers) -> Result<()> {
    match (u8::try_from(count), u16::try_from(count), u32::try_from(count)) {
        (Ok(count), ..) if usize::from(count) <= most => out.push(short | count),
        (_, Ok(count), _) => {
            out.push(two);
            out.extend_from_slice(&count.to_be_bytes());
        }
        (_, _, Ok(count)) => {
            out.push(four);
            out.extend_from_slice(&count.to_be_bytes());
        }
        _ => return Err(Error::unsupported(ENCODE, format!("msgpack: a container of {count} entries"))),
    }
    Ok(())
}

/// Checks that `data` is one value and nothing more.
pub(super) fn whole(data: &[u8]) -> Result<()> {
    let mut scanner = Scanner { data, at: 0 };
    scanner.value()?;
    scanner.end()
}

pub(super) fn list(data: &[u8]) -> Result<Vec<Cow<'_, [u8]>>> {
    let mut scanner = Scanner { data, at: 0 };
    let count = match scanner.header()? {
        Header::List(count) => count,
        other => return Err(not_a("list", other.kind())),
    };
    let mut items = Vec::with_capacity(room(count));
    for _ in 0..count {
        items.push(Cow::Borrowed(scanner.value()?));
    }
    scanner.end()?;
    Ok(items)
}

pub(super) fn map(data: &[u8]) -> Result<Vec<Entry<'_>>> {
    let mut scanner = Scanner { data, at: 0 };
    let count = match scanner.header()? {
        Header::Map(count) => count,
        other => return Err(not_a("map", other.kind())),
    };
    let mut entries = Vec::with_capacity(room(count));
    for _ in 0..count {
        let key = scanner.key()?;
        entries.push((Cow::Borrowed(key), Cow::Borrowed(scanner.value()?)));
    }
    scanner.end()?;
    Ok(entries)
}

/// Room to begin with for so many entries. What the data claims is not believed before the entries are there.
fn room(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX).min(1024)
}

/// What a value starts with.
enum Header {
    List(u64),
    Map(u64),
    /// A text of so many bytes.
    Text(usize),
    /// Anything else, followed by so many bytes.
    Other(usize),
}

impl Header {
    fn kind(&self) -> &'static str {
        match self {
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Text(_) => "a text",
            Self::Other(_) => "a scalar",
        }
    }
}

struct Scanner<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn wrong(&self, what: &str) -> Error {
        malformed("msgpack", format_args!("{what} at byte {}", self.at))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or_else(|| self.wrong("a length out of range"))?;
        let taken = self.data.get(self.at..end).ok_or_else(|| self.wrong("the end of a truncated value"))?;
        self.at = end;
        Ok(taken)
    }

    /// A big-endian number of `size` bytes.
    fn number(&mut self, size: usize) -> Result<u64> {
        Ok(self.take(size)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, size: usize) -> Result<usize> {
        let number = self.number(size)?;
        usize::try_from(number).map_err(|_| self.wrong("a length out of range"))
    }

    fn header(&mut self) -> Result<Header> {
        let marker = self.take(1)?.first().copied().unwrap_or_default();
        Ok(match marker {
            0x80..=0x8f => Header::Map(u64::from(marker & 0x0f)),
            0x90..=0x9f => Header::List(u64::from(marker & 0x0f)),
            0xa0..=0xbf => Header::Text(usize::from(marker & 0x1f)),
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => Header::Other(0),
            0xc1 => return Err(self.wrong("an unused marker")),
            0xc4 => Header::Other(self.length(1)?),
            0xc5 => Header::Other(self.length(2)?),
            0xc6 => Header::Other(self.length(4)?),
            0xc7 => Header::Other(self.length(1)?.saturating_add(1)),
            0xc8 => Header::Other(self.length(2)?.saturating_add(1)),
            0xc9 => Header::Other(self.length(4)?.saturating_add(1)),
            0xcc | 0xd0 => Header::Other(1),
            0xcd | 0xd1 => Header::Other(2),
            0xca | 0xce | 0xd2 => Header::Other(4),
            0xcb | 0xcf | 0xd3 => Header::Other(8),
            0xd4 => Header::Other(2),
            0xd5 => Header::Other(3),
            0xd6 => Header::Other(5),
            0xd7 => Header::Other(9),
            0xd8 => Header::Other(17),
            0xd9 => Header::Text(self.length(1)?),
            0xda => Header::Text(self.length(2)?),
            0xdb => Header::Text(self.length(4)?),
            0xdc => Header::List(self.number(2)?),
            0xdd => Header::List(self.number(4)?),
            0xde => Header::Map(self.number(2)?),
            0xdf => Header::Map(self.number(4)?),
        })
    }

    /// Passes a value, however deep, and returns its bytes.
    fn value(&mut self) -> Result<&'a [u8]> {
        let start = self.at;
        let mut pending = 1_u64;
        while pending > 0 {
            pending -= 1;
            match self.header()? {
                Header::List(count) => pending = pending.saturating_add(count),
                Header::Map(count) => pending = pending.saturating_add(count.saturating_mul(2)),
                Header::Text(length) | Header::Other(length) => {
                    self.take(length)?;
                }
            }
        }
        Ok(self.data.get(start..self.at).unwrap_or_default())
    }

    fn key(&mut self) -> Result<&'a str> {
        match self.header()? {
            Header::Text(length) => {
                let text = self.take(length)?;
                std::str::from_utf8(text).map_err(|error| malformed("msgpack", error))
            }
            _ => Err(self.wrong("no text as key of a map")),
        }
    }

    fn end(&self) -> Result<()> {
        if self.at < self.data.len() { Err(self.wrong("bytes after the value")) } else { Ok(()) }
    }
}
