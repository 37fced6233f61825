//! How deep a YAML text may nest in flow style, told before the parser sees it: its time grows with length times depth.

use celeriac_core::{Error, Result};

use crate::error::DECODE;

/// The deepest that flow collections nest. Twice what a value is read to.
const DEPTH: usize = 128;
/// Where the depth is only guessed, it may be greater as long as bytes times depth, which is what the parser does, stay below this.
const WORK: usize = 1 << 30;

/// Refuses a text that nests deeper, in time proportional to its length.
///
/// # Errors
/// [`ErrorKind::Malformed`](celeriac_core::ErrorKind::Malformed).
pub(super) fn check(text: &[u8]) -> Result<()> {
    // The parser would take it for UTF-16, where a byte says nothing.
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Err(Error::malformed(DECODE, "yaml: not UTF-8"));
    }
    let depth = match exact(text) {
        Some(depth) if depth <= DEPTH => return Ok(()),
        Some(depth) => depth,
        None => {
            let most = at_most(text);
            if most <= DEPTH.max(WORK / text.len().max(1)) {
                return Ok(());
            }
            most
        }
    };
    Err(Error::malformed(DECODE, format!("yaml: {depth} brackets may be open at once, more than {DEPTH}")))
}

/// What was read last.
#[derive(Clone, Copy, PartialEq)]
enum Last {
    /// Nothing yet, or what a value may follow.
    Open,
    /// A plain scalar, which a quote does not end.
    Plain,
    /// A quoted scalar or a closed collection.
    Whole,
}

/// The depth of one flow collection or quoted text without comments, tags and anchors: what this crate writes, and any JSON. `None` for all else.
fn exact(text: &[u8]) -> Option<usize> {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut last, mut at) = (Last::Open, 0);
    while let Some(byte) = text.get(at) {
        let blank_follows = || text.get(at + 1).is_none_or(u8::is_ascii_whitespace);
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            // Behind the end there is nothing.
            _ if depth == 0 && last != Last::Open => return None,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
                last = Last::Open;
            }
            b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                last = Last::Whole;
            }
            b'"' | b'\'' if last == Last::Open => {
                at = quoted(text, at)?;
                last = Last::Whole;
            }
            _ if depth == 0 => return None,
            b',' => last = Last::Open,
            b':' if last == Last::Whole || blank_follows() => last = Last::Open,
            b'?' if last == Last::Open && blank_follows() => {}
            b'-' if blank_follows() => return None,
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'+' | b'-' | b'_' | b'~' if last != Last::Whole => {
                last = Last::Plain;
            }
            _ => return None,
        }
        at += 1;
    }
    Some(deepest)
}

/// Where the quoted scalar that begins at `start` ends.
fn quoted(text: &[u8], start: usize) -> Option<usize> {
    let quote = *text.get(start)?;
    let mut at = start + 1;
    loop {
        let rest = text.get(at..)?;
        if quote == b'"' {
            at += memchr::memchr2(b'"', b'\\', rest)?;
            if text.get(at) == Some(&b'"') {
                return Some(at);
            }
        } else {
            at += memchr::memchr(b'\'', rest)?;
            if text.get(at + 1) != Some(&b'\'') {
                return Some(at);
            }
        }
        // Over an escape, of which the second byte is all that matters.
        at += 2;
    }
}

/// A bound of the depth, whatever is quoted, commented or literal: a bracket counts as closed only if nothing between could tell the one apart from
/// the other.
fn at_most(text: &[u8]) -> usize {
    let (mut before, mut open, mut most) = (0_usize, 0_usize, 0);
    for byte in text {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            b'"' | b'\'' | b'#' | b'!' | b'\r' | b'\n' | 0x80.. => {
                before += open;
                open = 0;
            }
            _ => {}
        }
        most = most.max(before + open);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_texts_do_not_count() {
        for (text, depth) in [
            (r#"[1, -2.5, {"a": null, ? "b" : [true]}]"#, Some(3)),
            (r#"{"a":"[[[[\"[[","b":'it''s [['}"#, Some(1)),
            (r#""[[[ \\""#, Some(0)),
            ("[a b, c: d]\n", Some(1)),
            ("[[], [[]], {}]", Some(3)),
            // What is no such thing is left to the bound.
            (r#"[a "[[", "]]"]"#, None),
            ("[1] # [[", None),
            ("[# \"\n[[", None),
            ("[!a'[", None),
            ("[&a 'x']", None),
            ("[\"a\"b]", None),
            ("- [1]", None),
            ("a: b", None),
            ("['a]", None),
            ("]", None),
        ] {
            assert_eq!(exact(text.as_bytes()), depth, "{text}");
        }
    }

    #[test]
    fn the_bound_is_never_below_the_depth() {
        for (text, most) in [
            ("a: []\nb: [1, {c: d}]\n", 2),
            ("# \"\n[[[[", 4),
            ("a: '[['\nb: \"{{\"", 4),
            ("[\"]]\": [\"]]\": [", 3),
            ("[\n]]]\n[\n]]]\n[", 3),
        ] {
            assert_eq!(at_most(text.as_bytes()), most, "{text}");
        }
    }
}
