//! Keeping the write-ahead log short. SQLite begins it anew only in an instant when nobody reads from it; while somebody
//! always does, that instant has to be brought about.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::Outcome;
use crate::writer::Writer;

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
}

impl Log {
    pub(crate) fn new(database: &std::path::Path) -> Self {
        let mut path = database.to_owned().into_os_string();
        path.push("-wal");
        Self { path: path.into(), commits: 0, limit: LONG }
    }

    fn size(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }
}

impl Writer {
    /// Called after every commit.
    pub(crate) fn shorten_log(&mut self) {
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
