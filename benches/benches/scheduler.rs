//! What a beat costs with 100 and with 100,000 entries: `cargo bench -p celeriac-benches --bench scheduler -- memory|sqlite|redis`, all by default.
//!
//! Store and broker are one system, so each tick is taken and its task published in one step. Each case runs in a process of its own, so that memory that
//! another has freed is not taken for its own. *Start* is the time from beginning to run until all entries are read and the task of the first of
//! them, due already, is with a consumer that waits; *memory* what the process grew by meanwhile; *tick* the mean of 100,000 that were missed; *late*
//! how much later than due a consumer that waits has the task, while a hundred entries come every second, for ten seconds. The consumer has a handle of
//! its own on the system, as a worker elsewhere has.
//!
//! Yardsticks of a tick: for memory the same messages published, without any steps; for SQLite and Redis the same rows and keys written by raw
//! transactions of the same size.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops at the first error, and prints its table")]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use celeriac::broker::{ConsumeOptions, Consumer, Outgoing};
use celeriac::{App, CatchUp, Entry, QueueName, QueueSpec, Signature, TaskId, Timestamp};
use celeriac_core::{Clock as _, EntryName, SystemClock};
use celeriac_testkit::ManualClock;
use celeriac_testkit::server::RedisServer;
use deadpool_redis::redis::{Client, Pipeline, cmd};
use futures_util::{StreamExt as _, stream};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::sync::mpsc;

const SYSTEMS: [&str; 3] = ["memory", "sqlite", "redis"];
const QUEUE: &str = "housekeeping";
/// That were missed.
const TICKS: usize = 100_000;
/// What a beat does in one step at most: entries, and ticks of each.
const BATCH: (usize, usize) = (256, 64);

/// Where the entries are kept, and the tasks are sent to.
enum System {
    Memory,
    Sqlite(TempDir),
    Redis(Box<RedisServer>),
}

impl System {
    async fn start(name: &str) -> Self {
        match name {
            "memory" => Self::Memory,
            "sqlite" => Self::Sqlite(tempfile::tempdir().unwrap()),
            "redis" => Self::Redis(Box::new(RedisServer::builder().start().await)),
            other => panic!("`{other}` is none of {SYSTEMS:?}"),
        }
    }

    fn path(&self, number: usize) -> PathBuf {
        let Self::Sqlite(folder) = self else { panic!("not a file") };
        folder.path().join(format!("{number}.db"))
    }

    /// One of several stores.
    fn url(&self, number: usize) -> String {
        match self {
            Self::Memory => format!("memory://{number}"),
            Self::Sqlite(_) => format!("sqlite://{}", self.path(number).display()),
            Self::Redis(server) => format!("{}{number}", server.url().trim_end_matches('0')),
        }
    }

    async fn open(&self, number: usize) -> App {
        App::builder("bench").read_env(false).broker_url(self.url(number)).build().await.unwrap()
    }

    /// A store with entries that count since an instant each. The app is not the one whose beat is measured.
    async fn filled(&self, number: usize, entries: impl Iterator<Item = (Entry, Timestamp)>) -> App {
        let app = self.open(number).await;
        app.broker().declare(&QueueSpec::direct(queue())).await.unwrap();
        let put = async |(entry, since)| {
            app.schedule().unwrap().clock(Arc::new(ManualClock::at(since))).put(&entry).await.unwrap();
        };
        stream::iter(entries).map(put).buffer_unordered(256).for_each(|()| std::future::ready(())).await;
        app
    }

    /// The time that raw writes take for as many ticks.
    async fn raw(&self, number: usize, app: &App, entries: usize) -> Duration {
        match self {
            Self::Memory => raw_memory(app, entries).await,
            Self::Sqlite(_) => raw_sqlite(&self.path(number), entries),
            Self::Redis(_) => raw_redis(&self.url(number), entries).await,
        }
    }
}

/// How many steps and messages each transaction has.
fn transactions(entries: usize) -> impl Iterator<Item = (usize, usize)> {
    let steps = entries.min(BATCH.0);
    let most = steps * BATCH.1.min(TICKS / entries);
    (0..TICKS).step_by(most).map(move |done| (steps, most.min(TICKS - done)))
}

async fn raw_memory(app: &App, entries: usize) -> Duration {
    let mut consumer = consumer(app).await;
    let mut taken = consumer.recv(NonZeroUsize::MIN).await.unwrap();
    let message = Outgoing::new(taken.pop().unwrap().message, &queue());
    let start = Instant::now();
    for (_, messages) in transactions(entries) {
        app.broker().publish(vec![message.clone(); messages]).await.unwrap();
    }
    start.elapsed()
}

fn raw_sqlite(path: &std::path::Path, entries: usize) -> Duration {
    let mut raw = Connection::open(path).unwrap();
    raw.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;").unwrap();
    type Columns = (Vec<u8>, Vec<u8>);
    let columns = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let (head, body): Columns = raw.query_row("SELECT head, body FROM message LIMIT 1", [], columns).unwrap();
    let known: Vec<Columns> = {
        let mut known = raw.prepare("SELECT name, state FROM entry ORDER BY id").unwrap();
        known.query_map([], columns).unwrap().map(Result::unwrap).collect()
    };
    let mut known = known.iter().cycle();
    let start = Instant::now();
    for (steps, messages) in transactions(entries) {
        let txn = raw.transaction().unwrap();
        {
            let mut step =
                txn.prepare_cached("UPDATE entry SET state = ?2, steps = steps + 1 WHERE name = ?1").unwrap();
            let mut message = txn.prepare_cached("INSERT INTO message (head, body) VALUES (?1, ?2)").unwrap();
            let mut ready = txn
                .prepare_cached(
                    "INSERT INTO ready (queue, rank, message, deliveries) VALUES (1, 1, last_insert_rowid(), 0)",
                )
                .unwrap();
            for (name, state) in known.by_ref().take(steps) {
                step.execute((name, state)).unwrap();
            }
            for _ in 0..messages {
                message.execute((&head, &body)).unwrap();
                ready.execute([]).unwrap();
            }
        }
        txn.commit().unwrap();
    }
    start.elapsed()
}

async fn raw_redis(url: &str, entries: usize) -> Duration {
    const STATES: &str = "_celeriac.schedule.states";
    let mut raw = Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let envelope: Vec<u8> = cmd("LINDEX").arg(QUEUE).arg(0).query_async(&mut raw).await.unwrap();
    let known: Vec<(Vec<u8>, Vec<u8>)> = cmd("HGETALL").arg(STATES).query_async(&mut raw).await.unwrap();
    assert_eq!(known.len(), entries);
    let mut known = known.iter().cycle();
    let start = Instant::now();
    for (steps, messages) in transactions(entries) {
        let mut pipeline = Pipeline::with_capacity(steps + messages);
        pipeline.atomic();
        for (name, state) in known.by_ref().take(steps) {
            pipeline.cmd("HSET").arg(STATES).arg(name).arg(state).ignore();
        }
        for _ in 0..messages {
            pipeline.cmd("LPUSH").arg(QUEUE).arg(&envelope).ignore();
        }
        let _: () = pipeline.query_async(&mut raw).await.unwrap();
    }
    start.elapsed()
}

fn queue() -> QueueName {
    QueueName::from_static(QUEUE)
}

/// Kibibytes that the process holds.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn entry(number: usize, schedule: &str) -> Entry {
    let task = Signature::named("shop.cleanup").arg(number.to_string()).option("queue", QUEUE);
    Entry::new(EntryName::new(format!("entry-{number}")).unwrap(), schedule.parse().unwrap(), task)
}

/// Runs a beat for as long as `watch` takes.
async fn run<T>(app: App, watch: impl AsyncFnOnce() -> T) -> T {
    let beat = app.beat().build().unwrap();
    let handle = beat.handle();
    let running = tokio::spawn(beat.run());
    let result = watch().await;
    handle.stop();
    running.await.unwrap().unwrap();
    result
}

async fn consumer(app: &App) -> Box<dyn Consumer> {
    app.broker().consume(ConsumeOptions::new([queue()])).await.unwrap()
}

/// When the tick was due: the id says it, in milliseconds.
fn due(id: &TaskId) -> Timestamp {
    let digits: String = id.chars().filter(|digit| *digit != '-').take(12).collect();
    Timestamp::from_micros(i64::from_str_radix(&digits, 16).unwrap() * 1_000)
}

/// Tells how late each task comes.
async fn watch(mut consumer: Box<dyn Consumer>, late: mpsc::UnboundedSender<Duration>) {
    loop {
        let deliveries = consumer.recv(NonZeroUsize::new(16).unwrap()).await.unwrap();
        let now = SystemClock.now();
        for delivery in deliveries {
            let _ = late.send(now.since(due(&delivery.message.task().unwrap().id)));
            delivery.ack().await.unwrap();
        }
    }
}

/// Measures one case, and prints its line.
async fn measure(name: &str, count: usize) {
    let system = System::start(name).await;

    // One is due, the others come once a year.
    let now = SystemClock.now();
    let mut schedules = vec!["crontab 0 0 1 1 * [Europe/Berlin]"; count];
    schedules[0] = "every 1h";
    let before = now - Duration::from_secs(3_601);
    let other = system.filled(0, (0..count).map(|number| (entry(number, schedules[number]), before))).await;
    let mut first = consumer(&other).await;
    let app = system.open(0).await;
    let (memory, start) = (resident(), Instant::now());
    let (start, memory) = run(app, async || {
        first.recv(NonZeroUsize::MIN).await.unwrap().pop().unwrap().ack().await.unwrap();
        (start.elapsed(), resident().saturating_sub(memory) * 1_024 / count as u64)
    })
    .await;

    // All together have missed so many.
    let each = TICKS / count;
    let since = SystemClock.now() - Duration::from_secs(60) * u32::try_from(each).unwrap() - Duration::from_secs(1);
    let missed = |number| (entry(number, "every 1m").catch_up(CatchUp::All), since);
    let other = system.filled(1, (0..count).map(missed)).await;
    let depth = async || {
        tokio::time::sleep(Duration::from_millis(10)).await; // wait: a look costs something
        usize::try_from(other.broker().depth(&queue()).await.unwrap()).unwrap()
    };
    let tick = run(system.open(1).await, async || {
        let mut before = depth().await;
        while before == 0 {
            before = depth().await;
        }
        let first = Instant::now();
        while depth().await < TICKS {}
        first.elapsed() / u32::try_from(TICKS - before).unwrap()
    })
    .await;
    let raw = system.raw(1, &other, count).await / u32::try_from(TICKS).unwrap();

    // A hundred come every second, each at its own part of it.
    let now = Timestamp::from_micros(SystemClock.now().as_micros() / 1_000_000 * 1_000_000);
    let often = |number: usize| {
        let schedule = if number < 100 { "every 1s" } else { schedules[1] };
        (entry(number, schedule), now + Duration::from_millis(10) * u32::try_from(number % 100).unwrap())
    };
    let other = system.filled(2, (0..count).map(often)).await;
    let (sender, mut ticks) = mpsc::unbounded_channel();
    let watching = tokio::spawn(watch(consumer(&other).await, sender));
    let mut late = run(system.open(2).await, async || {
        // What came while the entries were written and read.
        ticks.recv().await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await; // wait: the beat is to have caught up
        while ticks.try_recv().is_ok() {}
        let mut late = Vec::new();
        while late.len() < 1_000 {
            late.push(ticks.recv().await.unwrap());
        }
        late
    })
    .await;
    watching.abort();
    late.sort_unstable();
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    let (half, most) = (millis(late[late.len() / 2]), millis(late[late.len() - 1]));
    let (start, tick, raw) = (millis(start), millis(tick) * 1e3, millis(raw) * 1e3);
    println!("{name:<8} {count:>8} {start:>12.1} {memory:>14} {tick:>10.2} {raw:>10.2} {half:>12.2} {most:>12.2}");
}

#[tokio::main]
async fn main() {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if let [system, count] = &args[..]
        && let Ok(count) = count.parse()
    {
        return measure(system, count).await;
    }
    println!(
        "{:<8} {:>8} {:>12} {:>14} {:>10} {:>10} {:>12} {:>12}",
        "system", "entries", "start, ms", "memory, bytes", "tick, us", "raw, us", "late p50, ms", "most, ms"
    );
    for system in SYSTEMS.iter().filter(|system| args.is_empty() || args.iter().any(|arg| arg == *system)) {
        for count in ["100", "100000"] {
            let case = Command::new(std::env::current_exe().unwrap()).args([system, count]).status().unwrap();
            assert!(case.success(), "{system}, {count} entries: {case}");
        }
    }
}
