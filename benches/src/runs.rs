//! The runs that every system is measured by: sending, working, one task's way there and back, and doing nothing.
#![expect(
    clippy::missing_panics_doc,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench stops at the first error"
)]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use celeriac::prelude::*;
use celeriac::{QueueName, TaskId};
use tokio::sync::Notify;

use crate::{median, timed};

/// How often each pair is run.
pub const ROUNDS: usize = 5;
/// What senders send at once, Celeriac's and the yardsticks'.
pub const BATCH: usize = 1_000;

/// Counts runs, and tells when the last is done.
#[derive(Debug)]
pub struct Goal {
    left: AtomicUsize,
    reached: Notify,
}

impl Goal {
    /// A goal of so many runs.
    #[must_use]
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(count), reached: Notify::new() })
    }

    /// Counts one run.
    pub fn count(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.reached.notify_one();
        }
    }

    /// Waits for the last run.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }
}

/// The task that is measured.
#[celeriac::task]
pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

/// The same without a result; counts its runs.
#[celeriac::task(ignore_result)]
pub async fn count(goal: State<Arc<Goal>>, x: i64, y: i64) -> i64 {
    goal.count();
    x + y
}

/// An app with both tasks.
pub async fn app(url: &str, goal: Arc<Goal>) -> App {
    App::builder("bench").read_env(false).broker_url(url).state(goal).tasks(tasks![add, count]).build().await.unwrap()
}

/// Sends `total` tasks in batches, from two senders at once; the last ids of both.
pub async fn send(app: &App, total: usize, ignore: bool) -> Vec<TaskId> {
    let half = total / 2;
    let (first, second) = (app.clone(), app.clone());
    let first = tokio::spawn(async move { send_range(&first, 0..half, ignore).await });
    let second = tokio::spawn(async move { send_range(&second, half..total, ignore).await });
    [first.await.unwrap(), second.await.unwrap()].into_iter().flatten().collect()
}

/// The last id of those sent.
async fn send_range(app: &App, range: Range<usize>, ignore: bool) -> Option<TaskId> {
    let mut last = None;
    for start in range.clone().step_by(BATCH) {
        let numbers = start..(start + BATCH).min(range.end);
        let sent = if ignore {
            app.send_batch(numbers.map(|n| count::s(i64::try_from(n).unwrap(), 1))).await.unwrap()
        } else {
            app.send_batch(numbers.map(|n| add::s(i64::try_from(n).unwrap(), 1))).await.unwrap()
        };
        last = sent.last().map(|result| result.id().clone());
    }
    last
}

/// Waits for the last tasks sent: everything before them has been taken by then, and all but a few have ended.
pub async fn all_done(app: &App, last: Vec<TaskId>) {
    for id in last {
        app.result::<i64>(id).get().await.unwrap();
    }
}

/// Works until `done` is ready, and stops the worker. The clock stops when the worker has: by then every task is acknowledged.
pub async fn work(app: &App, concurrency: usize, done: impl Future<Output = ()>) -> Duration {
    let worker = app.worker().concurrency(concurrency).build().unwrap();
    let stop = worker.handle();
    let start = Instant::now();
    let running = tokio::spawn(worker.run());
    done.await;
    stop.shutdown();
    running.await.unwrap().unwrap();
    let spent = start.elapsed();
    assert_eq!(app.broker().depth(&QueueName::DEFAULT).await.unwrap(), 0);
    spent
}

/// The time from sending a lone task to having its result, in microseconds: the median, which it prints too.
pub async fn round_trip(name: &str, url: &str, count: usize) -> f64 {
    let app = app(url, Goal::new(1)).await;
    let worker = app.worker().concurrency(2).build().unwrap();
    let stop = worker.handle();
    let running = tokio::spawn(worker.run());
    let mut times = Vec::with_capacity(count);
    for n in 0..count {
        let (spent, ()) = timed(async {
            let sum = app.send(add::s(i64::try_from(n).unwrap(), 1)).await.unwrap();
            sum.get().await.unwrap();
        })
        .await;
        times.push(spent.as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let p99 = times.get(count * 99 / 100).copied().unwrap_or_default();
    let median = median(times.into_iter());
    println!("{name:<44} median {median:>7.0} us   p99 {p99:>7.0} us");
    let depth = app.broker().depth(&QueueName::DEFAULT).await.unwrap();
    assert_eq!(depth, 0);
    stop.shutdown();
    running.await.unwrap().unwrap();
    app.close().await.unwrap();
    median
}

/// Prints the processor time that a worker takes in ten seconds in which it has nothing to do.
pub async fn idle(name: &str, url: &str) {
    let app = app(url, Goal::new(1)).await;
    let worker = app.worker().concurrency(2).build().unwrap();
    let (stop, started) = (worker.handle(), worker.started());
    let running = tokio::spawn(worker.run());
    assert!(started.await);
    let before = processor_time();
    tokio::time::sleep(Duration::from_secs(10)).await; // wait: what is measured is a while of nothing
    println!("{name:<44} {:>7} ms of processor time in 10 s", (processor_time() - before).as_millis());
    stop.shutdown();
    running.await.unwrap().unwrap();
    app.close().await.unwrap();
}

/// The time of the processor that this process has used, all threads.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // User and system time, in hundredths of a second.
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
