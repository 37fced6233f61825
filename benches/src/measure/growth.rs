//! What a task costs as things grow: slots, arguments, what waits, and queues. A cost that stays flat has the same figures in every line.

use celeriac::QueueName;

use super::each;
use crate::meter::{Meter, Spent};
use crate::options::{Options, Part};
use crate::ours::{
    BATCH, Goal, SLOTS, all_done, app, count as count_task, integer, is_empty, length, send, send_adds, send_counts,
    work,
};
use crate::report::table::times;
use crate::report::{Row, Unit};
use crate::system::{Kind, System};

/// The worker's slots.
const SLOT_COUNTS: [usize; 4] = [10, 20, 40, 80];
/// The argument's size in bytes, and how many such tasks there are.
const PAYLOADS: [(&str, usize, usize); 3] =
    [("100 B", 100, 20_000), ("10 kB", 10_000, 10_000), ("1 MB", 1_000_000, 100)];
/// What is sent at once, in bytes.
const BATCH_BYTES: usize = 4_000_000;
/// What waits when the worker starts.
const WAITING: [(&str, usize); 3] = [("1 k", 1_000), ("100 k", 100_000), ("1 M", 1_000_000)];
/// What is worked in all where little waits: several times the little.
const AT_LEAST: usize = 20_000;
/// How many queues there are.
const QUEUES: [usize; 3] = [1, 10, 100];

/// How many tasks a run has, where nothing else says it.
fn tasks(kind: Kind) -> usize {
    match kind {
        Kind::Memory => 100_000,
        Kind::Sqlite | Kind::Redis => 50_000,
        Kind::Rabbit => 20_000,
    }
}

/// The rows of all that grows.
pub async fn measure(system: &mut dyn System, options: &Options) -> Vec<Row> {
    let mut rows = slots(system, options).await;
    rows.extend(payloads(system, options).await);
    rows.extend(waiting(system, options).await);
    rows.extend(queues(system, options).await);
    rows
}

/// The rows of one case: the rate and what a task costs processors, beside the first case.
struct Cases {
    system: &'static str,
    server: bool,
    rows: Vec<Row>,
    first: Option<f64>,
}

impl Cases {
    fn new(system: &dyn System) -> Self {
        Self { system: system.kind().name(), server: !system.servers().is_empty(), rows: Vec::new(), first: None }
    }

    fn row(&self, name: String, unit: Unit, samples: Vec<f64>) -> Row {
        Row::new(self.system, Part::Growth.name(), name, unit, samples)
    }

    /// Adds runs of `count` tasks each.
    fn add(&mut self, name: &str, count: usize, runs: &[Spent]) {
        let rates: Vec<f64> = runs.iter().map(|run| run.rate(count)).collect();
        let rate = self.row(name.to_owned(), Unit::PerSecond, rates);
        self.rows.push(rate);
        let (own, server) = each(runs, count);
        let first = *self.first.get_or_insert(own + server);
        let of_first = format!("{} x the first", times(Some((own + server) / first)));
        if self.server {
            self.rows.push(self.row(format!("{name}, CPU a task"), Unit::Micros, vec![own]));
            let server = self.row(format!("{name}, server's CPU a task"), Unit::Micros, vec![server]);
            self.rows.push(server.note(of_first));
        } else {
            self.rows.push(self.row(format!("{name}, CPU a task"), Unit::Micros, vec![own]).note(of_first));
        }
    }

    /// Adds bytes a second to a case.
    fn add_bytes(&mut self, name: &str, bytes: usize, runs: &[Spent]) {
        let rates = runs.iter().map(|run| run.rate(bytes) / 1e6).collect();
        self.rows.push(self.row(format!("{name}, bytes"), Unit::MegabytesPerSecond, rates));
    }
}

/// Work with results by more slots.
async fn slots(system: &mut dyn System, options: &Options) -> Vec<Row> {
    let (count, meter) = (options.count(tasks(system.kind()), 20), Meter::new(system.servers()));
    let mut cases = Cases::new(system);
    for slots in SLOT_COUNTS {
        let mut runs = Vec::new();
        for _ in 0..options.few_rounds() {
            system.empty().await;
            let app = app(&system.url(), Goal::new(1)).await;
            let last = send_adds(&app, count).await;
            runs.push(work(app.worker().concurrency(slots), &meter, all_done(&app, last)).await);
            is_empty(&app, &QueueName::DEFAULT).await;
            app.close().await.unwrap();
        }
        cases.add(&format!("{slots} slots"), count, &runs);
    }
    cases.rows
}

/// Sending larger arguments, and working them with results.
async fn payloads(system: &mut dyn System, options: &Options) -> Vec<Row> {
    let meter = Meter::new(system.servers());
    let (mut sending, mut working) = (Cases::new(system), Cases::new(system));
    for (name, size, count) in PAYLOADS {
        let (count, batch) = (options.count(count, 4), BATCH.min(BATCH_BYTES / size));
        let (mut sent, mut worked) = (Vec::new(), Vec::new());
        for _ in 0..options.few_rounds() {
            system.empty().await;
            let app = app(&system.url(), Goal::new(1)).await;
            let text = "x".repeat(size);
            let start = meter.start();
            let last = send(&app, count, batch, move |_| length::s(text.clone())).await;
            sent.push(start.stop());
            worked.push(work(app.worker().concurrency(SLOTS), &meter, all_done(&app, last)).await);
            is_empty(&app, &QueueName::DEFAULT).await;
            app.close().await.unwrap();
        }
        for (cases, what, runs) in [(&mut sending, "send", &sent), (&mut working, "work", &worked)] {
            let name = format!("{what} {name}");
            cases.add(&name, count, runs);
            cases.add_bytes(&name, count * size, runs);
        }
    }
    sending.rows.into_iter().chain(working.rows).collect()
}

/// Work without results when little waits and when much does.
async fn waiting(system: &mut dyn System, options: &Options) -> Vec<Row> {
    let meter = Meter::new(system.servers());
    let mut cases = Cases::new(system);
    // What starting and stopping a worker costs is told, and not counted: where little waits there would be nothing else.
    let mut starts = Vec::new();
    for _ in 0..options.count(20, 3) {
        starts.push(queue_of(system, 1, &meter).await);
    }
    let start = mean(&starts);
    let millis = start.wall.as_secs_f64() * 1e3;
    cases.rows.push(cases.row("start and stop, taken off below".to_owned(), Unit::Millis, vec![millis]));
    for (name, count) in WAITING {
        let count = options.count(count, 20);
        let times = (options.count(AT_LEAST, 20) / count).max(1);
        let mut runs = Vec::new();
        for _ in 0..times {
            runs.push(queue_of(system, count, &meter).await);
        }
        let net = mean(&runs).without(&start);
        cases.add(&format!("{name} waiting"), count, &[net]);
    }
    cases.rows
}

/// Works so many tasks that wait.
async fn queue_of(system: &mut dyn System, count: usize, meter: &Meter) -> Spent {
    system.empty().await;
    let goal = Goal::new(count);
    let app = app(&system.url(), goal.clone()).await;
    send_counts(&app, count).await;
    let spent = work(app.worker().concurrency(SLOTS), meter, goal.reached()).await;
    is_empty(&app, &QueueName::DEFAULT).await;
    app.close().await.unwrap();
    spent
}

/// The mean of runs.
fn mean(runs: &[Spent]) -> Spent {
    let count = u32::try_from(runs.len()).unwrap();
    let sum = |of: fn(&Spent) -> std::time::Duration| runs.iter().map(of).sum::<std::time::Duration>() / count;
    Spent { wall: sum(|run| run.wall), own: sum(|run| run.own), server: sum(|run| run.server), allocations: 0 }
}

/// Work without results by one worker from one queue or many.
async fn queues(system: &mut dyn System, options: &Options) -> Vec<Row> {
    let (count, meter) = (options.count(tasks(system.kind()), 100), Meter::new(system.servers()));
    let mut cases = Cases::new(system);
    for queues in QUEUES {
        let names = (0..queues).map(|number| format!("bench-{queues}-{number}"));
        let names: Vec<String> = names.collect();
        let mut runs = Vec::new();
        for _ in 0..options.few_rounds() {
            system.empty().await;
            let goal = Goal::new(count);
            let app = app(&system.url(), goal.clone()).await;
            let to = names.clone();
            send(&app, count, BATCH, move |n| count_task::s(integer(n), 1).queue(to[n % to.len()].clone())).await;
            let setup = app.worker().concurrency(SLOTS).queues(names.clone());
            runs.push(work(setup, &meter, goal.reached()).await);
            for name in &names {
                is_empty(&app, &QueueName::new(name.clone()).unwrap()).await;
            }
            app.close().await.unwrap();
        }
        let name = if queues == 1 { "1 queue".to_owned() } else { format!("{queues} queues") };
        cases.add(&name, count, &runs);
    }
    cases.rows
}
