//! The most memory that a process of its own holds: a worker with one task before it, and with many; a sender of many; and the yardstick's.

use crate::child::{self, Job};
use crate::meter::Meter;
use crate::number;
use crate::options::{Options, Part};
use crate::report::{Row, Unit};
use crate::system::{Kind, System};

/// Many.
const MANY: usize = 100_000;

/// The rows.
pub async fn measure(system: &mut dyn System, options: &Options) -> Vec<Row> {
    let (kind, part) = (system.kind(), Part::Peak.name());
    let many = options.count(MANY, 20);
    // That has to be sent by whoever works it, as it is in memory.
    let inside = kind == Kind::Memory;
    let meter = Meter::new(Vec::new());
    let mut rows = Vec::new();
    system.capture(many).await;
    for count in [1, many] {
        system.empty().await;
        let url = system.url();
        let run = |job| mebibytes(&child::run(job, kind, &url, count));
        let sent = if inside { None } else { Some(run(Job::Send)) };
        let worked = run(if inside { Job::SendAndWork } else { Job::Work });
        let raw = if inside {
            run(Job::RawSendAndWork)
        } else {
            system.empty().await;
            system.raw_send(count, true, &meter).await;
            mebibytes(&child::run(Job::RawWork, kind, &system.url(), count))
        };
        let row = |name: String, ours| Row::new(kind.name(), part, name, Unit::Mebibytes, vec![ours]);
        let who = if inside { "sender and worker" } else { "worker" };
        let row_of_work = row(format!("{who}, {count} queued"), worked).raw(vec![raw]);
        rows.push(row_of_work.note(match kind {
            // They would be in the memory of who has to store them.
            Kind::Sqlite => "raw: no results",
            // The queue of its results went with who sent them.
            Kind::Rabbit => "results go nowhere",
            Kind::Memory | Kind::Redis => "",
        }));
        rows.extend(sent.map(|sent| row(format!("sender of {count}"), sent)));
    }
    rows
}

fn mebibytes(kibibytes: &str) -> f64 {
    number(kibibytes.trim().parse().unwrap()) / 1_024.0
}
