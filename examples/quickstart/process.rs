//! The worker: this same program, started once more.

use std::env;
use std::error::Error;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

use crate::app;

/// What the program is called with to be a worker.
pub(crate) const ARGUMENT: &str = "--worker";
/// Where a worker finds its broker.
const BROKER_URL: &str = "CELERIAC_BROKER_URL";

/// Is the worker, in its own process.
pub(crate) async fn work() -> Result<(), Box<dyn Error + Send + Sync>> {
    let worker = app(&env::var(BROKER_URL)?).await?.worker().build()?;
    let stop = worker.handle();
    // The parent holds the other end, and says nothing: an end of it means that the parent is dead.
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        stop.shutdown_cold();
    });
    // Until SIGTERM: then it finishes what runs, and hands back what does not.
    Ok(worker.run_until_signal().await?)
}

/// The worker, as the parent sees it.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    child: Child,
    pid: Pid,
    _lifeline: Option<ChildStdin>,
}

impl WorkerProcess {
    pub(crate) fn start(url: &str) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg(ARGUMENT)
            .env(BROKER_URL, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.ok_or_else(|| io::Error::other("the worker has no process id"))?;
        Ok(Self { pid, _lifeline: child.stdin.take(), child })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Tells it to stop, as a system's service manager does, and waits until it has.
    pub(crate) async fn stop(mut self) -> io::Result<ExitStatus> {
        kill_process(self.pid, Signal::TERM)?;
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        ended.map_err(|_| io::Error::other("the worker did not stop within 30 seconds"))?
    }
}
