//! The entries of the schedule and who leads: the tables `entry`, `removed` and `schedule`.

use std::time::Duration;

use bytes::Bytes;
use celeriac_core::{EntryName, Error, Result};
use celeriac_schedule::{Advance, Change, Changes, Condition, Lead, Put, Revision, Step, Stepped, StoredEntry, Term};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::error::{Fault, Outcome};
use crate::news::Mark;
use crate::publish::Parcel;
use crate::topology::micros;
use crate::txn::Txn;

/// So many removed entries are remembered.
const REMEMBERED: i64 = if cfg!(test) { 10 } else { 10_000 };

/// By the names' own order, whatever the number of entries.
const LIST: &str = "SELECT name, revision, definition, state, steps FROM entry WHERE name > ?1 ORDER BY name LIMIT ?2";

/// Removed entries have no definition.
const CHANGES: &str = "
    SELECT name, revision, definition, state, steps FROM entry WHERE revision > ?1
    UNION ALL SELECT name, revision, NULL, NULL, 0 FROM removed WHERE revision > ?1
    ORDER BY revision LIMIT ?2";

/// A step, ready to be written.
#[derive(Debug)]
pub(crate) struct Next {
    name: EntryName,
    revision: i64,
    steps: i64,
    state: Bytes,
    /// Why they cannot be published, if that is known.
    publish: Result<Vec<Parcel>>,
}

impl Next {
    pub(crate) fn new(step: Step, max_bytes: usize) -> Self {
        let publish = step.publish.iter().map(|outgoing| Parcel::new(outgoing, max_bytes)).collect();
        let Step { name, revision, steps, state, .. } = step;
        Self { name, revision: signed(revision.0), steps: signed(steps), state, publish }
    }

    /// What it counts towards a group of jobs, in messages of ordinary size.
    pub(crate) fn weight(&self) -> usize {
        let messages: usize = self.publish.iter().flatten().map(Parcel::weight).sum();
        1 + self.state.len() / 4096 + messages
    }
}

/// A number that was never given is larger than all that are.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn revision(number: i64) -> Revision {
    Revision(number.cast_unsigned())
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// SQLite takes no larger limit.
fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl Txn<'_> {
    /// Numbers a change of a definition.
    fn change(&mut self) -> Outcome<i64> {
        self.connection.prepare_cached("UPDATE schedule SET revision = revision + 1")?.execute([])?;
        let mark = Mark::read(self.connection)?;
        self.effects.schedule = Some(mark);
        Ok(mark.revision)
    }

    pub(crate) fn put_entry(&mut self, name: &EntryName, definition: &[u8], condition: Condition) -> Outcome<Put> {
        let sql = "SELECT revision, definition = ?2 FROM entry WHERE name = ?1";
        let found: Option<(i64, bool)> = self
            .connection
            .prepare_cached(sql)?
            .query_row((name.as_bytes(), definition), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let present = found.map(|(number, _)| revision(number));
        match found {
            _ if !condition.holds(present) => return Ok(Put::Unmet(present)),
            Some((number, true)) => return Ok(Put::Done(revision(number))),
            Some((_, false)) => {}
            None => {
                let sql = "DELETE FROM removed WHERE name = ?1";
                self.connection.prepare_cached(sql)?.execute([name.as_bytes()])?;
            }
        }
        let fresh = self.change()?;
        let sql = "INSERT INTO entry (name, revision, steps, definition) VALUES (?1, ?2, 0, ?3)
                   ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, definition = excluded.definition";
        self.connection.prepare_cached(sql)?.execute((name.as_bytes(), fresh, definition))?;
        Ok(Put::Done(revision(fresh)))
    }

    pub(crate) fn remove_entry(&mut self, name: &EntryName) -> Outcome<bool> {
        let gone = self.connection.prepare_cached("DELETE FROM entry WHERE name = ?1")?.execute([name.as_bytes()])?;
        if gone == 0 {
            return Ok(false);
        }
        let fresh = self.change()?;
        let sql = "INSERT INTO removed (revision, name) VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute((fresh, name.as_bytes()))?;
        let sql = "SELECT count(*) FROM removed";
        let remembered: i64 = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        if remembered > REMEMBERED {
            self.forget_removed(remembered / 2)?;
        }
        Ok(true)
    }

    /// Forgets the `count` entries that were removed first.
    fn forget_removed(&mut self, count: i64) -> Outcome {
        let sql = "SELECT revision FROM removed ORDER BY revision LIMIT 1 OFFSET ?1 - 1";
        let until: i64 = self.connection.prepare_cached(sql)?.query_row([count], |row| row.get(0))?;
        self.connection.prepare_cached("DELETE FROM removed WHERE revision <= ?1")?.execute([until])?;
        self.connection.prepare_cached("UPDATE schedule SET forgotten = ?1")?.execute([until])?;
        Ok(())
    }

    pub(crate) fn lead(&mut self, who: &str, lease: Duration) -> Outcome<Lead> {
        let sql = "SELECT term, leader, lease, lease_until FROM schedule";
        let (mut term, leader): (i64, Option<(String, i64, i64)>) =
            self.connection.prepare_cached(sql)?.query_row([], |row| {
                let leader: Option<String> = row.get(1)?;
                let leader = leader.map(|leader| Ok::<_, rusqlite::Error>((leader, row.get(2)?, row.get(3)?)));
                Ok((row.get(0)?, leader.transpose()?))
            })?;
        if let Some((leader, lease, until)) = &leader
            && leader != who
        {
            // The clock may have been set back since the lease was given.
            let longest = self.now.saturating_add(*lease);
            if *until > longest {
                self.connection.prepare_cached("UPDATE schedule SET lease_until = ?1")?.execute([longest])?;
            }
            let until = longest.min(*until);
            if until > self.now {
                return Ok(Lead::Led { by: leader.clone(), remaining: duration(until.saturating_sub(self.now)) });
            }
        }
        if leader.is_none_or(|(leader, ..)| leader != who) {
            term += 1;
        }
        let (lease, sql) = (micros(lease), "UPDATE schedule SET term = ?1, leader = ?2, lease = ?3, lease_until = ?4");
        self.connection.prepare_cached(sql)?.execute((term, who, lease, self.now.saturating_add(lease)))?;
        Ok(Lead::Leading(Term(term.cast_unsigned())))
    }

    pub(crate) fn resign(&mut self, term: Term) -> Outcome {
        if self.leads(term)? {
            let sql =
                "UPDATE schedule SET leader = NULL, lease = NULL, lease_until = NULL, resignations = resignations + 1";
            self.connection.prepare_cached(sql)?.execute([])?;
            self.effects.schedule = Some(Mark::read(self.connection)?);
        }
        Ok(())
    }

    /// Whether `term` is the newest, and was not resigned.
    fn leads(&self, term: Term) -> Outcome<bool> {
        let sql = "SELECT 1 FROM schedule WHERE term = ?1 AND leader IS NOT NULL";
        Ok(self.connection.prepare_cached(sql)?.exists([signed(term.0)])?)
    }

    pub(crate) fn advance(&mut self, term: Term, steps: Vec<Next>) -> Outcome<Advance> {
        if !self.leads(term)? {
            return Ok(Advance::Fenced);
        }
        steps.into_iter().map(|step| self.step(step)).collect::<Outcome<_>>().map(Advance::Stepped)
    }

    fn step(&mut self, step: Next) -> Outcome<Stepped> {
        let Next { name, revision, steps, state, publish } = step;
        let parcels = match publish {
            Ok(parcels) => parcels,
            Err(error) => {
                let sql = "SELECT 1 FROM entry WHERE name = ?1 AND revision = ?2 AND steps = ?3";
                let is_next = self.connection.prepare_cached(sql)?.exists((name.as_bytes(), revision, steps))?;
                return Ok(if is_next { Stepped::Refused(error) } else { Stepped::Stale });
            }
        };
        // A single statement needs none.
        let publishes = !parcels.is_empty();
        if publishes {
            self.connection.prepare_cached("SAVEPOINT step")?.execute([])?;
        }
        let before = std::mem::take(&mut self.effects);
        let sql = "UPDATE entry SET state = ?4, steps = steps + 1 WHERE name = ?1 AND revision = ?2 AND steps = ?3";
        let taken = self.connection.prepare_cached(sql)?.execute((name.as_bytes(), revision, steps, &*state))? > 0;
        let published = if taken { parcels.iter().try_for_each(|parcel| self.publish(parcel)) } else { Ok(()) };
        let stepped = match published {
            Ok(()) if taken => Stepped::Done,
            Ok(()) => Stepped::Stale,
            // As a broker says it; anything else is no fault of the step's.
            Err(Fault::Said(error)) if !error.is_retryable() => {
                self.connection.execute_batch("ROLLBACK TO step")?;
                self.undone();
                Stepped::Refused(error)
            }
            Err(fault) => return Err(fault),
        };
        if publishes {
            self.connection.prepare_cached("RELEASE step")?.execute([])?;
        }
        let done = std::mem::replace(&mut self.effects, before);
        self.effects.absorb(done);
        Ok(stepped)
    }
}

/// An entry, if it is there.
pub(crate) fn get(connection: &Connection, name: &EntryName) -> Outcome<Option<StoredEntry>> {
    let sql = "SELECT name, revision, definition, state, steps FROM entry WHERE name = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([name.as_bytes()])?;
    rows.next()?.map(read).transpose()
}

/// Up to `limit` entries behind `after`.
pub(crate) fn list(connection: &Connection, after: Option<&EntryName>, limit: usize) -> Outcome<Vec<StoredEntry>> {
    let mut statement = connection.prepare_cached(LIST)?;
    // No name is empty.
    let mut rows = statement.query((after.map_or(&b""[..], |name| name.as_bytes()), most(limit)))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(read(row)?);
    }
    Ok(entries)
}

/// What has changed after `since`.
pub(crate) fn changes(connection: &Connection, since: Revision, limit: usize) -> Outcome<Changes> {
    // One transaction, so that all is of the same instant.
    let whole = connection.unchecked_transaction()?;
    let sql = "SELECT revision, forgotten FROM schedule";
    let (latest, forgotten) = whole.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if since == Revision::START || since < revision(forgotten) || since > revision(latest) {
        return Ok(Changes::Unknown { until: revision(latest) });
    }
    let mut statement = whole.prepare_cached(CHANGES)?;
    let mut rows = statement.query((signed(since.0), most(limit).saturating_add(1)))?;
    let (mut changes, mut until, mut more) = (Vec::new(), since, false);
    while let Some(row) = rows.next()? {
        if changes.len() == limit {
            more = true;
            break;
        }
        until = revision(row.get(1)?);
        let is_there = !matches!(row.get_ref(2)?, ValueRef::Null);
        changes.push(if is_there { Change::Put(read(row)?) } else { Change::Removed(read_name(row)?) });
    }
    Ok(Changes::Known { changes, until, more })
}

fn read_name(row: &Row<'_>) -> Outcome<EntryName> {
    let bytes: Vec<u8> = row.get(0)?;
    let broken = |name: &[u8]| format!("`{}` names no entry", name.escape_ascii());
    let name = String::from_utf8(bytes)
        .map_err(|error| Error::malformed("read entry", broken(error.as_bytes())).with_source(error))?;
    Ok(EntryName::new(name)?)
}

fn read(row: &Row<'_>) -> Outcome<StoredEntry> {
    let definition: Vec<u8> = row.get(2)?;
    let state: Option<Vec<u8>> = row.get(3)?;
    let steps: i64 = row.get(4)?;
    let entry = StoredEntry::new(read_name(row)?, definition, revision(row.get(1)?));
    Ok(entry.with_state(state.map(Bytes::from), steps.cast_unsigned()))
}

#[cfg(test)]
mod tests;
