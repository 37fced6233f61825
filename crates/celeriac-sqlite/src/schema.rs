//! Opening the file: what it must not be, and the tables it holds.
//!
//! A message's row never changes once it is written, however large it is. Where the message stands is a small row in one of
//! three tables: `ready`, `delayed` or `held`; their primary keys are the orders in which they are read, so that no other
//! index has to be kept.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use celeriac_core::{Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::checkpoint::TOO_MANY;
use crate::config::{Durability, SqliteConfig};
use crate::error::{Fault, Outcome};
use crate::news::Mark;

/// So many symbolic links to symbolic links are followed, as by Linux.
const MOST_LINKS: u8 = 40;
/// `Cele` in ASCII: says that a file is ours.
const APPLICATION_ID: i64 = 0x4365_6c65;
/// Goes up with every change to the tables, and to how their columns are written: also with every new name in `wire`.
const VERSION: i64 = 2;

/// What leads from each version to the next, from an empty file on.
const MIGRATIONS: [&str; 2] = [TABLES, SCHEDULE];

/// `rank` orders messages within a queue: twice the distance from the highest priority, plus one unless the message was
/// handed back. `expires`, `due` and the like are microseconds since 1970; `deliveries` counts past ones, in `held` the
/// present one too. `watching` has the bits of `Watching`.
const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('topology', 0);

CREATE TABLE queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    durable INTEGER NOT NULL,
    auto_delete INTEGER NOT NULL,
    max_priority INTEGER,
    message_ttl INTEGER,
    expires INTEGER,
    idle_since INTEGER NOT NULL
) STRICT;
CREATE TABLE exchange (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL) STRICT;
CREATE TABLE binding (
    exchange INTEGER NOT NULL, key TEXT NOT NULL, queue INTEGER NOT NULL,
    PRIMARY KEY (exchange, key, queue)
) STRICT, WITHOUT ROWID;

CREATE TABLE owner (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    lease_until INTEGER NOT NULL,
    watching INTEGER NOT NULL
) STRICT;
CREATE TABLE consumer (
    id INTEGER PRIMARY KEY AUTOINCREMENT, owner INTEGER NOT NULL, queue INTEGER NOT NULL, name TEXT
) STRICT;

CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    exchange TEXT, routing_key TEXT,
    head BLOB NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE TABLE ready (
    queue INTEGER NOT NULL, rank INTEGER NOT NULL, message INTEGER NOT NULL,
    deliveries INTEGER NOT NULL, expires INTEGER,
    PRIMARY KEY (queue, rank, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX ready_expiry ON ready (expires) WHERE expires IS NOT NULL;
CREATE TABLE delayed (
    queue INTEGER NOT NULL, due INTEGER NOT NULL, message INTEGER NOT NULL,
    rank INTEGER NOT NULL, deliveries INTEGER NOT NULL, expires INTEGER,
    PRIMARY KEY (queue, due, message)
) STRICT, WITHOUT ROWID;
CREATE TABLE held (
    owner INTEGER NOT NULL, tag INTEGER NOT NULL, message INTEGER NOT NULL,
    queue INTEGER NOT NULL, rank INTEGER NOT NULL, deliveries INTEGER NOT NULL, expires INTEGER,
    PRIMARY KEY (owner, tag)
) STRICT, WITHOUT ROWID;

CREATE TABLE result (
    id INTEGER PRIMARY KEY,
    task TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    content_type TEXT, payload BLOB,
    traceback TEXT, children BLOB, date_done INTEGER,
    group_id TEXT, parent_id TEXT, extended BLOB,
    expires INTEGER
) STRICT;
CREATE INDEX result_expiry ON result (expires) WHERE expires IS NOT NULL;
";

/// Names are bytes, and so is their order. The first revision is kept free, so that those who have read an empty store are not
/// at the start. `forgotten` is that of the latest removal that is no longer in `removed`. Without a `leader`, nobody leads.
const SCHEDULE: &str = "
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    name BLOB NOT NULL UNIQUE,
    revision INTEGER NOT NULL UNIQUE,
    steps INTEGER NOT NULL,
    definition BLOB NOT NULL,
    state BLOB
) STRICT;
CREATE TABLE removed (revision INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE) STRICT;
CREATE TABLE schedule (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL,
    forgotten INTEGER NOT NULL,
    resignations INTEGER NOT NULL,
    term INTEGER NOT NULL,
    leader TEXT, lease INTEGER, lease_until INTEGER
) STRICT;
INSERT INTO schedule (id, revision, forgotten, resignations, term) VALUES (1, 1, 0, 0, 0);
";

/// An open database, and the places beside it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) place: Place,
    /// Where the schedule stands.
    pub(crate) mark: Mark,
    /// Whoever holds this file's lock may begin to write: SQLite's own waiting starves some for seconds.
    pub(crate) turnstile: File,
}

/// Where the database is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The file, without symbolic links.
    pub(crate) path: PathBuf,
    /// The directory beside it: locks and sockets.
    pub(crate) side: PathBuf,
    /// Which file it is, whatever its name.
    identity: Option<(u64, u64)>,
}

impl Place {
    pub(crate) fn new(path: PathBuf) -> Self {
        let mut side = path.clone().into_os_string();
        side.push(".d");
        Self { path, side: side.into(), identity: None }
    }

    /// Checks that the file still is where it was: SQLite would go on to write to one that was deleted.
    pub(crate) fn check(&self) -> Outcome {
        match identity(&self.path) {
            Ok(now) if now == self.identity => Ok(()),
            Ok(_) => Err(self.gone("replaced by another file")),
            Err(_) => Err(self.gone("deleted")),
        }
    }

    fn gone(&self, what: &str) -> Fault {
        Fault::Said(Error::unavailable("write", format!("`{}` was {what} while in use", self.path.display())))
    }
}

fn refuse(why: String) -> Fault {
    Fault::Said(Error::config("open", why))
}

/// Opens the database, and makes it if there is none. Blocks.
pub(crate) fn open(config: &SqliteConfig) -> Result<Opened> {
    try_open(config).map_err(|fault| match fault {
        Fault::Sql(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            Error::config("open", format!("`{}` is not an SQLite database", config.path.display())).with_source(error)
        }
        fault => fault.explain("open", &config.path),
    })
}

fn try_open(config: &SqliteConfig) -> Outcome<Opened> {
    config.check()?;
    let mut place = locate(&config.path)?;
    if place.path.exists() {
        // Looked at before anything is written beside a file that may be another program's.
        check(&first(connect(&place.path, config, false), &place.path)?, &place.path)?;
    }
    if let Err(error) = fs::create_dir(&place.side)
        && !place.side.is_dir()
    {
        return Err(Fault::Said(
            Error::config("open", format!("cannot create `{}`", place.side.display())).with_source(error),
        ));
    }
    let turnstile = lock_file(&place.side.join("turnstile"))?;
    lock(&turnstile)?;
    let connection = first(connect(&place.path, config, true), &place.path)?;
    prepare(&connection, &place.path)?;
    place.identity = identity(&place.path)?;
    let mark = Mark::read(&connection)?;
    turnstile.unlock()?;
    Ok(Opened { connection, place, mark, turnstile })
}

/// At first, a file that cannot be opened is one that was named wrongly.
fn first(opened: Outcome<Connection>, path: &Path) -> Outcome<Connection> {
    opened.map_err(|fault| match fault {
        Fault::Sql(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly)
            ) =>
        {
            let why = format!("`{}` cannot be opened", path.display());
            Fault::Said(Error::config("open", why).with_source(error))
        }
        fault => fault,
    })
}

#[cfg(unix)]
fn identity(path: &Path) -> std::io::Result<Option<(u64, u64)>> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map(|file| Some((file.dev(), file.ino())))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> std::io::Result<Option<(u64, u64)>> {
    fs::metadata(path).map(|_| None)
}

/// Opens the file whose lock, not whose content, matters.
pub(crate) fn lock_file(path: &Path) -> std::io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

/// Waits for the lock, whatever signals come in between.
pub(crate) fn lock(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// A connection that only reads.
pub(crate) fn reader(place: &Place, config: &SqliteConfig) -> Outcome<Connection> {
    let connection = connect(&place.path, config, false)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn locate(path: &Path) -> Outcome<Place> {
    locate_behind(path, 0)
}

/// Where a symbolic link points to, be there a file or not: SQLite would make one there.
fn link_target(path: &Path, links: u8) -> Outcome<Option<PathBuf>> {
    let Ok(target) = fs::read_link(path) else { return Ok(None) };
    if links >= MOST_LINKS {
        return Err(refuse(format!("`{}` is one of too many symbolic links", path.display())));
    }
    Ok(Some(path.parent().map_or_else(|| target.clone(), |parent| parent.join(&target))))
}

fn locate_behind(path: &Path, links: u8) -> Outcome<Place> {
    if path.is_dir() {
        return Err(refuse(format!("`{}` is a directory", path.display())));
    }
    let name = path.file_name().ok_or_else(|| refuse(format!("`{}` names no file", path.display())))?;
    if let Some(target) = link_target(path, links)? {
        return locate_behind(&target, links + 1);
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let parent = parent.canonicalize().map_err(|error| {
        Error::config("open", format!("the directory `{}` of the database cannot be entered", parent.display()))
            .with_source(error)
    })?;
    if let Some(system) = network_file_system(&parent) {
        return Err(refuse(format!(
            "`{}` is on {system}: processes on different machines cannot share a database; use a local disk, or another broker",
            path.display()
        )));
    }
    Ok(Place::new(path.canonicalize().unwrap_or_else(|_| parent.join(name))))
}

#[cfg(target_os = "linux")]
fn network_file_system(directory: &Path) -> Option<&'static str> {
    // linux/magic.h and the file systems' own sources.
    // Of another type, and signed or not, from one architecture to the next.
    let magic = rustix::fs::statfs(directory).ok()?.f_type & 0xffff_ffff;
    match magic {
        0x6969 => Some("NFS"),
        0x517b | 0xfe53_4d42 | 0xff53_4d42 => Some("SMB"),
        0x5346_414f | 0x6b41_4653 => Some("AFS"),
        0x0bd0_0bd0 => Some("Lustre"),
        0x00c3_6400 => Some("Ceph"),
        0x0102_1997 => Some("9P"),
        _ => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn network_file_system(_: &Path) -> Option<&'static str> {
    None
}

fn connect(path: &Path, config: &SqliteConfig, create: bool) -> Outcome<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(config.busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Else a statement whose table has a partial index is compiled again for each new value that is bound to it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    let synchronous = match config.durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // Several processes with a mapped file have been seen to damage it.
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "cache_size", -16_000)?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    // Only where the pages of the log are not copied in time by those who should.
    connection.pragma_update(None, "wal_autocheckpoint", TOO_MANY)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

fn newer(version: i64, path: &std::path::Display<'_>) -> Fault {
    refuse(format!("`{path}` was made by a newer celeriac: its schema is version {version}, this one knows {VERSION}"))
}

/// Whether another process of a newer version has changed the tables meanwhile.
pub(crate) fn check_version(connection: &Connection, path: &Path) -> Outcome {
    let version = connection.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))?;
    if version > VERSION { Err(newer(version, &path.display())) } else { Ok(()) }
}

/// Checks that the file is one of ours, and tells the version of its tables; 0 if it is empty.
fn check(connection: &Connection, path: &Path) -> Outcome<i64> {
    let path = path.display();
    // One transaction, for another process may be creating it at this moment.
    let whole = connection.unchecked_transaction()?;
    let number = |sql: &str| whole.query_row(sql, [], |row| row.get::<_, i64>(0));
    let (id, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    whole.finish()?;
    if connection.is_readonly("main")? {
        return Err(refuse(format!("`{path}` cannot be written to")));
    }
    if tables == 0 && id == 0 {
        return Ok(0);
    }
    if id != APPLICATION_ID {
        return Err(refuse(format!("`{path}` is another program's database: its application id is {id}")));
    }
    if version > VERSION {
        return Err(newer(version, &path));
    }
    Ok(version)
}

/// Makes the tables unless they are there, and those of an older version the present ones. Called with the turnstile held.
fn prepare(connection: &Connection, path: &Path) -> Outcome {
    let version = check(connection, path)?;
    if version == VERSION {
        return Ok(());
    }
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(refuse(format!("`{}` is on a file system where SQLite cannot share it", path.display())));
    }
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let done = usize::try_from(version).unwrap_or(0);
    MIGRATIONS.iter().skip(done).try_for_each(|migration| transaction.execute_batch(migration))?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_just_being_created_is_never_another_programs() {
        let directory = tempfile::tempdir().unwrap();
        for n in 0..30 {
            let config = SqliteConfig::new(directory.path().join(format!("{n}.db"))).durability(Durability::Normal);
            let path = config.path().to_owned();
            connect(&path, &config, true).unwrap();
            std::thread::scope(|scope| {
                let looking = scope.spawn(|| {
                    let connection = connect(&path, &config, false).unwrap();
                    while check(&connection, &path).unwrap() != VERSION {}
                });
                prepare(&connect(&path, &config, true).unwrap(), &path).unwrap();
                looking.join().unwrap();
            });
        }
    }
}
