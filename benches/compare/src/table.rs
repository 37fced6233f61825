//! The table that the comparison ends with.

use std::fmt;

use crate::round::Run;
use crate::system::{Result, System};

/// The runs of all rounds, system by system.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    on: &'static str,
    tasks: usize,
    runs: Vec<Run>,
}

impl Table {
    /// A table without runs.
    pub(crate) fn new(systems: &[System]) -> Result<Self> {
        let row = |system: &System| {
            let name = format!("{} {}", system.name, (system.version)()?);
            Ok(Row { name, on: system.waits.on(), tasks: system.tasks, runs: Vec::new() })
        };
        Ok(Self { rows: systems.iter().map(row).collect::<Result<_>>()? })
    }

    /// Adds a run.
    pub(crate) fn add(&mut self, system: usize, run: Run) {
        self.rows[system].runs.push(run);
    }
}

impl Row {
    fn rates(&self) -> impl Iterator<Item = f64> {
        self.runs.iter().map(|run| run.rate)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| | broker | tasks a run | tasks a second | lowest to highest | servers a task | Celeriac's multiple |"
        )?;
        writeln!(f, "|---|---|--:|--:|--:|--:|--:|")?;
        for row in &self.rows {
            let Row { name, on, tasks, .. } = row;
            let rate = median(row.rates());
            let (lowest, highest) = (row.rates().fold(f64::INFINITY, f64::min), row.rates().fold(0.0, f64::max));
            let server = median(row.runs.iter().map(|run| run.server));
            write!(f, "| {name} | {on} | {tasks} | {rate:.0} | {lowest:.0} to {highest:.0} | {server:.1} \u{b5}s | ")?;
            // On the same broker.
            match self.rows.iter().find(|first| first.on == *on) {
                // Round by round: what disturbed a round disturbed both.
                Some(ours) if ours.name.starts_with("celeriac") => {
                    writeln!(f, "{:.1} |", median(ours.rates().zip(row.rates()).map(|(ours, theirs)| ours / theirs)))?;
                }
                _ => writeln!(f, "|")?,
            }
        }
        Ok(())
    }
}

/// The median; not a number if there is nothing.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
