//! How fast tasks are sent and worked, beside the raw operations underneath: `cargo bench -p celeriac-benches`.
//!
//! Yardsticks: for memory a channel whose receiver spawns a future for each job; for SQLite the same rows written, taken and settled by raw batched
//! transactions on the same tables. Pairs run in turns; what is printed are medians.
#![expect(clippy::unwrap_used, reason = "a bench stops at the first error")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use celeriac_benches::runs::{BATCH, Goal, ROUNDS, all_done, app, round_trip, send, work};
use celeriac_benches::{Line, timed};
use rusqlite::Connection;
use tokio::sync::mpsc;

/// What the yardsticks take and settle at once: as many as a worker does under load.
const TAKEN: usize = 2_048;

/// The first half of a yardstick's job.
type Job = (usize, i64, i64);

async fn memory() {
    const TASKS: usize = 200_000;
    let mut sending = Line::new("memory: send, 2 x batches of 1000", "send to a channel", TASKS);
    let mut working = Line::new("memory: work, no results", "receive, spawn a future each", TASKS);
    let mut resulting = Line::new("memory: work with results", "the same, results into a locked map", TASKS);
    let mut whole = Line::new("memory: send and work with results", "the sum of the above", TASKS);
    for _ in 0..ROUNDS {
        let goal = Goal::new(TASKS);
        let ours = app("memory://", Arc::clone(&goal)).await;
        send(&ours, TASKS, true).await;
        let ours_plain = work(&ours, 2, goal.reached()).await;

        let ours = app("memory://", Goal::new(1)).await;
        let (ours_send, last) = timed(send(&ours, TASKS, false)).await;
        let ours_results = work(&ours, 2, all_done(&ours, last)).await;

        let (sender, receiver) = mpsc::unbounded_channel::<Job>();
        let (raw_send, ()) = timed(async {
            for n in 0..TASKS {
                sender.send((n, i64::try_from(n).unwrap(), 1)).unwrap();
            }
        })
        .await;
        let raw_plain = spawn_each(receiver, None).await;
        let (sender, receiver) = mpsc::unbounded_channel::<Job>();
        for n in 0..TASKS {
            sender.send((n, i64::try_from(n).unwrap(), 1)).unwrap();
        }
        let raw_results = spawn_each(receiver, Some(Arc::default())).await;

        sending.add(ours_send, raw_send);
        working.add(ours_plain, raw_plain);
        resulting.add(ours_results, raw_results);
        whole.add(ours_send + ours_results, raw_send + raw_results);
    }
    sending.print();
    working.print();
    resulting.print();
    whole.print();
}

type Results = Arc<Mutex<HashMap<usize, i64>>>;

/// The yardstick of memory: a future spawned for each job of the channel.
async fn spawn_each(mut receiver: mpsc::UnboundedReceiver<Job>, results: Option<Results>) -> Duration {
    let goal = Goal::new(receiver.len());
    let start = Instant::now();
    let mut batch = Vec::with_capacity(TAKEN);
    let waiting = Arc::clone(&goal);
    let received = tokio::spawn(async move {
        while receiver.recv_many(&mut batch, TAKEN).await > 0 {
            for (n, x, y) in batch.drain(..) {
                let (goal, results) = (Arc::clone(&goal), results.clone());
                tokio::spawn(async move {
                    let sum = std::hint::black_box(x + y);
                    if let Some(results) = results {
                        results.lock().unwrap().insert(n, sum);
                    }
                    goal.count();
                });
            }
            if receiver.is_empty() {
                break;
            }
        }
    });
    waiting.reached().await;
    let spent = start.elapsed();
    received.await.unwrap();
    spent
}

async fn sqlite() {
    const TASKS: usize = 100_000;
    let mut sending = Line::new("sqlite: send, 2 x batches of 1000, durable", "raw inserts, same rows", TASKS);
    let mut working = Line::new("sqlite: work, no results, durable", "raw take and delete", TASKS);
    let mut resulting = Line::new("sqlite: work with results, durable", "raw take, insert result, delete", TASKS);
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let url = |name: &str| format!("sqlite://{}", folder.path().join(name).display());

        let ours = app(&url("ours.db"), Goal::new(1)).await;
        let (ours_send, last) = timed(send(&ours, TASKS, false)).await;
        let rows = Rows::read(&folder.path().join("ours.db"));
        let ours_results = work(&ours, 2, all_done(&ours, last)).await;
        let result = Stored::read(&folder.path().join("ours.db"));
        ours.close().await.unwrap();

        let goal = Goal::new(TASKS);
        let ours = app(&url("plain.db"), Arc::clone(&goal)).await;
        send(&ours, TASKS, true).await;
        let ours_plain = work(&ours, 2, goal.reached()).await;
        ours.close().await.unwrap();

        let mut raw = raw_file(&folder.path().join("raw.db"), &url("raw.db")).await;
        let raw_send = rows.insert(&mut raw);
        let raw_results = raw_work(&mut raw, Some(&result));
        let mut raw = raw_file(&folder.path().join("raw2.db"), &url("raw2.db")).await;
        rows.insert(&mut raw);
        let raw_plain = raw_work(&mut raw, None);

        sending.add(ours_send, raw_send);
        working.add(ours_plain, raw_plain);
        resulting.add(ours_results, raw_results);
    }
    sending.print();
    working.print();
    resulting.print();
}

/// A file with Celeriac's tables, for raw use with the same durability.
async fn raw_file(path: &Path, url: &str) -> Connection {
    app(url, Goal::new(1)).await.close().await.unwrap();
    let raw = Connection::open(path).unwrap();
    raw.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;").unwrap();
    raw
}

/// The rows of sent tasks.
struct Rows(Vec<(i64, Vec<u8>, Vec<u8>, i64)>);

impl Rows {
    fn read(path: &Path) -> Self {
        let file = Connection::open(path).unwrap();
        let mut rows = file
            .prepare(
                "SELECT m.id, m.head, m.body, r.rank FROM message m JOIN ready r ON r.message = m.id ORDER BY m.id",
            )
            .unwrap();
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
        Self(rows.map(Result::unwrap).collect())
    }

    fn insert(&self, raw: &mut Connection) -> Duration {
        let start = Instant::now();
        for batch in self.0.chunks(BATCH) {
            let txn = raw.transaction().unwrap();
            {
                let mut message =
                    txn.prepare_cached("INSERT INTO message (id, head, body) VALUES (?1, ?2, ?3)").unwrap();
                let mut ready = txn
                    .prepare_cached("INSERT INTO ready (queue, rank, message, deliveries) VALUES (1, ?1, ?2, 0)")
                    .unwrap();
                for (id, head, body, rank) in batch {
                    message.execute((id, head, body)).unwrap();
                    ready.execute((rank, id)).unwrap();
                }
            }
            txn.commit().unwrap();
        }
        start.elapsed()
    }
}

/// A row of a result, to be stored under other ids.
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

/// The yardstick of SQLite: takes and settles in batches, a transaction each.
fn raw_work(raw: &mut Connection, result: Option<&Stored>) -> Duration {
    let mut tasks = result.map(|result| result.tasks.iter()).into_iter().flatten();
    let start = Instant::now();
    loop {
        let mut taken = Vec::with_capacity(TAKEN);
        let txn = raw.transaction().unwrap();
        {
            let mut select = txn
                .prepare_cached(
                    "SELECT r.rank, r.message, m.head, m.body FROM ready r JOIN message m ON m.id = r.message WHERE r.queue = 1 \
                     ORDER BY r.rank, r.message LIMIT ?1",
                )
                .unwrap();
            let rows = select
                .query_map([i64::try_from(TAKEN).unwrap()], |row| {
                    Ok((
                        row.get::<_, i64>(0)?,
                        row.get::<_, i64>(1)?,
                        row.get::<_, Vec<u8>>(2)?,
                        row.get::<_, Vec<u8>>(3)?,
                    ))
                })
                .unwrap();
            taken.extend(rows.map(Result::unwrap));
            let Some((rank, message, ..)) = taken.last() else { break };
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
            for (_, message, ..) in &taken {
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
    start.elapsed()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        // Named systems only, if any is named: `cargo bench -p celeriac-benches -- memory`.
        let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
        let wanted = |name: &str| named.is_empty() || named.iter().any(|arg| arg == name);
        if wanted("memory") {
            tokio::spawn(memory()).await.unwrap();
            round_trip("memory: round trip of a lone task", "memory://", 10_000).await;
        }
        if wanted("sqlite") {
            tokio::spawn(sqlite()).await.unwrap();
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", folder.path().join("trip.db").display());
            round_trip("sqlite: round trip of a lone task, durable", &url, 2_000).await;
        }
    });
}
