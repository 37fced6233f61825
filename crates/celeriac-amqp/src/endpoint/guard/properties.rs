//! Which of a message's properties the driver can read.

use celeriac_core::value::MAX_DEPTH;

/// Class, weight and the body's length come before the properties.
const FIXED: usize = 12;

/// What a property is; in the order in which they come, the first at the flags' highest bit.
const PROPERTIES: [Kind; 14] = [
    Kind::Text,
    Kind::Text,
    Kind::Table,
    Kind::Bytes(1),
    Kind::Bytes(1),
    Kind::Text,
    Kind::Text,
    Kind::Text,
    Kind::Text,
    Kind::Bytes(8),
    Kind::Text,
    Kind::Text,
    Kind::Text,
    Kind::Text,
];

#[derive(Clone, Copy)]
enum Kind {
    /// Its length in one byte, then UTF-8.
    Text,
    Table,
    Bytes(usize),
}

/// The payload of a content header without what the driver cannot read; `None` if it can read all of it.
pub(super) fn cleaned(payload: &[u8]) -> Option<Vec<u8>> {
    if is_clean(payload) { None } else { Some(clean(payload)) }
}

fn flagged(flags: u16) -> impl Iterator<Item = (u16, Kind)> {
    (0..).map(|at| 0x8000_u16 >> at).zip(PROPERTIES).filter(move |(flag, _)| flags & flag != 0)
}

fn is_clean(payload: &[u8]) -> bool {
    let mut reader = Reader(payload);
    let Some(flags) = reader.take(FIXED).and_then(|_| reader.flags()) else { return false };
    for (_, kind) in flagged(flags) {
        let fine = match kind {
            Kind::Text => reader.short().is_some_and(is_text),
            Kind::Bytes(count) => reader.take(count).is_some(),
            Kind::Table => reader.long().is_some_and(|table| Reader(table).all(true, 0)),
        };
        if !fine {
            return false;
        }
    }
    // The driver takes no more flags than there are properties.
    reader.0.is_empty() && flags & 3 == 0
}

/// Copies what is fine; ends where nothing can be made out any more.
fn clean(payload: &[u8]) -> Vec<u8> {
    let mut reader = Reader(payload);
    let fixed = reader.take(FIXED).unwrap_or(&[0; FIXED]);
    let (mut kept, mut out) = (0_u16, Vec::with_capacity(payload.len() + 4));
    let flags = reader.flags().unwrap_or_default();
    for (flag, kind) in flagged(flags) {
        let before = reader.0;
        let fine = match kind {
            Kind::Text => reader.short().map(is_text),
            Kind::Bytes(count) => reader.take(count).map(|_| true),
            Kind::Table => reader.long().map(|_| true),
        };
        let Some(fine) = fine else { break };
        let whole = &before[..before.len() - reader.0.len()];
        match kind {
            Kind::Table => {
                let table = clean_table(&whole[4..]);
                out.extend_from_slice(&u32::try_from(table.len()).unwrap_or_default().to_be_bytes());
                out.extend_from_slice(&table);
            }
            _ if fine => out.extend_from_slice(whole),
            _ => continue,
        }
        kept |= flag;
    }
    [fixed, &kept.to_be_bytes(), &out].concat()
}

fn clean_table(table: &[u8]) -> Vec<u8> {
    let (mut reader, mut out) = (Reader(table), Vec::with_capacity(table.len()));
    while !reader.0.is_empty() {
        let before = reader.0;
        let Some(name) = reader.short() else { break };
        let Some(fine) = reader.field(0) else { break };
        if fine && is_text(name) {
            out.extend_from_slice(&before[..before.len() - reader.0.len()]);
        }
    }
    out
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn flags(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// What comes with its length in one byte.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?.first().copied()?;
        self.take(length.into())
    }

    /// What comes with its length in four bytes.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.take(4)?.try_into().ok().map(u32::from_be_bytes)?;
        self.take(length.try_into().ok()?)
    }

    /// Passes a field's type and value; whether the driver can read it. `None` if its end cannot be made out.
    fn field(&mut self, depth: usize) -> Option<bool> {
        let kind = self.take(1)?.first().copied()?;
        let length = match kind {
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'U' | b'u' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            b'S' | b'x' => return self.long().map(|_| true),
            b'A' | b'F' => return Some(Reader(self.long()?).all(kind == b'F', depth + 1)),
            _ => return None,
        };
        self.take(length).map(|_| true)
    }

    /// Whether all of it are fields that the driver can read, with names or without.
    fn all(mut self, named: bool, depth: usize) -> bool {
        if depth > MAX_DEPTH {
            return false;
        }
        while !self.0.is_empty() {
            if named && !self.short().is_some_and(is_text) || self.field(depth) != Some(true) {
                return false;
            }
        }
        true
    }
}
