//! `Txn`: the write transaction that jobs work in, and what is to be done once it is committed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use celeriac_core::TaskMeta;
use rusqlite::{CachedStatement, Connection};

use crate::error::Outcome;
use crate::news::Mark;
use crate::shared::Shared;
use crate::topology::Topology;

/// A write transaction. Jobs work on it one after the other.
pub(crate) struct Txn<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) statements: Statements<'a>,
    pub(crate) topology: &'a mut Topology,
    pub(crate) effects: Effects,
    /// Microseconds since 1970.
    pub(crate) now: i64,
    pub(crate) me: Option<&'a mut Me>,
    pub(crate) shared: &'a Shared,
}

/// Statements that are run for each message or record, looked up once in a transaction: by the address of their text, for a look into
/// the connection's own cache takes about as long as many a statement.
pub(crate) struct Statements<'a> {
    connection: &'a Connection,
    open: Vec<(&'static str, CachedStatement<'a>)>,
}

impl<'a> Statements<'a> {
    pub(crate) fn new(connection: &'a Connection) -> Self {
        Self { connection, open: Vec::new() }
    }

    /// The statement with the text `sql`.
    pub(crate) fn get(&mut self, sql: &'static str) -> rusqlite::Result<&mut CachedStatement<'a>> {
        let at = match self.open.iter().position(|(known, _)| std::ptr::eq(*known, sql)) {
            Some(at) => at,
            None => {
                self.open.push((sql, self.connection.prepare_cached(sql)?));
                self.open.len() - 1
            }
        };
        Ok(&mut self.open[at].1)
    }
}

/// This store as an owner of deliveries, a row in the table `owner`.
#[derive(Debug)]
pub(crate) struct Me {
    pub(crate) id: i64,
    pub(crate) lease_until: i64,
    /// Microseconds.
    pub(crate) lease: i64,
    pub(crate) next_tag: i64,
}

impl Me {
    /// Whether a third of the lease is over; also when the clock was set back, for others would wait too long then.
    pub(crate) fn is_due(&self, now: i64) -> bool {
        let left = self.lease_until.saturating_sub(now);
        left <= self.lease / 3 * 2 || left > self.lease
    }
}

/// What follows a commit. That of a job that failed is thrown away.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Queues in which something became ready, or will at a nearer instant.
    pub(crate) ready: Vec<i64>,
    /// Records that were written.
    pub(crate) results: Vec<Arc<TaskMeta>>,
    /// Where the schedule stands, if a definition changed or the leader resigned.
    pub(crate) schedule: Option<Mark>,
    /// By how many the deliveries held here became more.
    pub(crate) held: i64,
}

impl Effects {
    pub(crate) fn ready(&mut self, queue: i64) {
        if !self.ready.contains(&queue) {
            self.ready.push(queue);
        }
    }

    pub(crate) fn absorb(&mut self, other: Self) {
        other.ready.into_iter().for_each(|queue| self.ready(queue));
        self.results.extend(other.results);
        self.schedule = other.schedule.or(self.schedule);
        self.held += other.held;
    }
}

impl Txn<'_> {
    /// Where this store is as an owner; 0, which no row has, before it is one.
    pub(crate) fn my_id(&self) -> i64 {
        self.me.as_ref().map_or(0, |me| me.id)
    }

    /// Forgets what a job did that came to nothing.
    pub(crate) fn undone(&mut self) {
        self.effects = Effects::default();
        self.topology.forget();
        if let Some(me) = self.me.as_deref_mut() {
            me.lease_until = 0;
        }
    }

    /// Has others wake this store for what is one of the bits of `Watching`.
    pub(crate) fn announce(&mut self, watching: u8) -> Outcome {
        let sql = "UPDATE owner SET watching = watching | ?2 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute((self.my_id(), watching))?;
        self.topology.changed(self.connection)
    }

    /// Renews the lease when it is due.
    pub(crate) fn renew(&mut self) -> Outcome {
        let now = self.now;
        let Some(me) = self.me.as_deref_mut() else { return Ok(()) };
        if !me.is_due(now) {
            return Ok(());
        }
        let until = now.saturating_add(me.lease);
        me.lease_until = until;
        let id = me.id;
        let sql = "UPDATE owner SET lease_until = ?2 WHERE id = ?1";
        if self.connection.prepare_cached(sql)?.execute((id, until))? > 0 { Ok(()) } else { self.revive(id, until) }
    }

    /// Writes down once more what this store is, after others took it for dead.
    fn revive(&mut self, me: i64, until: i64) -> Outcome {
        // ORDERING: as where it is set; whoever sets it later announces it by itself.
        let watching = self.shared.watching.load(Ordering::SeqCst);
        let sql = "INSERT INTO owner (id, lease_until, watching) VALUES (?1, ?2, ?3)";
        self.connection.prepare_cached(sql)?.execute((me, until, watching))?;
        let sql = "INSERT OR IGNORE INTO consumer (id, owner, queue, name) VALUES (?1, ?2, ?3, ?4)";
        let mut statement = self.connection.prepare_cached(sql)?;
        self.shared.consumers(|consumer| {
            for (row, queue) in consumer.rows.iter().zip(&consumer.queues) {
                statement.execute((row, me, queue, &consumer.name))?;
            }
            Ok(())
        })?;
        self.topology.changed(self.connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_renewed_early_and_when_the_clock_was_set_back() {
        let me = Me { id: 1, lease_until: 90, lease: 30, next_tag: 1 };
        for (now, due) in [(60, false), (69, false), (70, true), (100, true), (59, true), (-1000, true)] {
            assert_eq!(me.is_due(now), due, "at {now}");
        }
    }
}
