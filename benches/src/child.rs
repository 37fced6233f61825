//! What processes of their own do: this program, started once more.
//!
//! `child JOB SYSTEM URL COUNT` prints the most memory that it held, in kibibytes.

use std::process::Command;
use std::sync::Arc;

use crate::meter::{Meter, peak_memory};
use crate::ours::{BATCH, Goal, SLOTS, app, counted, integer, send, work};
use crate::system::Kind;

/// What a process of its own does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Takes and ends raw messages.
    RawWork,
    /// Sends them before.
    RawSendAndWork,
    /// Sends tasks with results.
    Send,
    /// Sends and works them.
    SendAndWork,
    /// Works them.
    Work,
}

impl Job {
    const ALL: [Self; 5] = [Self::RawWork, Self::RawSendAndWork, Self::Send, Self::SendAndWork, Self::Work];

    fn name(self) -> &'static str {
        match self {
            Self::RawWork => "raw-work",
            Self::RawSendAndWork => "raw-send-and-work",
            Self::Send => "send",
            Self::SendAndWork => "send-and-work",
            Self::Work => "work",
        }
    }
}

/// Has a process of its own do a job: what it prints.
#[must_use]
pub fn run(job: Job, kind: Kind, url: &str, count: usize) -> String {
    print_of(Command::new(std::env::current_exe().unwrap()).args([
        "child",
        job.name(),
        kind.name(),
        url,
        &count.to_string(),
    ]))
}

/// What a command prints.
#[must_use]
pub fn print_of(command: &mut Command) -> String {
    let output = command.stderr(std::process::Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Does a job; this is the process of its own.
pub async fn main(job: &str, kind: &str, url: &str, count: &str) {
    let (job, kind) = (Job::ALL.into_iter().find(|known| known.name() == job).unwrap(), Kind::named(kind).unwrap());
    let (count, meter) = (count.parse().unwrap(), Meter::new(Vec::new()));
    if matches!(job, Job::RawWork | Job::RawSendAndWork) {
        let mut system = kind.at(url);
        if job == Job::RawSendAndWork {
            system.raw_send(count, true, &meter).await;
        }
        // What SQLite's yardstick stores is in the memory of whoever captured it.
        system.raw_work(count, kind != Kind::Sqlite, &meter).await;
    } else {
        let goal = Goal::new(count);
        let app = app(url, Arc::clone(&goal)).await;
        if job != Job::Work {
            send(&app, count, BATCH, |n| counted::s(integer(n), 1)).await;
        }
        if job != Job::Send {
            work(app.worker().concurrency(SLOTS), &meter, goal.reached()).await;
        }
        app.close().await.unwrap();
    }
    println!("{}", peak_memory());
}
