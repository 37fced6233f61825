//! Stores as owners of deliveries: the lease, the lock that ends with the process, and what becomes of the dead.
//!
//! Every owner holds the lock of a file of its own for as long as its process lives; the kernel ends it with the process,
//! however that dies. Whoever gets the lock knows that its owner is dead. A process that is stopped keeps its lock, but does
//! not renew its lease.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension};

use crate::error::Outcome;
use crate::schema::{Place, lock_file};
use crate::txn::{Me, Txn};
use crate::wake::{self, Wake};
use crate::writer::Writer;

/// This store as an owner.
pub(crate) struct Owner {
    pub(crate) me: Me,
    /// Held as long as the process lives.
    lock: File,
    /// The locks of the others, opened to see whether they are held.
    others: HashMap<i64, File>,
    known: Vec<Other>,
    /// Those whose lease was over when this store could write, with the lease's end.
    suspects: HashMap<i64, i64>,
    /// SQLite's count of changes by others, when `known` was read.
    seen: i64,
}

#[derive(Debug, Clone, Copy)]
struct Other {
    id: i64,
    lease_until: i64,
    holds: bool,
}

fn lock_path(place: &Place, owner: i64) -> PathBuf {
    place.side.join(format!("{owner}.lock"))
}

impl Owner {
    /// Whether others took this store for dead.
    fn is_forgotten(&self, connection: &Connection) -> Outcome<bool> {
        Ok(!connection.prepare_cached("SELECT 1 FROM owner WHERE id = ?1")?.exists([self.me.id])?)
    }

    /// Makes a lock anew that somebody has deleted. Without one, the lease still speaks for this store.
    fn lock_again(&mut self, place: &Place) {
        let path = lock_path(place, self.me.id);
        if path.exists() {
            return;
        }
        // There already, mostly.
        let _ = fs::create_dir(&place.side);
        if let Ok(lock) = lock_file(&path)
            && lock.try_lock().is_ok()
        {
            self.lock = lock;
        }
    }
}

impl Writer {
    /// Makes this store an owner, with a lock and a socket.
    pub(crate) fn join(&mut self) -> Outcome {
        let lease = self.shared.lease;
        let place = self.opened.place.clone();
        let (id, lease_until, lock) = self.transaction(|txn| {
            let lease_until = txn.now.saturating_add(lease);
            let sql = "INSERT INTO owner (lease_until, watching) VALUES (?1, 0)";
            let id = txn.connection.prepare_cached(sql)?.insert([lease_until])?;
            // A new id belongs to nobody else: who holds such a lock uses a file that was here before this one.
            let path = lock_path(&place, id);
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error.into());
            }
            let lock = lock_file(&path)?;
            lock.try_lock().map_err(io::Error::from)?;
            remove_strays(txn.connection, &place)?;
            Ok((id, lease_until, lock))
        })?;
        self.owner = Some(Owner {
            me: Me { id, lease_until, lease, next_tag: 1 },
            lock,
            others: HashMap::new(),
            known: Vec::new(),
            suspects: HashMap::new(),
            seen: -1,
        });
        if let Err(error) = wake::listen(&self.shared, id) {
            tracing::warn!(%error, "no socket to be woken by: work of other processes is noticed within a second");
        }
        self.tick_soon();
        Ok(())
    }

    /// Hands everything back and takes the owner's traces away.
    pub(crate) fn leave(&mut self) {
        let Some(id) = self.owner.as_ref().map(|owner| owner.me.id) else { return };
        let outcome = self.transaction(|txn| txn.bury(id));
        // It has been told that this store ends.
        wake::remind(&self.opened.place, id);
        match outcome {
            Ok(()) => remove_traces(&self.opened.place, id),
            Err(fault) => {
                let error = fault.explain("close", &self.opened.place.path);
                tracing::warn!(error = %error.report(), "what is held comes back once this process has ended");
            }
        }
        self.owner = None;
    }

    /// Once a second while this store consumes, holds or watches: notices what no socket told, renews the lease, and
    /// recovers what the dead held.
    pub(crate) fn tick(&mut self) {
        if let Err(fault) = self.try_tick() {
            let error = fault.explain("recover", &self.opened.place.path);
            tracing::warn!(error = %error.report(), "the database cannot be looked after; trying again in a second");
        }
    }

    fn try_tick(&mut self) -> Outcome {
        if let Err(fault) = self.opened.place.check() {
            // Those who wait see it as well.
            self.shared.ready_all();
            let error = fault.explain("watch", &self.opened.place.path);
            self.shared.watches.fail(&error);
            self.shared.news.wake();
            return Err(error.into());
        }
        let now = self.shared.now();
        let connection = &self.opened.connection;
        let Some(owner) = &mut self.owner else { return Ok(()) };
        let version = connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        let mut forgotten = false;
        if version != owner.seen {
            owner.known = others(connection, owner.me.id)?;
            owner.seen = version;
            self.shared.ready_all();
            // That is work for the thread that is woken by others. Without one, it is done here.
            if self.shared.watches_anything() && !wake::remind(&self.opened.place, owner.me.id) {
                self.shared.woken(&Wake { everything: true, ..Wake::default() });
            }
            if owner.is_forgotten(connection)? {
                owner.lock_again(&self.opened.place);
                // Renewed below, which writes it down once more.
                owner.me.lease_until = 0;
                forgotten = true;
            }
        }
        let (mut dead, mut late) = (Vec::new(), Vec::new());
        for other in &owner.known {
            if is_dead(&self.opened.place, &mut owner.others, other, now) {
                dead.push(other.id);
            } else if other.holds && other.lease_until < now {
                late.push(other.id);
            }
        }
        owner.others.retain(|id, _| owner.known.iter().any(|other| other.id == *id));
        let renew = forgotten || self.held > 0 && owner.me.is_due(now);
        let me = owner.me.id;
        owner.suspects.retain(|id, _| late.contains(id));
        if dead.is_empty() && late.is_empty() && !renew {
            return Ok(());
        }
        owner.seen = -1;
        let mut suspects = std::mem::take(&mut owner.suspects);
        let held = self.transaction(|txn| {
            for id in &dead {
                txn.bury(*id)?;
                tracing::info!(owner = id, "recovered what a dead process held");
            }
            for id in &late {
                txn.recover_late(*id, &mut suspects)?;
            }
            if renew {
                txn.renew()?;
            }
            let sql = "SELECT count(*) FROM held WHERE owner = ?1";
            Ok(txn.connection.prepare_cached(sql)?.query_row([me], |row| row.get(0))?)
        })?;
        self.held = held;
        if let Some(owner) = &mut self.owner {
            owner.suspects = suspects;
        }
        for id in dead {
            remove_traces(&self.opened.place, id);
        }
        Ok(())
    }
}

impl Txn<'_> {
    /// Ends an owner: hands back what it held, and ends its consumers.
    fn bury(&mut self, owner: i64) -> Outcome {
        self.requeue_all(owner)?;
        self.drop_consumers("owner", owner)?;
        self.connection.prepare_cached("DELETE FROM owner WHERE id = ?1")?.execute([owner])?;
        self.topology.changed(self.connection)
    }

    /// Recovers what a stopped process holds, at the second look: while nobody could write, nobody could renew a lease
    /// either, so its owner is given the time until the next tick.
    fn recover_late(&mut self, owner: i64, suspects: &mut HashMap<i64, i64>) -> Outcome {
        let sql = "SELECT lease_until FROM owner WHERE id = ?1 AND lease_until < ?2";
        let found = self.connection.prepare_cached(sql)?.query_row((owner, self.now), |row| row.get(0)).optional()?;
        let Some(lease_until) = found else { return Ok(()) };
        if suspects.insert(owner, lease_until) != Some(lease_until) {
            return Ok(());
        }
        let count = self.requeue_all(owner)?;
        if count > 0 {
            tracing::warn!(owner, count, "recovered what a stopped process held, for its lease has ended");
        }
        Ok(())
    }

    /// Ends the consumers whose `column`, `id` or `owner`, is `value`, and the queues that go with their last consumer.
    pub(crate) fn drop_consumers(&mut self, column: &'static str, value: i64) -> Outcome {
        let sql = format!("DELETE FROM consumer WHERE {column} = ?1 RETURNING queue");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut queues = statement.query_map([value], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
        drop(statement);
        if queues.is_empty() {
            return Ok(());
        }
        queues.sort_unstable();
        queues.dedup();
        self.topology.changed(self.connection)?;
        for queue in queues {
            if self.connection.prepare_cached("SELECT 1 FROM consumer WHERE queue = ?1")?.exists([queue])? {
                continue;
            }
            let sql = "UPDATE queue SET idle_since = ?2 WHERE id = ?1 RETURNING auto_delete";
            let auto_delete =
                self.connection.prepare_cached(sql)?.query_row((queue, self.now), |row| row.get::<_, bool>(0));
            if auto_delete.unwrap_or(false) {
                self.topology.delete(self.connection, queue)?;
            }
        }
        Ok(())
    }
}

fn others(connection: &Connection, me: i64) -> Outcome<Vec<Other>> {
    let sql = "SELECT id, lease_until, EXISTS (SELECT 1 FROM held WHERE owner = owner.id) FROM owner WHERE id <> ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let others = statement
        .query_map([me], |row| Ok(Other { id: row.get(0)?, lease_until: row.get(1)?, holds: row.get(2)? }))?
        .collect::<Result<_, _>>()?;
    Ok(others)
}

/// Whether the lock of `owner` is free, or is not there and the lease is over. One that cannot be looked at proves nothing.
fn is_dead(place: &Place, opened: &mut HashMap<i64, File>, owner: &Other, now: i64) -> bool {
    let file = match opened.entry(owner.id) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => match File::open(lock_path(place, owner.id)) {
            Ok(file) => entry.insert(file),
            // If it lives all the same, it notices.
            Err(error) => return error.kind() == io::ErrorKind::NotFound && owner.lease_until < now,
        },
    };
    // Shared, so that two who look at once both see it. Kept until the file is closed: a dead owner does not return.
    file.try_lock_shared().is_ok()
}

fn remove_traces(place: &Place, owner: i64) {
    wake::remove_socket(place, owner);
    // Already gone if another process was faster.
    let _ = fs::remove_file(lock_path(place, owner));
}

/// Removes the locks of owners that died before they were written down, or after they were buried. Called in a
/// transaction, for so long no owner comes into being.
fn remove_strays(connection: &Connection, place: &Place) -> Outcome {
    for entry in fs::read_dir(&place.side)?.flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".lock")?.parse::<i64>().ok());
        let Some(id) = id else { continue };
        if connection.prepare_cached("SELECT 1 FROM owner WHERE id = ?1")?.exists([id])? {
            continue;
        }
        if File::open(entry.path()).is_ok_and(|file| file.try_lock_shared().is_ok()) {
            remove_traces(place, id);
        }
    }
    Ok(())
}
