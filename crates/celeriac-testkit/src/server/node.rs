//! `Node`: what a Redis server and a sentinel have in common: a folder, a port, a configuration and a process.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use super::patience::Patience;
use super::port::Port;
use super::process::{Process, installed};
use super::resp::{RawRedis, Reply};

/// How many ports are tried.
const PORTS_TRIED: usize = 20;

/// What Redis writes to its log if it cannot have its port.
const PORT_TAKEN: &str = "Address already in use";

#[derive(Debug)]
pub(super) struct Node {
    program: PathBuf,
    /// The password of the user `default`.
    password: Option<String>,
    // In this order: no process is left when its port and its folder are given up.
    process: Mutex<Arc<Process>>,
    port: Port,
    folder: tempfile::TempDir,
}

impl Node {
    /// Starts `program` in `folder` with what `config` says for a port, and what every node has.
    pub(super) async fn start(
        program: &str,
        folder: tempfile::TempDir,
        password: Option<String>,
        config: impl Fn(u16) -> String,
    ) -> Self {
        let program = installed(program);
        let mut tried = Vec::new();
        while tried.len() < PORTS_TRIED {
            let port = Port::reserve();
            write_config(folder.path(), &config(port.number()));
            let process = Arc::new(spawn(&program, folder.path()));
            match until_it_answers(&process, folder.path()).await {
                Ok(()) => return Self { program, password, process: Mutex::new(process), port, folder },
                // A program that does not ask for reservations was faster. The ports tried stay reserved.
                Err(log) if log.contains(PORT_TAKEN) => tried.push(port),
                Err(log) => panic!("{} did not start; its log:\n{log}", program.display()),
            }
        }
        panic!("{} found no free port in {PORTS_TRIED} attempts", program.display());
    }

    /// Starts the process again, with the same port, folder and configuration.
    pub(super) async fn restart(&self) {
        self.process().stop().await;
        let process = Arc::new(spawn(&self.program, self.path()));
        if let Err(log) = until_it_answers(&process, self.path()).await {
            panic!("{} did not start again; its log:\n{log}", self.program.display());
        }
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = process;
    }

    pub(super) fn process(&self) -> Arc<Process> {
        Arc::clone(&self.process.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn port(&self) -> &Port {
        &self.port
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn socket(&self) -> PathBuf {
        socket(self.path())
    }

    pub(super) fn log(&self) -> String {
        log(self.path())
    }

    /// A connection through the socket, as the user `default`.
    pub(super) async fn connect(&self) -> io::Result<RawRedis> {
        let mut connection = RawRedis::connect_unix(&self.socket()).await?;
        if let Some(password) = &self.password {
            connection.command(&["AUTH", password]).await?;
        }
        Ok(connection)
    }

    /// The reply to one command.
    pub(super) async fn command(&self, words: &[&str]) -> io::Result<Reply> {
        self.connect().await?.command(words).await
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

fn log(folder: &Path) -> String {
    std::fs::read(folder.join("redis.log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
}

fn write_config(folder: &Path, config: &str) {
    let of_every_node = format!(
        "bind 127.0.0.1\ndaemonize no\ndir \"{}\"\nlogfile redis.log\nunixsocket \"{}\"\n",
        folder.display(),
        socket(folder).display()
    );
    std::fs::write(folder.join("redis.conf"), of_every_node + config).expect("a configuration can be written");
}

/// Starts with an empty log.
fn spawn(program: &Path, folder: &Path) -> Process {
    std::fs::write(folder.join("redis.log"), "").expect("a log can be written");
    let mut command = Command::new(program);
    // Before it has read where its log is, it complains to its output.
    let output = std::fs::File::create(folder.join("redis.out")).expect("a log can be written");
    let errors = output.try_clone().expect("a file can be shared");
    command.arg(folder.join("redis.conf")).current_dir(folder).stdout(output).stderr(errors);
    Process::start(command, folder).unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()))
}

/// Waits until the process answers. If it ends instead: what it said.
async fn until_it_answers(process: &Process, folder: &Path) -> Result<(), String> {
    let patience = Patience::new();
    loop {
        if process.ended().is_some() {
            let said = std::fs::read(folder.join("redis.out")).unwrap_or_default();
            return Err(log(folder) + &String::from_utf8_lossy(&said));
        }
        // The TCP port is listened on before the socket is. The socket is nobody else's, so that it is this process that answers.
        let answer = async { RawRedis::connect_unix(&socket(folder)).await?.command(&["PING"]).await };
        match answer.await {
            // One that wants a password first is up; one that still reads its file is not.
            Ok(reply) if !reply.text().starts_with("LOADING") => return Ok(()),
            _ => {}
        }
        patience.pause("a server answers", || log(folder)).await;
    }
}
