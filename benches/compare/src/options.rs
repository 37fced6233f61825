//! What the command line asks for.

use crate::system::Result;

const USAGE: &str =
    "usage: compare [--rounds N] [--tasks N] [celeriac] [rusty-celery] [apalis] [apalis-tuned] [celery]";

/// How to compare.
#[derive(Debug)]
pub(crate) struct Options {
    /// Which systems; all, if none is named.
    pub(crate) names: Vec<String>,
    pub(crate) rounds: usize,
    /// Tasks a run, instead of each system's own number.
    pub(crate) tasks: Option<usize>,
}

/// What this process is to do.
#[derive(Debug)]
pub(crate) enum Part {
    Compare(Options),
    Send { system: String, url: String, count: usize },
    Work { system: String, url: String },
}

/// Reads the words of the command line.
pub(crate) fn read(words: impl Iterator<Item = String>) -> Result<Part> {
    let words: Vec<String> = words.collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["send", system, url, count] => {
            return Ok(Part::Send { system: system.into(), url: url.into(), count: count.parse()? });
        }
        ["work", system, url] => return Ok(Part::Work { system: system.into(), url: url.into() }),
        _ => {}
    }
    let mut options = Options { names: Vec::new(), rounds: 5, tasks: None };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => options.rounds = words.next().ok_or(USAGE)?.parse()?,
            "--tasks" => options.tasks = Some(words.next().ok_or(USAGE)?.parse()?),
            "celeriac" | "rusty-celery" | "apalis" | "apalis-tuned" | "celery" => options.names.push(word),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(Part::Compare(options))
}
