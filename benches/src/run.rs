//! Does what the command line asks for.

use std::path::Path;
use std::time::Instant;

use crate::Places;
use crate::measure::{allocations, growth, idle, latency, peak, rates};
use crate::options::{Options, Part};
use crate::python;
use crate::report::{Report, chart, json};
use crate::system::System;

/// Measures, prints the table, and writes JSON and chart below `target/bench`.
///
/// # Errors
/// If the files cannot be written.
pub async fn run(options: Options, places: Places) -> std::io::Result<()> {
    let mut report = Report {
        date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        cpus: std::thread::available_parallelism()?.get(),
        scale: options.scale,
        rounds: options.rounds,
        ..Report::default()
    };
    for kind in &options.systems {
        let started = Instant::now();
        let mut system = kind.start().await;
        report.systems.push((kind.name(), system.version().await, Some(system.yardsticks())));
        measure(&mut *system, &options, &places, &mut report).await;
        println!("{}: {:.0} s", kind.name(), started.elapsed().as_secs_f64());
    }
    if options.has(Part::Python) && report.python.is_none() && options.systems.iter().any(|kind| kind.has_python()) {
        report.missing.push("Python Celery is not installed: `cargo xtask setup`".to_owned());
    }
    println!("\n{report}");
    write(&report, &places.target.join("bench"))
}

async fn measure(system: &mut dyn System, options: &Options, places: &Places, report: &mut Report) {
    let mut rate = None;
    for part in Part::ALL.into_iter().filter(|part| options.has(*part)) {
        println!("{}: {} ..", system.kind().name(), part.name());
        let rows = match part {
            Part::Rates => {
                let (rows, found) = rates::measure(system, options).await;
                rate = Some(found);
                rows
            }
            Part::Lone => latency::alone(system, options).await,
            Part::Load => latency::loaded(system, options, rate).await,
            Part::Peak => peak::measure(system, options).await,
            Part::Idle => idle::measure(system, options).await,
            Part::Allocations => allocations::measure(system, options, &places.allocations).await,
            Part::Python if !system.kind().has_python() => Vec::new(),
            Part::Python => match python::installed(&places.target) {
                Some((python, version)) => {
                    report.python = Some(version);
                    python::measure(system, options, &python).await
                }
                None => Vec::new(),
            },
            Part::Growth => growth::measure(system, options).await,
        };
        report.rows.extend(rows);
    }
}

fn write(report: &Report, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let (figures, chart_file) = (folder.join("bench.json"), folder.join("bench.svg"));
    std::fs::write(&figures, format!("{:#}\n", json::of(report)))?;
    std::fs::write(&chart_file, format!("{}\n", chart::of(report)))?;
    println!("{}\n{}", figures.display(), chart_file.display());
    Ok(())
}
