//! The parts of the bench. Each measures one system, and adds its rows to the report.

pub mod allocations;
pub mod growth;
pub mod idle;
pub mod latency;
pub mod peak;
pub mod rates;

use crate::meter::Spent;
use crate::number;
use crate::report::{Row, Unit};

/// The processor time of runs of `count` tasks each, for each task in microseconds: this process's, and the servers'.
#[must_use]
pub fn each(runs: &[Spent], count: usize) -> (f64, f64) {
    // Of all runs together, because it is told in hundredths of a second.
    let tasks = number(count * runs.len());
    let micros =
        |of: fn(&Spent) -> std::time::Duration| runs.iter().map(of).sum::<std::time::Duration>().as_secs_f64() * 1e6;
    (micros(|spent| spent.own) / tasks, micros(|spent| spent.server) / tasks)
}

/// The rows of what is compared with the yardstick: the rate, and what a task costs processors.
fn compared(
    system: &'static str,
    part: &'static str,
    name: &str,
    count: usize,
    (ours, raw): (&[Spent], &[Spent]),
    server: bool,
) -> Vec<Row> {
    let rates = |runs: &[Spent]| runs.iter().map(|spent| spent.rate(count)).collect::<Vec<f64>>();
    let (mine, its) = (each(ours, count), each(raw, count));
    let mut rows = vec![
        Row::new(system, part, name, Unit::PerSecond, rates(ours)).raw(rates(raw)),
        Row::new(system, part, format!("{name}, CPU a task"), Unit::Micros, vec![mine.0]).raw(vec![its.0]),
    ];
    if server {
        rows.push(
            Row::new(system, part, format!("{name}, server's CPU a task"), Unit::Micros, vec![mine.1]).raw(vec![its.1]),
        );
    }
    rows
}
