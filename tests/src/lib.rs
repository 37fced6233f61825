//! Tests across the crates of celeriac: the tasks and processes they share. The tests themselves are in `tests/`.

pub mod beats;
pub mod load;
pub mod log;
pub mod network;
pub mod odd;
pub mod peers;
pub mod python;
pub mod rabbit;
pub mod raw;
pub mod redis;
pub mod refused;
pub mod runs;
pub mod scenario;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use celeriac::AppBuilder;
use celeriac::prelude::*;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

/// Doubles `n`, in about a millisecond.
#[celeriac::task]
pub async fn double(n: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(1)).await; // wait: the work itself
    n * 2
}

/// The folder that tasks leave their traces in.
#[derive(Debug, Clone)]
pub struct Traces {
    /// The folder.
    pub folder: PathBuf,
}

impl Traces {
    /// Adds a line to the file `name`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn add(&self, name: &str, line: &str) -> std::io::Result<()> {
        let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(self.folder.join(name)).await?;
        // One write of a short line in append mode: lines of many processes do not mix.
        file.write_all(format!("{line}\n").as_bytes()).await?;
        file.flush().await
    }

    /// The lines of the file `name`.
    #[must_use]
    pub fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// Starts, waits until the gate is open, and ends; traces both.
///
/// # Errors
/// If a trace cannot be written.
#[celeriac::task]
pub async fn through_gate(traces: State<Traces>, n: u64) -> std::io::Result<u64> {
    traces.add("started", &n.to_string()).await?;
    while !tokio::fs::try_exists(traces.folder.join("gate")).await? {
        tokio::time::sleep(Duration::from_millis(5)).await; // wait: for the gate
    }
    traces.add("ended", &n.to_string()).await?;
    Ok(n)
}

/// As `through_gate`, but blocks its thread.
///
/// # Errors
/// As `through_gate`; and when it is told to stop.
#[celeriac::task]
pub fn through_gate_blocking(cx: &TaskContext, traces: State<Traces>, n: u64) -> std::io::Result<u64> {
    use std::io::Write as _;
    let append = |name: &str| {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(traces.folder.join(name))?;
        file.write_all(format!("{n}\n").as_bytes())
    };
    append("started")?;
    while !traces.folder.join("gate").try_exists()? {
        if cx.is_cancelled() {
            return Err(std::io::Error::other("told to stop"));
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    append("ended")?;
    Ok(n)
}

/// The app of all these tests, over the file or the server at `url`.
///
/// # Errors
/// If it cannot be opened.
pub async fn app(url: &str, traces: &Path) -> celeriac::Result<App> {
    builder(url, traces).build().await
}

/// As [`app`], beginning with which options may be set.
pub fn builder(url: &str, traces: &Path) -> AppBuilder {
    App::builder("tests").read_env(false).broker_url(url).state(Traces { folder: traces.to_owned() }).tasks(tasks![
        double,
        through_gate,
        through_gate_blocking,
        peers::trace
    ])
}

/// What workers say, in the folder of their traces.
const LOG: &str = "log";

/// A folder with a file to share, and room for traces and for what workers say.
#[derive(Debug)]
pub struct Place {
    folder: tempfile::TempDir,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// A fresh folder, gone when dropped.
    ///
    /// # Panics
    /// If there is no room for it.
    #[must_use]
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// The path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The path of the shared file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.path().join("tasks.db")
    }

    /// The URL of the shared file.
    #[must_use]
    pub fn url(&self) -> String {
        format!("sqlite://{}", self.file().display())
    }

    /// The traces left by tasks.
    #[must_use]
    pub fn traces(&self) -> Traces {
        Traces { folder: self.path().to_owned() }
    }

    /// Opens the gate that tasks wait at.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub fn open_gate(&self) {
        std::fs::write(self.path().join("gate"), "").expect("the gate opens");
    }

    /// An app in this process.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub async fn app(&self) -> App {
        app(&self.url(), self.path()).await.expect("the file opens")
    }

    /// Starts a worker over the shared file, in a process of its own. `actor` is the path of its program.
    ///
    /// # Panics
    /// If the process does not start.
    #[must_use]
    pub fn worker(&self, actor: &str, concurrency: usize) -> Child {
        self.worker_of(actor, &self.url(), concurrency)
    }

    /// As `worker`, over the store at `url`.
    ///
    /// # Panics
    /// As `worker`.
    #[must_use]
    pub fn worker_of(&self, actor: &str, url: &str, concurrency: usize) -> Child {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path().join(LOG));
        Command::new(actor)
            .args([url, &self.path().display().to_string(), &concurrency.to_string()])
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stderr(log.expect("a log that can be written"))
            .kill_on_drop(true)
            .spawn()
            .expect("a worker's process starts")
    }

    /// Waits until one of the workers has heard that it is to stop: from then on nothing starts in it.
    ///
    /// # Panics
    /// After a minute.
    pub async fn until_a_worker_stops(&self) {
        let traces = self.traces();
        until("a worker stops", async || traces.lines(LOG).iter().any(|line| line.contains("worker stops"))).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.traces().lines(LOG).join("\n");
            // Beside the test's own words; nothing more can be done where even that fails.
            _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("what the workers said:\n{said}\n").as_bytes(),
            );
        }
    }
}

/// Sends a signal to a child.
///
/// # Panics
/// If the child is gone.
pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(id.expect("the child runs"), signal).expect("the child takes a signal");
}

/// Waits until `done` is true, and fails with `what` after a minute.
///
/// # Panics
/// After a minute.
pub async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(5)).await; // wait: for the condition
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waiting).await.is_ok(), "after a minute still not: {what}");
}
