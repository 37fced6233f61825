//! What a scheduler costs with 100 and with 100,000 entries: `cargo bench -p celeriac-benches --bench scheduler`.
//!
//! On the store in memory, with a dispatcher that only looks at the clock. *Start* is the time from beginning to run until all entries are read and the first
//! of them, due already, is sent; *memory* what the process grew by meanwhile, the store's part left out; *tick* the mean of sending 100,000 that
//! were missed; *late* how much later than due ticks are sent while a hundred entries come every second, for ten seconds.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops at the first error, and prints its table")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use celeriac_core::{Clock as _, EntryName, Result, Signature, SystemClock, Timestamp};
use celeriac_memory::MemoryStore;
use celeriac_scheduler::{CatchUp, Dispatch, Entries, Entry, Scheduler, Tick, async_trait};
use celeriac_testkit::ManualClock;
use tokio::sync::mpsc;

/// Tells how late each tick is sent.
#[derive(Debug)]
struct Watcher(mpsc::UnboundedSender<Duration>);

#[async_trait]
impl Dispatch for Watcher {
    async fn send(&self, ticks: &[Tick]) -> Vec<Result<()>> {
        let now = SystemClock.now();
        ticks.iter().for_each(|tick| self.0.send(now.since(tick.due)).unwrap());
        ticks.iter().map(|_| Ok(())).collect()
    }
}

/// Kibibytes that the process holds.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn entry(number: usize, schedule: &str) -> Entry {
    let task = Signature::named("shop.cleanup").arg(number.to_string()).option("queue", "housekeeping");
    Entry::new(EntryName::new(format!("entry-{number}")).unwrap(), schedule.parse().unwrap(), task)
}

/// A store with entries that count since `since`.
async fn store(entries: impl Iterator<Item = (Entry, Timestamp)>) -> MemoryStore {
    let store = MemoryStore::new();
    let clock = ManualClock::new();
    let kept = Entries::new(Arc::new(store.clone())).clock(Arc::new(clock.clone()));
    for (entry, since) in entries {
        clock.set(since);
        kept.put(&entry).await.unwrap();
    }
    store
}

/// Runs a scheduler on the store for as long as `watch` takes.
async fn run<T>(store: MemoryStore, watch: impl AsyncFnOnce(mpsc::UnboundedReceiver<Duration>) -> T) -> T {
    let (watcher, ticks) = mpsc::unbounded_channel();
    let scheduler = Scheduler::builder(Arc::new(store), Arc::new(Watcher(watcher))).build().unwrap();
    let handle = scheduler.handle();
    let running = tokio::spawn(scheduler.run());
    let result = watch(ticks).await;
    handle.stop();
    running.await.unwrap().unwrap();
    result
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    const TICKS: usize = 100_000;
    println!(
        "{:>8} {:>12} {:>14} {:>10} {:>12} {:>12}",
        "entries", "start, ms", "memory, bytes", "tick, us", "late p50, ms", "most, ms"
    );
    for count in [100, 100_000] {
        // One is due, the others come once a year.
        let now = SystemClock.now();
        let mut schedules = vec!["crontab 0 0 1 1 * [Europe/Berlin]"; count];
        schedules[0] = "every 1h";
        let before = now - Duration::from_secs(3_601);
        let kept = store((0..count).map(|number| (entry(number, schedules[number]), before))).await;
        let (memory, start) = (resident(), Instant::now());
        let (start, memory) = run(kept, async |mut ticks| {
            ticks.recv().await.unwrap();
            (start.elapsed(), resident().saturating_sub(memory) * 1_024 / count as u64)
        })
        .await;

        // All together have missed so many.
        let each = TICKS / count;
        let since =
            SystemClock.now() - Duration::from_secs(60) * u32::try_from(each).unwrap() - Duration::from_secs(30);
        let missed = |number| (entry(number, "every 1m").catch_up(CatchUp::All), since);
        let kept = store((0..count).map(missed)).await;
        let tick = run(kept, async |mut ticks| {
            ticks.recv().await.unwrap();
            let first = Instant::now();
            for _ in 1..TICKS {
                ticks.recv().await.unwrap();
            }
            first.elapsed() / u32::try_from(TICKS).unwrap()
        })
        .await;

        // A hundred come every second, each at its own part of it.
        let now = SystemClock.now();
        let often = |number: usize| {
            let schedule = if number < 100 { "every 1s" } else { schedules[1] };
            (entry(number, schedule), now + Duration::from_millis(10) * u32::try_from(number % 100).unwrap())
        };
        let kept = store((0..count).map(often)).await;
        let mut late = run(kept, async |mut ticks| {
            let mut late = Vec::new();
            // What came while the entries were written and read.
            tokio::time::sleep(Duration::from_secs(2)).await; // wait: the scheduler is to have caught up
            while ticks.try_recv().is_ok() {}
            while late.len() < 1_000 {
                late.push(ticks.recv().await.unwrap());
            }
            late
        })
        .await;
        late.sort_unstable();
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        let (half, most) = (millis(late[late.len() / 2]), millis(late[late.len() - 1]));
        let (start, tick) = (millis(start), millis(tick) * 1e3);
        println!("{count:>8} {start:>12.1} {memory:>14} {tick:>10.2} {half:>12.2} {most:>12.2}");
    }
}
