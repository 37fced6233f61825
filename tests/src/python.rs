//! Peers in Python: real Celery, as a worker, as a beat and as a client. The apps they run are in `tests/python/`.

mod beat;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use celeriac_testkit::server::Process;
use celeriac_testkit::unique;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::Mutex;

pub use self::beat::PythonBeat;
use crate::until;

/// Below the target folder; made by `xtask/src/setup/python.rs`.
const ENVIRONMENT: &str = "peers/python/bin/python";

/// A Python that has Celery.
fn python() -> PathBuf {
    let program = std::env::current_exe().expect("a test knows where it is");
    let found = program.ancestors().map(|folder| folder.join(ENVIRONMENT)).find(|python| python.exists());
    found.unwrap_or_else(|| panic!("no {ENVIRONMENT} above {}: run `cargo xtask setup`", program.display()))
}

/// Runs Python in the folder of the peers' apps.
fn command(broker: &str, backend: &str, extra: &Value) -> Command {
    let mut command = Command::new(python());
    command
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/python"))
        .env("BROKER_URL", broker)
        .env("RESULT_BACKEND", backend)
        .env("CELERY_EXTRA", extra.to_string())
        // Celery warns root off pickle otherwise.
        .env("C_FORCE_ROOT", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1");
    command
}

/// Runs a program in Python, a minute at most: what it prints.
///
/// # Panics
/// If Python Celery is not installed, which `cargo xtask setup` does; or if the program fails.
pub async fn run(program: &Path) -> String {
    let mut command = tokio::process::Command::new(python());
    let running = command.arg(program).stderr(Stdio::inherit()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(60), running).await.expect("the program ends");
    let output = output.expect("Python starts");
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a program of `tests/python/` to its end: what it says to `input`, both in JSON.
///
/// # Panics
/// If it fails, or Python Celery is not installed, which `cargo xtask setup` does.
#[must_use]
pub fn answer(program: &str, input: &Value) -> Value {
    // A pipe could fill up on one side while the other waits.
    let mut file = tempfile::tempfile().expect("a temporary file");
    std::io::Write::write_all(&mut file, input.to_string().as_bytes()).expect("a file can be written");
    std::io::Seek::rewind(&mut file).expect("a file can be read again");
    let mut command = command("memory://", "cache+memory://", &json!({}));
    let output = command.arg(program).stdin(file).stderr(Stdio::inherit()).output().expect("Python starts");
    assert!(output.status.success(), "{program} failed");
    serde_json::from_slice(&output.stdout).expect("its output is JSON")
}

/// Where a Python worker runs its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// In child processes, so many.
    Prefork(usize),
    /// In the worker's own process, one after another.
    Solo,
}

/// How a [`PythonWorker`] is started.
#[derive(Debug, Clone)]
pub struct PythonOptions {
    /// The module of the Celery app. By default that of the peers.
    pub app: String,
    /// Where tasks run. By default in two child processes.
    pub pool: Pool,
    /// The queues, separated by commas. By default `celery`.
    pub queues: String,
    /// Settings of the Celery app, in an object.
    pub settings: Value,
    /// Variables of its environment, such as `TRACE_FILE`.
    pub env: Vec<(String, String)>,
    /// Further arguments of `celery worker`.
    pub args: Vec<String>,
}

impl Default for PythonOptions {
    fn default() -> Self {
        let (app, queues) = ("peer_app".to_owned(), "celery".to_owned());
        Self { app, pool: Pool::Prefork(2), queues, settings: json!({}), env: Vec::new(), args: Vec::new() }
    }
}

/// A program of Celery's, and what it logs. Killed with its children when dropped; if a test fails then, its log is shown.
#[derive(Debug)]
struct Program {
    process: Process,
    folder: tempfile::TempDir,
    what: &'static str,
}

impl Program {
    /// Starts it, and waits until its log says that it is ready.
    async fn start(what: &'static str, mut command: Command, ready: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("celeriac-python-").tempdir().expect("a temporary folder");
        let log = File::create(folder.path().join("log")).expect("a log can be written");
        command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        let process = Process::start(command, folder.path()).expect("Python starts");
        let program = Self { process, folder, what };
        until(&format!("{what} in Python is ready"), async || {
            assert!(program.process.ended().is_none(), "{what} in Python ended before it was ready");
            program.log().contains(ready)
        })
        .await;
        program
    }

    fn log(&self) -> String {
        let log = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            use std::io::Write as _;
            // Nobody is left to tell if stderr is closed.
            let _ = writeln!(std::io::stderr(), "the log of {} in Python:\n{}", self.what, self.log());
        }
    }
}

/// A Celery worker in Python. Killed with its children when dropped; if a test fails then, its log is shown.
#[derive(Debug)]
pub struct PythonWorker(Program);

impl PythonWorker {
    /// Starts a worker and waits until it is ready.
    ///
    /// # Panics
    /// If Python Celery is not installed, which `cargo xtask setup` does; or if the worker does not start: with its log.
    pub async fn start(broker: &str, backend: &str, options: PythonOptions) -> Self {
        let (pool, concurrency) = match options.pool {
            Pool::Prefork(children) => ("prefork", children),
            Pool::Solo => ("solo", 1),
        };
        let mut command = command(broker, backend, &options.settings);
        command
            .args(["-m", "celery", "-A", &options.app, "worker", "--loglevel", "INFO"])
            .args(["--without-gossip", "--without-mingle", "-P", pool, "-c", &concurrency.to_string()])
            .args(["-Q", &options.queues, "-n", &unique("peer")])
            .args(options.args)
            .envs(options.env);
        Self(Program::start("a worker", command, " ready.").await)
    }

    /// What the worker has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.0.log()
    }

    /// The ids of the runs of `task` that have succeeded.
    #[must_use]
    pub fn succeeded(&self, task: &str) -> Vec<String> {
        let begin = format!("Task {task}[");
        let id = |line: &str| Some(line.split_once(&begin)?.1.split_once("] succeeded in ")?.0.to_owned());
        self.log().lines().filter_map(id).collect()
    }

    /// The worker's process id; its children have others.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.process.pid()
    }

    /// Asks the worker to end once it has finished what it runs, by SIGTERM, and does not wait.
    pub fn terminate(&self) {
        self.0.process.terminate();
    }

    /// As [`PythonWorker::terminate`], and waits until it has ended.
    ///
    /// # Panics
    /// If it still runs a minute later.
    pub async fn stop(&self) {
        self.0.process.stop().await;
    }

    /// Halts the worker, by SIGSTOP, and not its children.
    pub fn pause(&self) {
        self.0.process.pause();
    }

    /// Lets a halted worker go on.
    pub fn resume(&self) {
        self.0.process.resume();
    }

    /// Kills the worker and its children, by SIGKILL.
    pub fn kill(&self) {
        self.0.process.kill();
    }
}

/// An exception that Python raised.
#[derive(Debug, Clone, PartialEq)]
pub struct PythonError {
    /// Its class, such as `builtins.ValueError`.
    pub class: String,
    /// What it was made of.
    pub args: Vec<Value>,
    /// The classes that it is of, itself first.
    pub is: Vec<String>,
    /// What Python says that it is.
    pub text: String,
}

impl PythonError {
    /// Whether it is of that class, or of one below it.
    #[must_use]
    pub fn is(&self, class: &str) -> bool {
        self.is.iter().any(|of| of == class)
    }

    fn read(value: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |name: &str| value[name].as_array().cloned().unwrap_or_default();
        let is = list("is").iter().map(text).collect();
        Self { class: text(&value["class"]), args: list("args"), is, text: text(&value["text"]) }
    }
}

/// How a client in Python came to know that a task had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CameBy {
    /// The backend told it.
    Push,
    /// It looked.
    Look,
}

/// A Celery client in Python: one process that does one thing after another.
#[derive(Debug)]
pub struct PythonClient(Mutex<Pipe>);

#[derive(Debug)]
struct Pipe {
    requests: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
    /// Killed when dropped, and at the latest when its input ends.
    _process: Child,
}

impl PythonClient {
    /// Starts a client. `settings` are those of the Celery app, in an object.
    ///
    /// # Panics
    /// If Python Celery is not installed, which `cargo xtask setup` does.
    #[must_use]
    pub fn start(broker: &str, backend: &str, settings: &Value) -> Self {
        let mut command = tokio::process::Command::from(command(broker, backend, settings));
        command.arg("client.py").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("Python starts");
        let requests = process.stdin.take().expect("its input is a pipe");
        let replies = BufReader::new(process.stdout.take().expect("its output is a pipe")).lines();
        Self(Mutex::new(Pipe { requests, replies, _process: process }))
    }

    /// Sends a task; `options` are those of `apply_async`. The task's id.
    ///
    /// # Panics
    /// If it cannot be sent.
    pub async fn send(&self, name: &str, args: Value, kwargs: Value, options: Value) -> String {
        let reply =
            self.ask(json!({"do": "send", "name": name, "args": args, "kwargs": kwargs, "options": options})).await;
        reply["id"].as_str().expect("a task's id").to_owned()
    }

    /// Waits for a result, a minute at most: what `AsyncResult.get` returns or raises.
    ///
    /// # Errors
    /// What was raised; also `celery.exceptions.TimeoutError`.
    ///
    /// # Panics
    /// If the client breaks.
    pub async fn get(&self, id: &str) -> Result<Value, PythonError> {
        outcome(&self.ask(json!({"do": "get", "id": id})).await)
    }

    /// As [`PythonClient::get`]; also how the client came to know it.
    ///
    /// # Errors
    /// What was raised.
    ///
    /// # Panics
    /// If the client breaks, or did not learn of the task's end.
    pub async fn get_by(&self, id: &str) -> Result<(Value, CameBy), PythonError> {
        let (outcome, by) = self.end_by(id).await;
        outcome.map(|value| (value, by))
    }

    /// What [`PythonClient::get`] returns or raises, and how the client came to know it.
    ///
    /// # Panics
    /// If the client breaks, or did not learn of the task's end.
    pub async fn end_by(&self, id: &str) -> (Result<Value, PythonError>, CameBy) {
        let reply = self.ask(json!({"do": "get", "id": id})).await;
        let by = match reply["by"].as_str() {
            Some("push") => CameBy::Push,
            Some("look") => CameBy::Look,
            _ => panic!("no task ended: {reply}"),
        };
        (outcome(&reply), by)
    }

    /// Waits for several results, as `ResultSet.get` does.
    ///
    /// # Errors
    /// What was raised first.
    ///
    /// # Panics
    /// If the client breaks.
    pub async fn get_many(&self, ids: &[String]) -> Result<Vec<Value>, PythonError> {
        let value = outcome(&self.ask(json!({"do": "get_many", "ids": ids})).await)?;
        Ok(value.as_array().cloned().unwrap_or_default())
    }

    /// A task's state, and what is told with it: an exception as the object that [`PythonError`] is made of.
    ///
    /// # Panics
    /// If the client breaks.
    pub async fn state(&self, id: &str) -> (String, Value) {
        let mut reply = self.ask(json!({"do": "state", "id": id})).await;
        (reply["state"].as_str().unwrap_or_default().to_owned(), reply["info"].take())
    }

    /// The stored bytes of a result.
    ///
    /// # Panics
    /// If the client breaks.
    pub async fn raw(&self, id: &str) -> Option<Vec<u8>> {
        let reply = self.ask(json!({"do": "raw", "id": id})).await;
        let raw = reply["raw"].as_str()?;
        Some(base64::engine::general_purpose::STANDARD.decode(raw).expect("the client encodes"))
    }

    /// The value of a Python expression, in which `app`, `celery`, its canvas (`chain`, `group`, ..) and the peers' tasks are known.
    ///
    /// # Panics
    /// If it raises.
    pub async fn evaluate(&self, code: &str) -> Value {
        self.ask(json!({"do": "evaluate", "code": code})).await["ok"].take()
    }

    async fn ask(&self, request: Value) -> Value {
        let mut pipe = self.0.lock().await;
        pipe.requests.write_all(format!("{request}\n").as_bytes()).await.expect("the client reads");
        let line = pipe.replies.next_line().await.expect("the client's output is text");
        let line = line.unwrap_or_else(|| panic!("the client ended at {request}"));
        let reply: Value = serde_json::from_str(&line).expect("the client replies in JSON");
        if let Some(broken) = reply["broken"].as_str() {
            panic!("{request} cannot be done:\n{broken}");
        }
        reply
    }
}

fn outcome(reply: &Value) -> Result<Value, PythonError> {
    match reply.get("error") {
        Some(error) => Err(PythonError::read(error)),
        None => Ok(reply["ok"].clone()),
    }
}
