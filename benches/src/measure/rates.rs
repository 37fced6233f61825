//! Rates: sending, and working with results and without, in turns with the yardstick.

use super::compared;
use crate::meter::{Meter, Spent};
use crate::number;
use crate::options::{Options, Part};
use crate::ours::{Goal, SLOTS, all_done, app, is_empty, send_adds, send_counts, work};
use crate::report::{Row, Unit, median};
use crate::system::System;
use celeriac::QueueName;

/// What a round costs one side.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Sending tasks that have results.
    pub send: Spent,
    /// Working those that have none.
    pub plain: Spent,
    /// Working those that have results.
    pub results: Spent,
}

/// One of a round's costs.
type Of = fn(&Round) -> Spent;

/// Celeriac's round.
pub async fn ours(system: &mut dyn System, count: usize, meter: &Meter) -> Round {
    system.empty().await;
    let ours = app(&system.url(), Goal::new(1)).await;
    let start = meter.start();
    let last = send_adds(&ours, count).await;
    let send = start.stop();
    let results = work(ours.worker().concurrency(SLOTS), meter, all_done(&ours, last)).await;
    is_empty(&ours, &QueueName::DEFAULT).await;
    ours.close().await.unwrap();

    system.empty().await;
    let goal = Goal::new(count);
    let ours = app(&system.url(), goal.clone()).await;
    send_counts(&ours, count).await;
    let plain = work(ours.worker().concurrency(SLOTS), meter, goal.reached()).await;
    is_empty(&ours, &QueueName::DEFAULT).await;
    ours.close().await.unwrap();
    Round { send, plain, results }
}

/// The yardstick's.
pub async fn raw(system: &mut dyn System, count: usize, meter: &Meter) -> Round {
    system.empty().await;
    let send = system.raw_send(count, true, meter).await;
    let results = system.raw_work(count, true, meter).await;
    system.empty().await;
    system.raw_send(count, false, meter).await;
    let plain = system.raw_work(count, false, meter).await;
    Round { send, plain, results }
}

/// How many tasks a run has.
#[must_use]
pub fn tasks(system: &dyn System, options: &Options) -> usize {
    options.count(system.kind().tasks(), 20)
}

/// The rows, and the rate of work with results.
pub async fn measure(system: &mut dyn System, options: &Options) -> (Vec<Row>, f64) {
    let (name, part, count) = (system.kind().name(), Part::Rates.name(), tasks(system, options));
    let meter = Meter::new(system.servers());
    system.capture(count).await;
    let (mut mine, mut its) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        mine.push(ours(system, count, &meter).await);
        its.push(raw(system, count, &meter).await);
    }
    let of = |rounds: &[Round], what: Of| rounds.iter().map(what).collect::<Vec<Spent>>();
    let whats: [(&str, Of); 3] =
        [("send", |round| round.send), ("work", |round| round.plain), ("work with results", |round| round.results)];
    let mut rows = Vec::new();
    for (what, spent) in whats {
        let (ours, raw) = (of(&mine, spent), of(&its, spent));
        rows.extend(compared(name, part, what, count, (&ours, &raw), !system.servers().is_empty()));
    }
    let whole = |rounds: &[Round]| {
        let seconds = rounds.iter().map(|round| (round.send.wall + round.results.wall).as_secs_f64());
        seconds.map(|seconds| number(count) / seconds).collect::<Vec<f64>>()
    };
    rows.push(Row::new(name, part, "send, then work with results", Unit::PerSecond, whole(&mine)).raw(whole(&its)));
    let minutes = |rounds: &[Round]| rounds.iter().map(|round| round.results.rate(count) * 60.0).collect::<Vec<f64>>();
    rows.push(Row::new(name, part, "work with results, one process", Unit::PerMinute, minutes(&mine)));
    let rate = median(mine.iter().map(|round| round.results.rate(count))).unwrap();
    (rows, rate)
}
