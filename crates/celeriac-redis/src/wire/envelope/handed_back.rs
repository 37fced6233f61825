//! An envelope on its way back to its list.

use std::ops::Range;

use super::Stamp;
use crate::wire::json::{Raw, Reader};

/// The envelope as it goes back to its list: marked as redelivered and with `stamp` at its end, all else byte for byte. What cannot be
/// read goes back as it is.
///
/// # Wire format
/// `kombu/transport/redis.py::Channel._do_restore_message` (kombu 5.7) marks headers and `delivery_info`; so does this, each if it is
/// there. The stamp is ours.
pub(crate) fn handed_back(data: &[u8], stamp: Stamp) -> Vec<u8> {
    std::str::from_utf8(data).ok().and_then(|text| changed(text, stamp)).unwrap_or_else(|| data.to_vec())
}

/// The envelope with this end, or as it is if there is none or it is no object.
pub(crate) fn stamped(data: &[u8], ending: &str) -> Vec<u8> {
    match data.strip_suffix(b"}") {
        Some(inside) if !ending.is_empty() => [inside, ending.as_bytes()].concat(),
        _ => data.to_vec(),
    }
}

fn changed(text: &str, stamp: Stamp) -> Option<Vec<u8>> {
    let mut edits = Edits::default();
    let mut reader = Reader::new(text);
    let mut object = reader.object()?;
    let mut is_envelope = false;
    // Where the entry before ends; behind the bracket at first.
    let mut end = reader.at();
    // Where old stamps start that stand before all else.
    let mut leading = None;
    let mut is_first = true;
    while let Some(key) = object.next(&mut reader).ok()? {
        if key.text == "celeriac" {
            reader.value().ok()?;
            if is_first {
                leading.get_or_insert(key.at);
            } else {
                edits.put(end..reader.at(), "");
            }
        } else {
            if let Some(start) = leading.take() {
                edits.put(start..key.at, "");
            }
            is_first = false;
            is_envelope |= matches!(&*key.text, "body" | "headers" | "properties");
            match &*key.text {
                "headers" => edits.mark(&mut reader)?,
                "properties" => edits.mark_delivery_info(&mut reader)?,
                _ => drop(reader.value().ok()?),
            }
        }
        end = reader.at();
    }
    let close = reader.at() - 1;
    reader.end().ok()?;
    edits.put(close..text.len(), stamp.ending());
    is_envelope.then(|| edits.apply(text))
}

/// What is replaced, from front to back.
#[derive(Default)]
struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    fn put(&mut self, range: Range<usize>, by: impl Into<String>) {
        self.0.push((range, by.into()));
    }

    /// Sets `redelivered` in the object that comes; passes anything else.
    fn mark(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let Some(mut object) = reader.object() else { return reader.value().ok().map(drop) };
        let (mut is_empty, mut is_there) = (true, false);
        while let Some(key) = object.next(reader).ok()? {
            is_empty = false;
            let before = reader.at();
            let value = reader.value().ok()?;
            if key.text == "redelivered" {
                is_there = true;
                if value != Raw::Bool(true) {
                    self.put(before..reader.at(), " true");
                }
            }
        }
        if !is_there {
            let close = reader.at() - 1;
            self.put(close..close, if is_empty { "\"redelivered\": true" } else { ", \"redelivered\": true" });
        }
        Some(())
    }

    fn mark_delivery_info(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let Some(mut object) = reader.object() else { return reader.value().ok().map(drop) };
        while let Some(key) = object.next(reader).ok()? {
            if key.text == "delivery_info" {
                self.mark(reader)?;
            } else {
                reader.value().ok()?;
            }
        }
        Some(())
    }

    fn apply(self, text: &str) -> Vec<u8> {
        const ROOM: usize = 96;
        let mut out = Vec::with_capacity(text.len() + ROOM);
        let mut at = 0;
        for (range, by) in self.0 {
            out.extend_from_slice(text.as_bytes().get(at..range.start).unwrap_or_default());
            out.extend_from_slice(by.as_bytes());
            at = range.end;
        }
        out
    }
}
