//! `Node`: what all servers have in common: a folder, ports, a process and its log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::Pid;

use super::patience::Patience;
use super::port::Port;
use super::process::Process;

/// How often a server is started with other ports.
const ATTEMPTS: usize = 20;

/// How many lines of a log a failed test shows.
const LINES_SHOWN: usize = 60;

/// What servers of one kind have of their own.
pub(super) trait Kind: Send + Sync {
    /// What its log says if it cannot have a port.
    const PORT_TAKEN: &'static str;

    /// What is run. It logs to its standard output.
    fn command(&self, folder: &Path, ports: &[Port]) -> Command;

    /// Whether it, and no other, does what it is for.
    fn serves(&self, folder: &Path, ports: &[Port]) -> impl Future<Output = bool> + Send;
}

/// A server in a process, a folder and on ports of its own, all of which are given up when this is dropped. In a test that fails, its log
/// is shown.
#[derive(Debug)]
pub(super) struct Node<K: Kind> {
    kind: K,
    // In this order: no process is left when its ports and its folder are given up.
    /// `None` if another process of the test run has started it.
    process: Option<Mutex<Arc<Process>>>,
    ports: Vec<Port>,
    folder: Folder,
}

/// Where a server is, and when that is removed.
#[derive(Debug)]
pub(super) enum Folder {
    /// With the server.
    OfOne(tempfile::TempDir),
    /// With the process that is named, as the server is ended.
    OfAll(PathBuf, Pid),
}

impl Folder {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::OfOne(folder) => folder.path(),
            Self::OfAll(folder, _) => folder,
        }
    }

    fn owner(&self) -> Option<Pid> {
        match self {
            Self::OfOne(_) => None,
            Self::OfAll(_, owner) => Some(*owner),
        }
    }
}

impl<K: Kind> Node<K> {
    /// Has `configure` write to `folder` what a server on these ports reads, as many as `ports`, and starts it.
    pub(super) async fn start(
        kind: K,
        folder: Folder,
        ports: usize,
        configure: impl Fn(&Path, &[Port]) + Send + Sync,
    ) -> Self {
        let mut tried = Vec::new();
        while tried.len() < ATTEMPTS {
            let ports: Vec<Port> = (0..ports).map(|_| Port::reserve()).collect();
            configure(folder.path(), &ports);
            let process = Arc::new(spawn(&kind, &folder, &ports));
            match until_it_serves(&kind, &process, folder.path(), &ports).await {
                Ok(()) => return Self { kind, process: Some(Mutex::new(process)), ports, folder },
                // A program that does not ask for reservations was faster. The ports tried stay reserved.
                Err(log) if log.contains(K::PORT_TAKEN) => tried.push(ports),
                Err(log) => panic!("a server did not start; its log:\n{log}"),
            }
        }
        panic!("a server found no free ports in {ATTEMPTS} attempts");
    }

    /// One that another process has started.
    pub(super) fn of_another(kind: K, folder: Folder, ports: Vec<Port>) -> Self {
        Self { kind, process: None, ports, folder }
    }

    /// Starts the process again, with the same ports, folder and configuration.
    pub(super) async fn restart(&self) {
        self.process().stop().await;
        let process = Arc::new(spawn(&self.kind, &self.folder, &self.ports));
        if let Err(log) = until_it_serves(&self.kind, &process, self.folder(), &self.ports).await {
            panic!("a server did not start again; its log:\n{log}");
        }
        *self.of_its_own().lock().unwrap_or_else(PoisonError::into_inner) = process;
    }

    pub(super) fn kind(&self) -> &K {
        &self.kind
    }

    pub(super) fn process(&self) -> Arc<Process> {
        Arc::clone(&self.of_its_own().lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn of_its_own(&self) -> &Mutex<Arc<Process>> {
        assert!(self.folder.owner().is_none(), "a server that many tests share is not stopped: start another");
        self.process.as_ref().expect("a server of its own has a process")
    }

    pub(super) fn ports(&self) -> &[Port] {
        &self.ports
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the process has logged since it was started.
    pub(super) fn log(&self) -> String {
        log(self.folder())
    }
}

impl<K: Kind> Drop for Node<K> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            // RabbitMQ tells of its start in hundreds of lines, which would hide what the test says.
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains(" [info] ")).collect();
            let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
            #[expect(clippy::print_stderr, reason = "it belongs to the output of the test that failed")]
            {
                eprintln!("the log of the server on {}:\n{}", self.ports[0].address(), last.join("\n"));
            }
        }
    }
}

fn log(folder: &Path) -> String {
    std::fs::read(folder.join("server.log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
}

/// Starts with an empty log.
fn spawn<K: Kind>(kind: &K, folder: &Folder, ports: &[Port]) -> Process {
    let path = folder.path();
    let mut command = kind.command(path, ports);
    let output = File::create(path.join("server.log")).expect("a log can be written");
    let errors = output.try_clone().expect("a file can be shared");
    command.current_dir(path).stdout(output).stderr(errors);
    Process::start_under(command, path, folder.owner())
        .unwrap_or_else(|error| panic!("a server cannot be run: {error}"))
}

/// Waits until the server is up. If it ends instead: its log.
async fn until_it_serves<K: Kind>(kind: &K, process: &Process, folder: &Path, ports: &[Port]) -> Result<(), String> {
    let patience = Patience::new();
    loop {
        if process.ended().is_some() {
            return Err(log(folder));
        }
        if kind.serves(folder, ports).await {
            return Ok(());
        }
        patience.pause("a server is up", || log(folder)).await;
    }
}
