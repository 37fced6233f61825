//! Those who wait for the schedule to change: woken by whoever changes it, here or elsewhere.

use rusqlite::Connection;
use tokio::sync::watch;

use crate::error::Outcome;

/// Where the schedule stands. Both numbers only grow: no change brings back what was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// That of the latest change of a definition.
    pub(crate) revision: i64,
    /// How often a leader has resigned.
    pub(crate) resignations: i64,
}

impl Mark {
    pub(crate) fn read(connection: &Connection) -> Outcome<Self> {
        let sql = "SELECT revision, resignations FROM schedule";
        let read = |row: &rusqlite::Row<'_>| Ok(Self { revision: row.get(0)?, resignations: row.get(1)? });
        Ok(connection.prepare_cached(sql)?.query_row([], read)?)
    }
}

/// The latest mark that this process has seen.
#[derive(Debug)]
pub(crate) struct News(watch::Sender<Mark>);

impl News {
    pub(crate) fn new(mark: Mark) -> Self {
        Self(watch::Sender::new(mark))
    }

    /// Has changed when there is a new mark.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Mark> {
        self.0.subscribe()
    }

    pub(crate) fn is_awaited(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// A mark was written, or read. One that comes late wakes for nothing, which is no harm.
    pub(crate) fn offer(&self, mark: Mark) {
        self.0.send_if_modified(|known| std::mem::replace(known, mark) != mark);
    }

    /// Wakes all who wait.
    pub(crate) fn wake(&self) {
        self.0.send_modify(|_| {});
    }
}
