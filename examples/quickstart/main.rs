//! Indexes every file below a folder: one task a file, run by a worker in a second process.
//!
//! ```text
//! cargo run --release -p celeriac-examples --bin quickstart -- <folder>
//! ```
//!
//! Nothing has to be installed: tasks and results live in one durable file that both processes share. This process finds the files, sends a
//! task for each, and adds the results up; the worker, started by it and stopped by SIGTERM at the end, reads the files. Every run has a file
//! of its own, so that runs do not meet.
//!
//! - `tasks.rs` holds the task: a plain function with `#[celeriac::task]`.
//! - `main.rs` sends in batches and reads the results, with a bounded number of tasks on the way.
//! - `process.rs` starts, runs and stops the worker.
//! - `walk.rs` finds the files, and `report.rs` makes the table.

mod process;
mod report;
mod tasks;
mod walk;

use std::collections::VecDeque;
use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use celeriac::prelude::*;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::Signal;
use tokio::sync::mpsc;

use crate::process::WorkerProcess;
use crate::report::Report;
use crate::tasks::{FileIndex, index};
use crate::walk::{Found, walk};

const USAGE: &str =
    "usage: quickstart [<folder>]\n\nIndexes every file below the folder, which is `.` when not given.\n";
/// How many tasks are sent at once: a batch is much cheaper than as many single tasks.
const BATCH: usize = 256;
/// How many tasks may be on the way. The walk waits meanwhile, so that a million files take no more memory than a thousand.
const ON_THE_WAY: usize = 4 * BATCH;

/// The app. Both processes make it alike; only the URL tells where it runs.
async fn app(broker_url: &str) -> celeriac::Result<App> {
    // The environment may be set up for other apps: this one is complete in itself.
    App::builder("quickstart").read_env(false).broker_url(broker_url).tasks(tasks![index]).build().await
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<_> = env::args_os().skip(1).collect();
    let outcome = match args.as_slice() {
        [] => run(Path::new(".")).await,
        [one] if one == process::ARGUMENT => process::work().await.map(|()| ExitCode::SUCCESS),
        [one] if one == "--help" || one == "-h" => say(USAGE).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        [folder] if !is_option(folder) => run(Path::new(folder)).await,
        _ => return refuse(&format!("one folder is expected\n{USAGE}")),
    };
    outcome.unwrap_or_else(|error| {
        complain(&celeriac::core::error::report(error.as_ref()));
        ExitCode::FAILURE
    })
}

/// Indexes `folder` from beginning to end.
async fn run(folder: &Path) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    let root = match folder.canonicalize() {
        Ok(root) if root.is_dir() => root,
        Ok(_) => return Ok(refuse(&format!("`{}` is not a folder", folder.display()))),
        Err(error) => return Ok(refuse(&format!("`{}` cannot be opened: {error}", folder.display()))),
    };
    // Gone when this function ends, however it ends.
    let scratch = tempfile::Builder::new().prefix("celeriac-quickstart-").tempdir()?;
    let file = scratch.path().join("tasks.db");
    let url = format!("sqlite://{}", file.display().to_string().replace('%', "%25").replace('?', "%3f"));

    let app = app(&url).await?;
    let mut worker = WorkerProcess::start(&url)?;
    say(&format!(
        "folder    {}\nfile      {}\nproducer  process {}: finds the files, sends a task for each, adds up the results\n\
         worker    process {}: reads the files\n",
        root.display(),
        file.display(),
        std::process::id(),
        worker.pid(),
    ))?;

    // CANCEL SAFETY: whichever comes first, nothing of the others is used any more.
    let report = tokio::select! {
        report = index_all(&app, &root) => report?,
        ended = worker.ended() => return Err(format!("the worker ended too early: {}", ended?).into()),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            complain("interrupted");
            worker.stop().await?;
            return Ok(ExitCode::from(130));
        }
    };

    let status = worker.stop().await?;
    app.close().await?;
    say(&format!("{report}worker stopped: {status}\n"))?;
    // With no task to run, it may have been stopped before it listened to signals.
    let early = report.tasks == 0 && status.signal() == Some(Signal::TERM.as_raw());
    if status.success() || early {
        return Ok(ExitCode::SUCCESS);
    }
    Err("the worker did not stop as it should".into())
}

/// Sends a task for every file below `root` and adds up the results.
async fn index_all(app: &App, root: &Path) -> Result<Report, Box<dyn Error + Send + Sync>> {
    let began = Instant::now();
    // On stderr, and only if that is a terminal.
    let bar = ProgressBar::new(0)
        .with_style(ProgressStyle::with_template("{spinner} {pos} of {len} files {wide_bar} {per_sec}")?);
    let (sender, mut walked) = mpsc::channel(BATCH);
    let folder = root.to_owned();
    let walking = tokio::task::spawn_blocking(move || walk(&folder, |found| sender.blocking_send(found).is_ok()));

    let mut report = Report::default();
    let mut on_the_way: VecDeque<(PathBuf, AsyncResult<FileIndex>)> = VecDeque::new();
    let mut found = Vec::with_capacity(BATCH);
    while walked.recv_many(&mut found, BATCH).await > 0 {
        let mut files = Vec::with_capacity(found.len());
        for found in found.drain(..) {
            match found {
                Found::File(path) => files.push(path),
                Found::Unreadable(path, why) => report.fail(below(root, &path), why),
            }
        }
        let results = app.send_batch(files.iter().cloned().map(index::s)).await?;
        report.tasks += results.len() as u64;
        bar.inc_length(results.len() as u64);
        on_the_way.extend(files.into_iter().zip(results));
        while on_the_way.len() > ON_THE_WAY {
            read_results(app, on_the_way.drain(..BATCH), root, &mut report, &bar).await?;
        }
    }
    read_results(app, on_the_way.drain(..), root, &mut report, &bar).await?;
    walking.await?;
    bar.finish_and_clear();
    report.elapsed = began.elapsed();
    Ok(report)
}

/// Waits for results, adds them up, and has them forgotten, so that the file stays small.
async fn read_results(
    app: &App,
    sent: impl Iterator<Item = (PathBuf, AsyncResult<FileIndex>)>,
    root: &Path,
    report: &mut Report,
    bar: &ProgressBar,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut read = Vec::new();
    for (path, result) in sent {
        let path = below(root, &path);
        match result.get().await {
            Ok(index) => report.add(&path, index),
            Err(ResultError::Failure(failure)) => report.fail(path, failure.message()),
            Err(error) => return Err(error.into()),
        }
        bar.inc(1);
        read.push(result.id().clone());
    }
    if let Some(backend) = app.backend() {
        backend.forget(&read).await?;
    }
    Ok(())
}

fn below(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}

fn is_option(argument: &OsStr) -> bool {
    argument.to_string_lossy().starts_with('-')
}

/// Writes to stdout. Whoever reads it may have seen enough, as `head` does: that is no failure.
fn say(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn complain(text: &str) {
    // There is nobody else to tell.
    let _ = writeln!(io::stderr(), "quickstart: {}", text.trim_end());
}

/// The call is wrong.
fn refuse(text: &str) -> ExitCode {
    complain(text);
    ExitCode::from(2)
}
