//! Keeping the write-ahead log short. Most of its pages are copied to the database behind the writer's back; the writer copies the last of them,
//! for nobody else can see to it that no more come. SQLite begins the log anew in an instant when all of it is copied and nobody reads from it;
//! while somebody always does, that instant has to be brought about.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use crate::error::Outcome;
use crate::shared::Shared;
use crate::writer::Writer;

/// Pages of the log, of 4 KiB, from which on they are copied: many at a time, for each time waits for the disk, and what was written often is
/// copied once.
const MANY: i64 = if cfg!(test) { 250 } else { 4_000 };

/// Pages of the log from which on the writer itself copies them, if those who should do not keep up.
pub(crate) const TOO_MANY: i64 = 3 * MANY;

/// How often the log is copied before the writer copies the rest. SQLite waits for the disk where nothing came while it copied: the less there
/// is to copy, the likelier that is.
const PASSES: u32 = 3;

/// Bytes of the log from which on it is begun anew. Without readers SQLite does that by itself, long before.
const LONG: u64 = if cfg!(test) { 4 << 20 } else { 64 << 20 };

/// How long to wait for the readers of other processes.
const PATIENCE: Duration = Duration::from_millis(250);

/// The size is looked at after so many commits.
const COMMITS: u32 = 8;

#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    commits: u32,
    /// Above that many bytes something is done.
    limit: u64,
    copier: Option<Copier>,
}

impl Log {
    pub(crate) fn new(database: &std::path::Path) -> Self {
        let mut path = database.to_owned().into_os_string();
        path.push("-wal");
        Self { path: path.into(), commits: 0, limit: LONG, copier: None }
    }

    fn size(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }
}

/// A thread that copies pages from the log to the database, while the writer goes on.
#[derive(Debug)]
struct Copier {
    /// `None` once it is to end.
    orders: Option<SyncSender<()>>,
    copied: Receiver<()>,
    /// Whether it is at it.
    busy: bool,
    thread: Option<JoinHandle<()>>,
}

impl Copier {
    fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let (orders, queue) = mpsc::sync_channel::<()>(1);
        let (done, copied) = mpsc::sync_channel(1);
        let shared = Arc::clone(shared);
        let run = move || {
            while queue.recv().is_ok() {
                // All but the first have only what came meanwhile.
                let outcome = (0..PASSES).try_for_each(|_| shared.read(copy));
                if let Err(fault) = outcome {
                    let error = fault.explain("checkpoint", &shared.place.path);
                    tracing::debug!(error = %error.report(), "the writer copies the log itself");
                }
                if done.send(()).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("celeriac-copy".to_owned()).spawn(run)?;
        Ok(Self { orders: Some(orders), copied, busy: false, thread: Some(thread) })
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It has told whatever went wrong.
            let _ = thread.join();
        }
    }
}

/// Copies what can be copied without waiting for anybody.
fn copy(connection: &Connection) -> Outcome {
    connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))?;
    Ok(())
}

/// The version of SQLite from which on it tells about the log without copying it: else it copies by itself.
const TELLS: i32 = 3_051_000;

/// The pages of the log that were not copied so far.
fn waiting(connection: &Connection) -> Outcome<i64> {
    let mut look = connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
    Ok(look.query_row([], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))?)
}

impl Writer {
    /// Called after every commit.
    pub(crate) fn shorten_log(&mut self) {
        if let Err(fault) = self.copy_log() {
            let error = fault.explain("checkpoint", &self.opened.place.path);
            tracing::debug!(error = %error.report(), "the write-ahead log cannot be copied; SQLite does it by itself");
        }
        self.log.commits += 1;
        if self.log.commits < COMMITS {
            return;
        }
        self.log.commits = 0;
        let size = self.log.size();
        if size <= self.log.limit {
            return;
        }
        match self.in_turn(Self::restart_log) {
            Ok(true) => self.log.limit = LONG,
            // Others read for so long. Tried again once it is worth waiting again.
            Ok(false) => self.log.limit = size.saturating_add(LONG),
            Err(fault) => {
                self.log.limit = size.saturating_add(LONG);
                let error = fault.explain("checkpoint", &self.opened.place.path);
                tracing::warn!(error = %error.report(), size, "the write-ahead log cannot be shortened");
            }
        }
    }

    /// Has the log copied once there is enough of it, and copies the last of it once that is done: then it can be begun anew.
    fn copy_log(&mut self) -> Outcome {
        let (log, connection) = (&mut self.log, &self.opened.connection);
        if let Some(copier) = &mut log.copier
            && copier.busy
        {
            match copier.copied.try_recv() {
                Ok(()) => copier.busy = false,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => log.copier = None,
            }
            // ORDERING: as where a transaction begins: this takes its time.
            self.shared.writing.store(true, Ordering::Relaxed);
            let copied = copy(connection);
            self.shared.writing.store(false, Ordering::Relaxed);
            return copied;
        }
        if rusqlite::version_number() < TELLS || waiting(connection)? < MANY {
            return Ok(());
        }
        let copier = match &mut log.copier {
            Some(copier) => copier,
            none => none.insert(Copier::start(&self.shared)?),
        };
        copier.busy = copier.orders.as_ref().is_some_and(|orders| orders.try_send(()).is_ok());
        Ok(())
    }

    fn restart_log(&mut self) -> Outcome<bool> {
        // Another process may have done it meanwhile.
        if self.log.size() <= LONG {
            return Ok(true);
        }
        // ORDERING: as where a transaction begins: this takes its time.
        self.shared.writing.store(true, Ordering::Relaxed);
        let _alone = self.shared.hold_readers();
        let connection = &self.opened.connection;
        connection.busy_timeout(PATIENCE)?;
        let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        connection.busy_timeout(self.shared.config.busy_timeout)?;
        Ok(!busy?)
    }
}
