//! `System`: a broker with its results, and its yardstick: the same operations without Celeriac.

mod memory;
mod rabbit;
mod redis;
mod sqlite;

use std::fmt;

use async_trait::async_trait;
use celeriac_testkit::server::{RabbitServer, RedisServer};
use tokio::task::JoinHandle;

use crate::meter::{Meter, Spent};

/// Which system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In this process.
    Memory,
    /// A file.
    Sqlite,
    /// A Redis server.
    Redis,
    /// A RabbitMQ server.
    Rabbit,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Sqlite, Self::Redis, Self::Rabbit];

    /// Its name on the command line and in the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::Redis => "redis",
            Self::Rabbit => "rabbit",
        }
    }

    /// How many tasks a run of rates has.
    #[must_use]
    pub fn tasks(self) -> usize {
        match self {
            Self::Memory => 200_000,
            Self::Sqlite | Self::Redis => 100_000,
            Self::Rabbit => 50_000,
        }
    }

    /// Whether Python's Celery has it as a broker.
    #[must_use]
    pub fn has_python(self) -> bool {
        matches!(self, Self::Redis | Self::Rabbit)
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Starts it, with a server of its own where it has one.
    pub async fn start(self) -> Box<dyn System> {
        match self {
            Self::Memory => Box::new(memory::Memory::new()),
            Self::Sqlite => Box::new(sqlite::Sqlite::start()),
            Self::Redis => Box::new(redis::Redis::start().await),
            Self::Rabbit => Box::new(rabbit::Rabbit::start().await),
        }
    }

    /// The one that another process has started.
    #[must_use]
    pub fn at(self, url: &str) -> Box<dyn System> {
        match self {
            Self::Memory => Box::new(memory::Memory::new()),
            Self::Sqlite => Box::new(sqlite::Sqlite::at(url)),
            Self::Redis => Box::new(redis::Redis::at(url)),
            Self::Rabbit => Box::new(rabbit::Rabbit::at(url)),
        }
    }
}

/// What the yardstick does, in words.
#[derive(Debug, Clone, Copy)]
pub struct Yardsticks {
    /// Beside sending.
    pub send: &'static str,
    /// Beside working without results.
    pub plain: &'static str,
    /// Beside working with results.
    pub results: &'static str,
    /// Beside a lone task.
    pub lone: &'static str,
    /// Beside an idle worker.
    pub idle: &'static str,
}

/// A system and its yardstick. Raw operations take the times that their meter says, setting up not among them.
#[async_trait]
pub trait System: fmt::Debug + Send + Sync {
    /// Which one.
    fn kind(&self) -> Kind;

    /// Celeriac's URL of it. Another one after each `empty`, where that is how it is emptied.
    fn url(&self) -> String;

    /// Its server, if it is a Redis server of this process's own.
    fn redis(&self) -> Option<&RedisServer> {
        None
    }

    /// Its server, if it is a RabbitMQ server of this process's own.
    fn rabbit(&self) -> Option<&RabbitServer> {
        None
    }

    /// The ids of its server's processes.
    fn servers(&self) -> Vec<u32> {
        self.redis().map(RedisServer::pid).into_iter().chain(self.rabbit().map(RabbitServer::pid)).collect()
    }

    /// Its version.
    async fn version(&self) -> String;

    /// What the yardstick does.
    fn yardsticks(&self) -> Yardsticks;

    /// Removes all tasks and results.
    async fn empty(&mut self);

    /// Has Celeriac send so many tasks, and keeps what it sent, for the yardstick to send. Leaves the system empty.
    async fn capture(&mut self, count: usize);

    /// Sends the first of what was captured: what has results, or what has none.
    async fn raw_send(&mut self, count: usize, results: bool, meter: &Meter) -> Spent;

    /// Takes what was sent, all of it, stores a result for each if there are to be results, and ends it.
    async fn raw_work(&mut self, count: usize, results: bool, meter: &Meter) -> Spent;

    /// The times that a lone message takes there and back, in microseconds; beside a load of so many messages a second, if there is one. Something
    /// must have been captured.
    async fn raw_lone(&mut self, count: usize, load: Option<f64>) -> Vec<f64>;

    /// A raw consumer that waits, until it is aborted; `None` where nobody can wait.
    async fn raw_idle(&mut self) -> Option<JoinHandle<()>>;
}
