//! What the command line asks for.

use crate::system::{Result, Urls};
use crate::systems;

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
    Send { system: String, urls: Urls, count: usize },
    Work { system: String, urls: Urls },
}

/// Reads the words of the command line.
pub(crate) fn read(words: impl Iterator<Item = String>) -> Result<Part> {
    let words: Vec<String> = words.collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["send", system, broker, results, count] => {
            return Ok(Part::Send { system: system.into(), urls: Urls::new(broker, results), count: count.parse()? });
        }
        ["work", system, broker, results] => {
            return Ok(Part::Work { system: system.into(), urls: Urls::new(broker, results) });
        }
        _ => {}
    }
    let known: Vec<&str> = systems::all().iter().map(|system| system.name).collect();
    let usage = || format!("usage: compare [--rounds N] [--tasks N] [{}]", known.join("] ["));
    let mut options = Options { names: Vec::new(), rounds: 5, tasks: None };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => options.rounds = words.next().ok_or_else(usage)?.parse()?,
            "--tasks" => options.tasks = Some(words.next().ok_or_else(usage)?.parse()?),
            name if known.contains(&name) => options.names.push(word),
            _ => return Err(usage().into()),
        }
    }
    Ok(Part::Compare(options))
}
