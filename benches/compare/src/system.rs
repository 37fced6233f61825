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
    /// The program that sends so many tasks, and ends.
    pub(crate) send: fn(&Urls, usize) -> Result<Command>,
    /// The worker.
    pub(crate) work: fn(&Urls) -> Result<Command>,
    /// Where the results are.
    pub(crate) results: Results,
    /// Where the tasks are.
    pub(crate) waits: Waits,
}

/// Where tasks are sent to, and results stored.
#[derive(Debug, Clone)]
pub(crate) struct Urls {
    pub(crate) broker: String,
    pub(crate) results: String,
}

impl Urls {
    pub(crate) fn new(broker: &str, results: &str) -> Self {
        Self { broker: broker.to_owned(), results: results.to_owned() }
    }
}

/// Where tasks wait, and those that were taken and are still to be acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Waits {
    /// In Redis: commands whose replies are 0 when there are none.
    Redis(&'static [&'static [&'static str]]),
    /// In this queue of RabbitMQ.
    Rabbit { queue: &'static str },
}

impl Waits {
    /// The broker's name.
    pub(crate) fn on(self) -> &'static str {
        match self {
            Self::Redis(_) => "Redis",
            Self::Rabbit { .. } => "RabbitMQ",
        }
    }
}

/// Where in Redis a system keeps its results.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Results {
    /// Each in a key that begins with `prefix`. The server holds next to nothing else once all are stored.
    Keys { prefix: &'static str, says: &'static str },
    /// Each in the field `result` of a hash, whose name is `prefix` and the task's id. The ids are in the set `done`.
    Hashes { done: &'static str, prefix: &'static str, says: &'static str },
}
