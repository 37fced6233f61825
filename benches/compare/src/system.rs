//! `System`: what the comparison has to know of a task queue.

use std::process::Command;

/// What goes wrong ends the comparison.
pub(crate) type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// A task queue, with the programs that send to it and work for it.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) name: &'static str,
    pub(crate) version: fn() -> Result<String>,
    /// Tasks a run: so many that the run takes some seconds.
    pub(crate) tasks: usize,
    /// The program that sends so many tasks to the server at this URL, and ends.
    pub(crate) send: fn(&str, usize) -> Result<Command>,
    /// The worker.
    pub(crate) work: fn(&str) -> Result<Command>,
    /// Where the results are.
    pub(crate) results: Results,
    /// Commands whose replies are 0 when no task waits, and none that was taken is still to be acknowledged.
    pub(crate) open: &'static [&'static [&'static str]],
}

/// Where a system keeps its results.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Results {
    /// Each in a key that begins with `prefix`. The server holds next to nothing else once all are stored.
    Keys { prefix: &'static str, says: &'static str },
    /// Each in the field `result` of a hash, whose name is `prefix` and the task's id. The ids are in the set `done`.
    Hashes { done: &'static str, prefix: &'static str, says: &'static str },
}
