//! The way of a lone task there and back: with nothing else to do, and beside a load of half of what the worker can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use celeriac::{App, QueueName};

use super::rates;
use crate::meter::Meter;
use crate::number;
use crate::options::{Options, Part};
use crate::ours::{Goal, add, app, beside_a_worker, integer, lone};
use crate::pace::Pace;
use crate::report::{Row, Unit, median, percentile};
use crate::system::System;

/// How many tasks go there and back.
const TASKS: usize = 5_000;

/// What is told of the times.
const PARTS: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// The parts of sorted times.
#[must_use]
pub fn parts(mut times: Vec<f64>) -> [f64; 3] {
    times.sort_by(f64::total_cmp);
    PARTS.map(|(_, part)| percentile(&times, part))
}

/// Rows of the parts of times, round by round.
#[must_use]
pub fn rows(
    system: &'static str,
    part: &'static str,
    name: &str,
    ours: &[[f64; 3]],
    other: &[[f64; 3]],
) -> Vec<(Row, Vec<f64>)> {
    let of = |rounds: &[[f64; 3]], index: usize| rounds.iter().map(|round| round[index]).collect::<Vec<f64>>();
    let row = |(index, (label, _)): (usize, &(&str, f64))| {
        (Row::new(system, part, format!("{name}{label}"), Unit::Micros, of(ours, index)), of(other, index))
    };
    PARTS.iter().enumerate().map(row).collect()
}

/// Lone tasks, with nothing else to do.
pub async fn alone(system: &mut dyn System, options: &Options) -> Vec<Row> {
    let count = options.count(TASKS, 20);
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    system.capture(20).await;
    for _ in 0..options.few_rounds() {
        system.empty().await;
        let app = app(&system.url(), Goal::new(1)).await;
        ours.push(parts(beside_a_worker(&app, lone(&app, count)).await));
        app.close().await.unwrap();
        raw.push(parts(system.raw_lone(count, None).await));
    }
    rows(system.kind().name(), Part::Lone.name(), "", &ours, &raw).into_iter().map(|(row, raw)| row.raw(raw)).collect()
}

/// Lone tasks beside a load of half of `rate`, which is measured if it is not known.
pub async fn loaded(system: &mut dyn System, options: &Options, rate: Option<f64>) -> Vec<Row> {
    let (name, part, count) = (system.kind().name(), Part::Load.name(), options.count(TASKS, 20));
    let rate = match rate {
        Some(rate) => rate,
        None => measured(system, options).await,
    };
    let half = rate / 2.0;
    let (mut ours, mut raw, mut reached, mut waiting) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    system.capture(20).await;
    for _ in 0..options.few_rounds() {
        system.empty().await;
        let app = app(&system.url(), Goal::new(1)).await;
        let run = beside_a_worker(&app, beside_a_load(&app, half, count)).await;
        app.close().await.unwrap();
        ours.push(parts(run.times));
        reached.push(run.rate);
        waiting.push(run.waiting);
        raw.push(parts(system.raw_lone(count, Some(half)).await));
    }
    let mut rows: Vec<Row> = rows(name, part, "", &ours, &raw).into_iter().map(|(row, raw)| row.raw(raw)).collect();
    rows.push(Row::new(name, part, "what was sent beside", Unit::PerSecond, reached).note(format!("of {half:.0}/s")));
    // A tenth of a second's work may be on its way.
    let late = median(waiting.iter().copied()).is_some_and(|waiting| waiting > half / 10.0);
    let note = if late { "did not keep up" } else { "" };
    rows.push(Row::new(name, part, "waiting at the end", Unit::Count, waiting).note(note));
    rows
}

/// The rate of work with results, of a few short runs.
async fn measured(system: &mut dyn System, options: &Options) -> f64 {
    let (count, meter) = (rates::tasks(system, options), Meter::new(Vec::new()));
    let mut found = Vec::new();
    for _ in 0..options.few_rounds() {
        found.push(rates::ours(system, count, &meter).await.results.rate(count));
    }
    median(found).unwrap()
}

/// Lone tasks beside a load.
struct Run {
    times: Vec<f64>,
    /// That the load has come to, a second.
    rate: f64,
    /// How many tasks waited at the end.
    waiting: f64,
}

async fn beside_a_load(app: &App, rate: f64, count: usize) -> Run {
    let enough = Arc::new(AtomicBool::new(false));
    let (sender, stop) = (app.clone(), Arc::clone(&enough));
    let loading = tokio::spawn(async move {
        let (mut pace, start, mut sent) = (Pace::new(rate), std::time::Instant::now(), 0);
        while !stop.load(Ordering::Relaxed) {
            let more = pace.due().await;
            let results = sender.send_batch((0..more).map(|n| add::s(integer(n), 1))).await.unwrap();
            sent += results.len();
        }
        number(sent) / start.elapsed().as_secs_f64()
    });
    let times = lone(app, count).await;
    let waiting = app.broker().depth(&QueueName::DEFAULT).await.unwrap();
    enough.store(true, Ordering::Relaxed);
    let rate = loading.await.unwrap();
    // Behind all that waits.
    lone(app, 1).await;
    Run { times, rate, waiting: number(usize::try_from(waiting).unwrap()) }
}
