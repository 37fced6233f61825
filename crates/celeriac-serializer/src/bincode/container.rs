//! Lists and maps of encoded values: counts, lengths, slices.

use celeriac_core::Result;

use crate::error::malformed;

pub(super) const TYPED: u8 = 0;
pub(super) const VALUE: u8 = 1;
pub(super) const LIST: u8 = 2;
pub(super) const MAP: u8 = 3;

/// Appends a count or length as LEB128.
pub(super) fn push_length(out: &mut Vec<u8>, length: usize) {
    let mut rest = length;
    while rest >= 0x80 {
        out.push(0x80 | u8::try_from(rest & 0x7f).unwrap_or_default());
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or_default());
}

/// The rest of a container after its form byte.
pub(super) struct Parts<'a> {
    rest: &'a [u8],
    count: usize,
}

impl<'a> Parts<'a> {
    pub(super) fn open(data: &'a [u8]) -> Result<Self> {
        let mut parts = Self { rest: data, count: 0 };
        parts.count = parts.length()?;
        // Each item takes a byte at least.
        if parts.count > parts.rest.len() {
            return Err(malformed("bincode", "a count that is not there"));
        }
        Ok(parts)
    }

    fn length(&mut self) -> Result<usize> {
        let mut length = 0_usize;
        for shift in (0..usize::BITS).step_by(7) {
            let Some((&byte, rest)) = self.rest.split_first() else {
                break;
            };
            self.rest = rest;
            let bits = usize::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            length |= bits << shift;
            if byte < 0x80 {
                return Ok(length);
            }
        }
        Err(malformed("bincode", "a malformed length"))
    }

    fn slice(&mut self) -> Result<&'a [u8]> {
        let length = self.length()?;
        let (slice, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| malformed("bincode", "a truncated value"))?;
        self.rest = rest;
        Ok(slice)
    }

    pub(super) fn list(mut self) -> Result<Vec<&'a [u8]>> {
        let items = (0..self.count).map(|_| self.slice()).collect::<Result<_>>()?;
        self.end()?;
        Ok(items)
    }

    pub(super) fn map(mut self) -> Result<Vec<(&'a str, &'a [u8])>> {
        let mut entries = Vec::with_capacity(self.count.min(1024));
        for _ in 0..self.count {
            let key = std::str::from_utf8(self.slice()?).map_err(|error| malformed("bincode", error))?;
            entries.push((key, self.slice()?));
        }
        self.end()?;
        Ok(entries)
    }

    fn end(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(malformed("bincode", "bytes after the value")) }
    }
}
