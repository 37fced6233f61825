//! The task: looks into one file.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Larger files are measured, not read: so no task takes long or much memory.
const READ_LIMIT: u64 = 32 * 1024 * 1024;
/// How many of a file's most frequent words are told.
const TOP_WORDS: usize = 16;
/// Shorter words, such as `the`, say little about a file.
const MIN_LETTERS: usize = 4;

/// What is told of one file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FileIndex {
    pub(crate) bytes: u64,
    pub(crate) content: Content,
}

/// What is in a file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Content {
    /// Text, with its most frequent words and how often they occur.
    Text { lines: u64, words: u64, top: Vec<(String, u64)> },
    /// Not text, so only measured.
    Binary,
    /// Too large to be read, so only measured.
    Large,
}

/// Looks into one file. A function that blocks, and so no `async fn`: the worker runs it on a thread where that does no harm.
///
/// An error is the task's failure: it is stored as the result, and the sender gets to read it.
#[celeriac::task]
pub(crate) fn index(path: PathBuf) -> io::Result<FileIndex> {
    // Asked before it is opened: opening a pipe would wait for its other end.
    let file = fs::metadata(&path)?;
    if !file.is_file() {
        return Err(io::Error::other("it is neither a file nor a folder"));
    }
    if file.len() > READ_LIMIT {
        return Ok(FileIndex { bytes: file.len(), content: Content::Large });
    }
    let mut data = Vec::new();
    File::open(&path)?.take(READ_LIMIT).read_to_end(&mut data)?;
    // As `git` and `grep` tell it: what has a zero byte near its beginning is no text.
    let content = if data.iter().take(8_000).any(|byte| *byte == 0) { Content::Binary } else { read_text(&data) };
    Ok(FileIndex { bytes: data.len() as u64, content })
}

fn read_text(data: &[u8]) -> Content {
    let text = String::from_utf8_lossy(data);
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for word in
        text.split(|letter: char| !letter.is_alphabetic()).filter(|word| word.chars().nth(MIN_LETTERS - 1).is_some())
    {
        *counts.entry(word).or_default() += 1;
    }
    let mut top: Vec<(&str, u64)> = counts.into_iter().collect();
    top.sort_unstable_by(|(word, count), (other, more)| more.cmp(count).then(word.cmp(other)));
    Content::Text {
        lines: text.lines().count() as u64,
        words: text.split_whitespace().count() as u64,
        // A word longer than any word is no word, and the sender keeps them all.
        top: top
            .into_iter()
            .filter(|(word, _)| word.len() <= 64)
            .take(TOP_WORDS)
            .map(|(word, count)| (word.to_owned(), count))
            .collect(),
    }
}
