//! SQLite. Yardstick: the same rows written, taken and settled by raw batched transactions on the same tables, with the same durability.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use rusqlite::{Connection, ToSql};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{Kind, System, Yardsticks};
use crate::meter::{Meter, Spent};
use crate::ours::{BATCH, Goal, SLOTS, all_done, app, integer, send_adds, work};
use crate::pace::Pace;

/// What the yardstick takes and settles at once: as many as a worker does under load.
const TAKEN: usize = 2_048;

/// Files in one folder, each new.
#[derive(Debug)]
pub(super) struct Sqlite {
    /// Removes the folder, if this process has made it.
    _owned: Option<TempDir>,
    folder: PathBuf,
    name: String,
    number: usize,
    rows: Vec<Row>,
    result: Option<Stored>,
    /// The yardstick's, between sending and working. Locked for no other reason than that it cannot be shared.
    raw: Mutex<Option<Connection>>,
}

impl Sqlite {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        Self::of(Some(folder), path, "0.db")
    }

    pub(super) fn at(url: &str) -> Self {
        let path = Path::new(url.strip_prefix("sqlite://").unwrap());
        Self::of(None, path.parent().unwrap().to_owned(), path.file_name().unwrap().to_str().unwrap())
    }

    fn of(owned: Option<TempDir>, folder: PathBuf, name: &str) -> Self {
        let (name, rows, raw) = (name.to_owned(), Vec::new(), Mutex::new(None));
        Self { _owned: owned, folder, name, number: 0, rows, result: None, raw }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// The file with Celeriac's tables, for raw use with the same durability.
    async fn raw_file(&self) -> Connection {
        app(&self.url(), Goal::new(1)).await.close().await.unwrap();
        open(&self.path())
    }
}

fn open(path: &Path) -> Connection {
    let raw = Connection::open(path).unwrap();
    raw.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;").unwrap();
    raw
}

#[async_trait]
impl System for Sqlite {
    fn kind(&self) -> Kind {
        Kind::Sqlite
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    async fn version(&self) -> String {
        format!("SQLite {}", rusqlite::version())
    }

    fn yardsticks(&self) -> Yardsticks {
        Yardsticks {
            send: "raw inserts, same rows",
            plain: "raw take and delete",
            results: "raw take, insert result, delete",
            lone: "the same for one row, three commits, and its result read; a load shares the connection",
            idle: "none: SQLite cannot wait",
        }
    }

    async fn empty(&mut self) {
        self.raw = Mutex::new(None);
        for file in [&self.name, &format!("{}-wal", self.name), &format!("{}-shm", self.name)] {
            // Some are not there.
            let _ = std::fs::remove_file(self.folder.join(file));
        }
        self.number += 1;
        self.name = format!("{}-{}.db", std::process::id(), self.number);
    }

    async fn capture(&mut self, count: usize) {
        self.empty().await;
        let ours = app(&self.url(), Goal::new(1)).await;
        let last = send_adds(&ours, count).await;
        self.rows = read_rows(&self.path());
        let setup = ours.worker().concurrency(SLOTS);
        work(setup, &Meter::new(Vec::new()), all_done(&ours, last)).await;
        self.result = Some(Stored::read(&self.path()));
        ours.close().await.unwrap();
        self.empty().await;
    }

    async fn raw_send(&mut self, count: usize, _: bool, meter: &Meter) -> Spent {
        let mut raw = self.raw_file().await;
        let start = meter.start();
        for batch in self.rows[..count].chunks(BATCH) {
            insert(&mut raw, batch);
        }
        let spent = start.stop();
        self.raw = Mutex::new(Some(raw));
        spent
    }

    async fn raw_work(&mut self, _: usize, results: bool, meter: &Meter) -> Spent {
        let mut raw = self.raw.get_mut().unwrap().take().unwrap_or_else(|| open(&self.path()));
        let result = self.result.as_ref().filter(|_| results);
        assert!(result.is_some() || !results, "nothing was captured");
        let mut tasks = result.map(|result| result.tasks.iter()).into_iter().flatten();
        let start = meter.start();
        loop {
            let taken = take(&mut raw);
            if taken.is_empty() {
                return start.stop();
            }
            settle(&mut raw, &taken, result, &mut tasks);
        }
    }

    async fn raw_lone(&mut self, count: usize, load: Option<f64>) -> Vec<f64> {
        self.empty().await;
        let lone = self.rows[0].clone();
        let result = Arc::new(self.result.take().unwrap());
        // Fair: who has waited longest is next.
        let shared = Arc::new(tokio::sync::Mutex::new(self.raw_file().await));
        let loading = load.map(|rate| {
            let (shared, lone, result) = (Arc::clone(&shared), lone.clone(), Arc::clone(&result));
            tokio::spawn(async move {
                let mut pace = Pace::new(rate);
                loop {
                    let before = pace.so_far();
                    let ids = before..before + pace.due().await;
                    let rows: Vec<Row> =
                        ids.clone().map(|n| Row { id: integer(count + n + 1), ..lone.clone() }).collect();
                    let mut raw = shared.lock().await;
                    let mut tasks = ids.map(|n| format!("load-{n:031}"));
                    insert(&mut raw, &rows);
                    while let taken = take(&mut raw)
                        && !taken.is_empty()
                    {
                        settle(&mut raw, &taken, Some(&result), &mut tasks);
                    }
                }
            })
        });
        let mut times = Vec::with_capacity(count);
        for n in 0..count {
            let (row, task) = (Row { id: integer(n + 1), ..lone.clone() }, format!("lone-{n:031}"));
            let start = Instant::now();
            let mut raw = shared.lock().await;
            insert(&mut raw, &[row]);
            let taken = take(&mut raw);
            settle(&mut raw, &taken, Some(&result), &mut std::iter::once(&task));
            let mut read = raw.prepare_cached("SELECT payload FROM result WHERE task = ?1").unwrap();
            let _: Vec<u8> = read.query_row([&task], |row| row.get(0)).unwrap();
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        if let Some(loading) = loading {
            loading.abort();
            let _ = loading.await;
        }
        self.result = Arc::into_inner(result);
        times
    }

    async fn raw_idle(&mut self) -> Option<JoinHandle<()>> {
        None
    }
}

/// The rows of a task that was sent.
#[derive(Debug, Clone)]
struct Row {
    id: i64,
    head: Vec<u8>,
    body: Vec<u8>,
    rank: i64,
}

fn read_rows(path: &Path) -> Vec<Row> {
    let file = Connection::open(path).unwrap();
    let mut rows = file
        .prepare("SELECT m.id, m.head, m.body, r.rank FROM message m JOIN ready r ON r.message = m.id ORDER BY m.id")
        .unwrap();
    let row =
        |row: &rusqlite::Row<'_>| Ok(Row { id: row.get(0)?, head: row.get(1)?, body: row.get(2)?, rank: row.get(3)? });
    rows.query_map([], row).unwrap().map(Result::unwrap).collect()
}

/// A row of a result, to be stored under other ids.
#[derive(Debug)]
struct Stored {
    /// The ids of the tasks, in the order in which they ended.
    tasks: Vec<String>,
    payload: Vec<u8>,
    content_type: String,
    children: Option<Vec<u8>>,
    date_done: i64,
}

impl Stored {
    fn read(path: &Path) -> Self {
        let file = Connection::open(path).unwrap();
        let mut ids = file.prepare("SELECT task FROM result ORDER BY id").unwrap();
        let ids: Vec<String> = ids.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let mut ids = Some(ids);
        file.query_row("SELECT payload, content_type, children, date_done FROM result LIMIT 1", [], |row| {
            let (payload, content_type) = (row.get(0)?, row.get(1)?);
            Ok(Self {
                tasks: ids.take().unwrap_or_default(),
                payload,
                content_type,
                children: row.get(2)?,
                date_done: row.get(3)?,
            })
        })
        .unwrap()
    }
}

/// Inserts tasks: one transaction.
fn insert(raw: &mut Connection, rows: &[Row]) {
    let txn = raw.transaction().unwrap();
    {
        let mut message = txn.prepare_cached("INSERT INTO message (id, head, body) VALUES (?1, ?2, ?3)").unwrap();
        let mut ready =
            txn.prepare_cached("INSERT INTO ready (queue, rank, message, deliveries) VALUES (1, ?1, ?2, 0)").unwrap();
        for Row { id, head, body, rank } in rows {
            message.execute((id, head, body)).unwrap();
            ready.execute((rank, id)).unwrap();
        }
    }
    txn.commit().unwrap();
}

/// Rank, id, head and body of a task that was taken.
type Taken = (i64, i64, Vec<u8>, Vec<u8>);

/// Takes tasks and holds them: one transaction. Nothing is written if there are none.
fn take(raw: &mut Connection) -> Vec<Taken> {
    let mut taken = Vec::with_capacity(TAKEN);
    let txn = raw.transaction().unwrap();
    {
        let mut select = txn
            .prepare_cached(
                "SELECT r.rank, r.message, m.head, m.body FROM ready r JOIN message m ON m.id = r.message WHERE r.queue = 1 \
                 ORDER BY r.rank, r.message LIMIT ?1",
            )
            .unwrap();
        let row = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Taken> {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        };
        taken.extend(select.query_map([integer(TAKEN)], row).unwrap().map(Result::unwrap));
        let Some((rank, message, ..)) = taken.last() else { return taken };
        txn.prepare_cached("DELETE FROM ready WHERE queue = 1 AND (rank, message) <= (?1, ?2)")
            .unwrap()
            .execute((rank, message))
            .unwrap();
        let mut hold = txn
            .prepare_cached(
                "INSERT INTO held (owner, tag, message, queue, rank, deliveries) VALUES (1, ?1, ?1, 1, ?2, 1)",
            )
            .unwrap();
        for (rank, message, ..) in &taken {
            hold.execute((message, rank)).unwrap();
        }
    }
    txn.commit().unwrap();
    taken
}

/// Ends what was taken, with results under the next ids of `tasks` or without: one transaction.
fn settle<T: ToSql>(
    raw: &mut Connection,
    taken: &[Taken],
    result: Option<&Stored>,
    tasks: &mut impl Iterator<Item = T>,
) {
    let txn = raw.transaction().unwrap();
    {
        let mut release = txn.prepare_cached("DELETE FROM held WHERE owner = 1 AND tag = ?1").unwrap();
        let mut delete = txn.prepare_cached("DELETE FROM message WHERE id = ?1").unwrap();
        let mut store = txn
            .prepare_cached(
                "INSERT INTO result (task, state, content_type, payload, children, date_done, expires) \
                 VALUES (?1, 'SUCCESS', ?2, ?3, ?4, ?5, ?5)",
            )
            .unwrap();
        for (_, message, ..) in taken {
            if let Some(result) = result {
                let task = tasks.next().unwrap();
                store
                    .execute((task, &result.content_type, &result.payload, &result.children, result.date_done))
                    .unwrap();
            }
            release.execute([message]).unwrap();
            delete.execute([message]).unwrap();
        }
    }
    txn.commit().unwrap();
}
