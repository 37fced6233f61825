//! What was measured: rows of figures, with the ratios between them.

pub mod chart;
pub mod json;
pub mod table;

use crate::number;
use crate::system::Yardsticks;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Allocations for each task.
    Allocations,
    /// Tasks.
    Count,
    /// Megabytes (of 1,000,000 bytes) a second.
    MegabytesPerSecond,
    /// Mebibytes.
    Mebibytes,
    /// Microseconds.
    Micros,
    /// Milliseconds.
    Millis,
    /// Tasks a minute.
    PerMinute,
    /// Tasks a second.
    PerSecond,
}

impl Unit {
    /// In the table.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Allocations | Self::Count => "",
            Self::MegabytesPerSecond => " MB/s",
            Self::Mebibytes => " MiB",
            Self::Micros => " us",
            Self::Millis => " ms",
            Self::PerMinute => "/min",
            Self::PerSecond => "/s",
        }
    }

    /// In full.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allocations => "allocations per task",
            Self::Count => "tasks",
            Self::MegabytesPerSecond => "megabytes per second",
            Self::Mebibytes => "mebibytes",
            Self::Micros => "microseconds",
            Self::Millis => "milliseconds",
            Self::PerMinute => "tasks per minute",
            Self::PerSecond => "tasks per second",
        }
    }

    /// Whether more of it is better.
    #[must_use]
    pub fn more_is_better(self) -> bool {
        matches!(self, Self::MegabytesPerSecond | Self::PerMinute | Self::PerSecond)
    }
}

/// One figure, with what it is compared with. Each side has a sample of each round.
#[derive(Debug, Clone)]
pub struct Row {
    /// The system that it is of.
    pub system: &'static str,
    /// The part of the bench.
    pub part: &'static str,
    /// What was measured.
    pub name: String,
    /// What the figures count.
    pub unit: Unit,
    /// Celeriac's.
    pub ours: Vec<f64>,
    /// The yardstick's; empty if there is none.
    pub raw: Vec<f64>,
    /// Python Celery's; empty if there is none.
    pub python: Vec<f64>,
    /// What else is to be said.
    pub note: String,
}

impl Row {
    /// A row that is compared with nothing yet.
    #[must_use]
    pub fn new(system: &'static str, part: &'static str, name: impl Into<String>, unit: Unit, ours: Vec<f64>) -> Self {
        let (raw, python, note) = (Vec::new(), Vec::new(), String::new());
        Self { system, part, name: name.into(), unit, ours, raw, python, note }
    }

    /// Beside the yardstick.
    #[must_use]
    pub fn raw(self, raw: Vec<f64>) -> Self {
        Self { raw, ..self }
    }

    /// Beside Python's Celery.
    #[must_use]
    pub fn python(self, python: Vec<f64>) -> Self {
        Self { python, ..self }
    }

    /// With a remark.
    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// Celeriac's figure by the yardstick's: the median of the rounds' ratios.
    #[must_use]
    pub fn raw_ratio(&self) -> Option<f64> {
        ratio(&self.ours, &self.raw)
    }

    /// Celeriac's figure by Python's.
    #[must_use]
    pub fn python_ratio(&self) -> Option<f64> {
        ratio(&self.ours, &self.python)
    }
}

/// The median of the rounds' ratios; none where something is missing, or nothing was measurable.
fn ratio(ours: &[f64], others: &[f64]) -> Option<f64> {
    // Round by round: what disturbed a round disturbed both.
    median(ours.iter().zip(others).map(|(ours, other)| ours / other)).filter(|ratio| ratio.is_finite() && *ratio > 0.0)
}

/// The median; of an even number the mean of the middle two.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// The value that `part` of the values, from 0 to 1, do not exceed; 0 of nothing.
#[must_use]
pub fn percentile(sorted: &[f64], part: f64) -> f64 {
    let index = crate::scaled(1, (number(sorted.len()) * part).ceil(), 1) - 1;
    sorted.get(index).or(sorted.last()).copied().unwrap_or_default()
}

/// All that a run has measured, and how.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// When it began, as RFC 3339 has it.
    pub date: String,
    /// Processors.
    pub cpus: usize,
    /// What is measured is `scale` times as many as it should be.
    pub scale: f64,
    /// Rounds of rates.
    pub rounds: usize,
    /// Systems' names, versions and yardsticks.
    pub systems: Vec<(&'static str, String, Option<Yardsticks>)>,
    /// The version of Python's Celery, if it was measured.
    pub python: Option<String>,
    /// The figures.
    pub rows: Vec<Row>,
    /// What was not measured, and why.
    pub missing: Vec<String>,
}

#[cfg(test)]
mod tests;
