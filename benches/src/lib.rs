//! What the benches share: the task, the runs, and the table.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

pub mod runs;

use std::time::{Duration, Instant};

/// One line of the table: Celeriac and its yardstick, run in turns.
#[derive(Debug)]
pub struct Line {
    /// What is measured.
    pub name: String,
    /// What the yardstick does.
    pub yardstick: &'static str,
    /// Operations a run.
    pub operations: usize,
    ours: Vec<Duration>,
    raw: Vec<Duration>,
}

impl Line {
    /// A line without runs.
    #[must_use]
    pub fn new(name: impl Into<String>, yardstick: &'static str, operations: usize) -> Self {
        Self { name: name.into(), yardstick, operations, ours: Vec::new(), raw: Vec::new() }
    }

    /// Adds a pair of runs.
    pub fn add(&mut self, ours: Duration, raw: Duration) {
        self.ours.push(ours);
        self.raw.push(raw);
    }

    /// Prints medians, and the median of the ratios of each pair.
    ///
    /// # Panics
    /// If there was no run.
    #[expect(clippy::cast_precision_loss, reason = "rates are rounded anyway")]
    pub fn print(&self) {
        let rate = |runs: &[Duration]| self.operations as f64 / median(runs.iter().map(Duration::as_secs_f64));
        let ratio = median(self.raw.iter().zip(&self.ours).map(|(raw, ours)| raw.as_secs_f64() / ours.as_secs_f64()));
        println!(
            "{:<44} {:>11.0}/s   raw {:>11.0}/s   ratio {ratio:>5.2}   ({})",
            self.name,
            rate(&self.ours),
            rate(&self.raw),
            self.yardstick
        );
    }
}

/// The median.
///
/// # Panics
/// If there is nothing.
#[must_use]
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    *values.get(values.len() / 2).expect("at least one run")
}

/// The time that `work` takes.
pub async fn timed<T>(work: impl Future<Output = T>) -> (Duration, T) {
    let start = Instant::now();
    let done = work.await;
    (start.elapsed(), done)
}
