//! Celeriac's side, the same on every system: the tasks, sending, working, and a lone task's way there and back.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use celeriac::prelude::*;
use celeriac::producer::IntoCall;
use celeriac::{QueueName, TaskId, WorkerSetup};
use tokio::sync::Notify;

use crate::meter::{Meter, Spent};

/// What senders send at once, Celeriac's and the yardsticks'.
pub const BATCH: usize = 1_000;
/// The worker's slots, where nothing else is said.
pub const SLOTS: usize = 2;

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

/// The same with a result; counts its runs.
#[celeriac::task]
pub async fn counted(goal: State<Arc<Goal>>, x: i64, y: i64) -> i64 {
    goal.count();
    x + y
}

/// What has a large argument.
#[celeriac::task]
pub async fn length(text: String) -> i64 {
    integer(text.len())
}

/// A number as an argument.
#[must_use]
pub fn integer(number: usize) -> i64 {
    i64::try_from(number).unwrap()
}

/// An app with these tasks. Its results are where the broker is, or else where `results` says.
pub async fn app_with(url: &str, results: Option<&str>, goal: Arc<Goal>) -> App {
    let mut builder = App::builder("bench").read_env(false).broker_url(url).state(goal);
    if let Some(results) = results {
        builder = builder.result_backend(results);
    }
    builder.tasks(tasks![add, count, counted, length]).build().await.unwrap()
}

/// An app whose results are where the broker is.
pub async fn app(url: &str, goal: Arc<Goal>) -> App {
    app_with(url, None, goal).await
}

/// Sends `total` tasks in batches of `batch`, from two senders at once; the last ids of both.
pub async fn send<C>(
    app: &App,
    total: usize,
    batch: usize,
    make: impl Fn(usize) -> C + Clone + Send + Sync + 'static,
) -> Vec<TaskId>
where
    C: IntoCall + Send + 'static,
    C::Output: Send,
{
    let half = total / 2;
    let sender = |range| tokio::spawn(send_range(app.clone(), range, batch, make.clone()));
    let (first, second) = (sender(0..half), sender(half..total));
    [first.await.unwrap(), second.await.unwrap()].into_iter().flatten().collect()
}

/// The last id of those sent.
async fn send_range<C>(
    app: App,
    range: Range<usize>,
    batch: usize,
    make: impl Fn(usize) -> C + Send + Sync,
) -> Option<TaskId>
where
    C: IntoCall + Send,
    C::Output: Send,
{
    let mut last = None;
    for start in range.clone().step_by(batch) {
        let numbers = start..(start + batch).min(range.end);
        let sent = app.send_batch(numbers.map(&make)).await.unwrap();
        last = sent.last().map(|result| result.id().clone());
    }
    last
}

/// Sends tasks that have results.
pub async fn send_adds(app: &App, total: usize) -> Vec<TaskId> {
    send(app, total, BATCH, |n| add::s(integer(n), 1)).await
}

/// Sends tasks that have none.
pub async fn send_counts(app: &App, total: usize) {
    send(app, total, BATCH, |n| count::s(integer(n), 1)).await;
}

/// Waits for the last tasks sent: everything before them has been taken by then, and all but a few have ended.
pub async fn all_done(app: &App, last: Vec<TaskId>) {
    for id in last {
        app.result::<i64>(id).get().await.unwrap();
    }
}

/// Works until `done` is ready, and stops the worker. The clock stops when the worker has: by then every task is acknowledged.
pub async fn work(setup: WorkerSetup, meter: &Meter, done: impl Future<Output = ()>) -> Spent {
    let worker = setup.build().unwrap();
    let stop = worker.handle();
    let start = meter.start();
    let running = tokio::spawn(worker.run());
    done.await;
    stop.shutdown();
    running.await.unwrap().unwrap();
    start.stop()
}

/// Checks that nothing is left in a queue.
pub async fn is_empty(app: &App, queue: &QueueName) {
    assert_eq!(app.broker().depth(queue).await.unwrap(), 0, "{queue}");
}

/// Runs a worker, which has started, for as long as `meanwhile` takes.
pub async fn beside_a_worker<T>(app: &App, meanwhile: impl Future<Output = T>) -> T {
    let worker = app.worker().concurrency(SLOTS).build().unwrap();
    let (stop, started) = (worker.handle(), worker.started());
    let running = tokio::spawn(worker.run());
    assert!(started.await);
    let done = meanwhile.await;
    stop.shutdown();
    running.await.unwrap().unwrap();
    done
}

/// The times from sending a lone task to having its result, one after the other, in microseconds.
pub async fn lone(app: &App, count: usize) -> Vec<f64> {
    let mut times = Vec::with_capacity(count);
    for n in 0..count {
        let start = Instant::now();
        let sum = app.send(add::s(integer(n), 1)).await.unwrap();
        sum.get().await.unwrap();
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times
}
