//! The processor time of a worker that has nothing to do.

use std::time::Duration;

use crate::meter::{Meter, Spent};
use crate::options::{Options, Part};
use crate::ours::{Goal, app, beside_a_worker};
use crate::report::{Row, Unit};
use crate::system::System;

/// The rows of ten seconds, or fewer.
pub async fn measure(system: &mut dyn System, options: &Options) -> Vec<Row> {
    let (name, part) = (system.kind().name(), Part::Idle.name());
    let seconds = 10.0 * options.scale.clamp(0.1, 1.0);
    let meter = Meter::new(system.servers());
    let nothing = async || {
        let start = meter.start();
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await; // wait: what is measured is a while of nothing
        start.stop()
    };
    system.empty().await;
    let app = app(&system.url(), Goal::new(1)).await;
    let ours = beside_a_worker(&app, nothing()).await;
    app.close().await.unwrap();
    let raw = match system.raw_idle().await {
        Some(waiting) => {
            let spent = nothing().await;
            waiting.abort();
            Some(spent)
        }
        None => None,
    };
    let row = |name_of: &str, of: fn(&Spent) -> Duration| {
        let millis = |spent: Spent| of(&spent).as_secs_f64() * 1e3;
        let what = format!("{name_of} in {seconds} s");
        Row::new(name, part, what, Unit::Millis, vec![millis(ours)]).raw(raw.map(millis).into_iter().collect())
    };
    let mut rows = vec![row("CPU", |spent| spent.own)];
    if !system.servers().is_empty() {
        rows.push(row("server's CPU", |spent| spent.server));
    }
    rows
}
