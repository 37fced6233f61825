//! The results, added up.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::tasks::{Content, FileIndex};

/// How many lines the lists have at most.
const SHOWN: usize = 20;
const LARGEST: usize = 10;
/// What is kept at most, however many files there are: kinds of file, words of one kind.
const KINDS: usize = 1_000;
const WORDS: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Report {
    kinds: BTreeMap<String, Row>,
    /// The largest files, largest first.
    largest: Vec<(u64, PathBuf)>,
    /// The first failures, and the number of all.
    failures: Vec<(PathBuf, String)>,
    failed: u64,
    /// The time it took; set at the end.
    pub(crate) elapsed: Duration,
    /// How many tasks were run.
    pub(crate) tasks: u64,
}

#[derive(Debug, Default)]
struct Row {
    files: u64,
    bytes: u64,
    lines: u64,
    words: u64,
    binary: u64,
    large: u64,
    top: HashMap<String, u64>,
}

impl Report {
    pub(crate) fn add(&mut self, path: &Path, index: FileIndex) {
        let place = self.largest.partition_point(|(bytes, _)| *bytes >= index.bytes);
        if place < LARGEST {
            self.largest.insert(place, (index.bytes, path.to_owned()));
            self.largest.truncate(LARGEST);
        }
        let mut kind = path.extension().map_or_else(|| "(none)".to_owned(), |end| kind(&end.to_string_lossy()));
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(&kind) {
            kind = "(others)".to_owned();
        }
        self.kinds.entry(kind).or_default().add(index);
    }

    pub(crate) fn fail(&mut self, path: PathBuf, why: String) {
        self.failed += 1;
        if self.failures.len() < SHOWN {
            self.failures.push((path, why));
        }
    }
}

impl Row {
    fn add(&mut self, index: FileIndex) {
        self.files += 1;
        self.bytes += index.bytes;
        match index.content {
            Content::Binary => self.binary += 1,
            Content::Large => self.large += 1,
            Content::Text { lines, words, top } => {
                self.lines += lines;
                self.words += words;
                for (word, count) in top {
                    *self.top.entry(word).or_default() += count;
                }
                if self.top.len() > WORDS {
                    // Rare words go; a frequent one that comes later still rises.
                    self.top.retain(|_, count| *count > 2);
                    if self.top.len() > WORDS {
                        self.top.clear();
                    }
                }
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.lines += other.lines;
        self.words += other.words;
        self.binary += other.binary;
        self.large += other.large;
        for (word, count) in &other.top {
            *self.top.entry(word.clone()).or_default() += count;
        }
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, kind: &str) -> fmt::Result {
        let top = self.top.iter().max_by_key(|(word, count)| (**count, Reverse(word.as_str())));
        let top = top.map_or_else(|| "-".to_owned(), |(word, count)| format!("{} ({count})", clean(word)));
        let Self { files, bytes, lines, words, .. } = self;
        writeln!(f, "{kind:<14} {files:>9} {:>10} {lines:>11} {words:>11}  {top}", size(*bytes))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: Vec<(&String, &Row)> = self.kinds.iter().collect();
        kinds.sort_by_key(|(_, row)| Reverse(row.bytes));
        let (mut total, mut rest) = (Row::default(), Row::default());
        writeln!(f)?;
        writeln!(
            f,
            "{:<14} {:>9} {:>10} {:>11} {:>11}  most frequent word",
            "extension", "files", "size", "lines", "words"
        )?;
        for (at, (kind, row)) in kinds.iter().enumerate() {
            total.merge(row);
            if at < SHOWN { row.line(f, kind)? } else { rest.merge(row) }
        }
        if rest.files > 0 {
            rest.line(f, &format!("({} more)", kinds.len() - SHOWN))?;
        }
        total.line(f, "total")?;

        if total.binary > 0 || total.large > 0 {
            writeln!(f, "\nmeasured only: {} binary, {} too large to read", total.binary, total.large)?;
        }
        if !self.largest.is_empty() {
            writeln!(f, "\nlargest files")?;
        }
        for (bytes, path) in &self.largest {
            writeln!(f, "{:>10}  {}", size(*bytes), clean(&path.to_string_lossy()))?;
        }
        if self.failed > 0 {
            writeln!(f, "\nnot indexed: {}", self.failed)?;
        }
        for (path, why) in &self.failures {
            writeln!(f, "  {}: {}", clean(&path.to_string_lossy()), clean(why))?;
        }
        if self.failed > self.failures.len() as u64 {
            writeln!(f, "  and {} more", self.failed - self.failures.len() as u64)?;
        }
        let seconds = self.elapsed.as_secs_f64();
        writeln!(
            f,
            "\n{} tasks in {seconds:.2} s: {:.0} tasks a second",
            self.tasks,
            self.tasks as f64 / seconds.max(1e-9)
        )
    }
}

/// An extension, however it is written, and short enough for its column.
fn kind(extension: &str) -> String {
    clean(extension).to_lowercase().chars().take(14).collect()
}

/// File names may hold anything, also what a terminal would obey.
fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next();
    while amount >= 1024.0 {
        amount /= 1024.0;
        unit = units.next().or(unit);
    }
    format!("{amount:.1} {}", unit.unwrap_or_default())
}
