//! The speed bench, `cargo xtask bench`: what Celeriac costs on each system, beside the raw operations underneath and beside Python's Celery.
//!
//! - [`options`]: what the command line asks for; [`run`] does it.
//! - [`system`]: the systems, each with its yardstick: `memory`, `sqlite`, `redis`, `rabbit`.
//! - [`ours`]: Celeriac's side, the same for all systems; [`meter`]: what a run costs; [`pace`]: a steady load.
//! - [`measure`]: one module for each part: `rates`, `latency` (lone, load), `peak`, `idle`, `allocations`, `growth`.
//! - [`python`]: Python's Celery; [`child`]: what processes of their own do.
//! - [`report`]: rows, the table, the JSON and the chart.
//!
//! The schedules' benches, `scheduler` and `schedules`, stand alone.
#![expect(
    clippy::missing_panics_doc,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and stops at the first error"
)]

pub mod child;
pub mod measure;
pub mod meter;
pub mod options;
pub mod ours;
pub mod pace;
pub mod python;
pub mod report;
pub mod run;
pub mod system;

use std::path::PathBuf;

/// Where things are that only the bench's own build knows.
#[derive(Debug, Clone)]
pub struct Places {
    /// The program that counts allocations.
    pub allocations: PathBuf,
    /// Where cargo builds.
    pub target: PathBuf,
}

/// A count, as a number to reckon with.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]
pub fn number(count: usize) -> f64 {
    count as f64
}

/// `count` times `factor`, at least `least`.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are neither that large nor negative"
)]
pub fn scaled(count: usize, factor: f64, least: usize) -> usize {
    ((number(count) * factor) as usize).max(least)
}
