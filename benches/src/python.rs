//! Beside Python's Celery, prefork with two processes: both sides in processes of their own, with results in Redis whatever the broker.
//!
//! The clock of work runs from when a hundredth of the tasks is done until all are, and acknowledged; starting a worker is not part of it. What is done
//! is counted by the results in Redis, or without results by what is left in the queue.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use celeriac_testkit::server::{Process, RawRedis, RedisServer, Reply};

use crate::child::print_of;
use crate::measure::latency;
use crate::meter::{Meter, group_time, process_time};
use crate::number;
use crate::options::{Options, Part};
use crate::ours::{Goal, SLOTS, app_with, lone, send_adds, send_counts};
use crate::report::{Row, Unit};
use crate::system::System;

/// How many tasks are sent and worked, and how many go there and back.
const TASKS: usize = 20_000;
const LONE: usize = 2_000;
/// How often it is asked what is done.
const EVERY: Duration = Duration::from_millis(5);
/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// The program of Python's side, which the comparison with other task queues has too.
const APP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/compare/python/app.py");

/// A Python that has Celery, and Celery's version: the one that `BENCH_PYTHON` names, or that of the environment that `cargo xtask setup` makes.
#[must_use]
pub fn installed(target: &Path) -> Option<(PathBuf, String)> {
    let named = std::env::var_os("BENCH_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| target.join("peers/python/bin/python"));
    let output = Command::new(&python).args(["-c", "import celery; print(celery.__version__)"]).output().ok()?;
    let version = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some((python, version.trim().to_owned()))
}

/// Who sends and works.
#[derive(Debug, Clone, Copy)]
enum Side<'a> {
    Ours,
    Python(&'a Path),
}

/// Where tasks and results go.
#[derive(Debug)]
struct Urls {
    broker: String,
    results: String,
}

impl Side<'_> {
    /// A program that does as the words say: `send TASK COUNT`, `work`, or `lone COUNT`.
    fn command(self, urls: &Urls, words: &[&str]) -> Command {
        let mut command = match self {
            Self::Ours => {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["peer", &urls.broker, &urls.results]);
                command
            }
            Self::Python(python) => {
                let mut command = Command::new(python);
                command.arg(APP);
                command.env("COMPARE_BROKER_URL", &urls.broker).env("COMPARE_RESULTS_URL", &urls.results);
                // It warns of working as root.
                command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONWARNINGS", "ignore");
                command
            }
        };
        command.args(words);
        command
    }
}

/// Celeriac's side; this is the process of its own.
pub async fn peer(words: Vec<String>) {
    let [broker, results, words @ ..] = &words[..] else { panic!("no URLs") };
    let app = app_with(broker, Some(results), Goal::new(usize::MAX)).await;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["work"] => app.worker().concurrency(SLOTS).build().unwrap().run_until_signal().await.unwrap(),
        ["lone", count] => {
            // The first waits for the worker to start.
            lone(&app, 1).await;
            lone(&app, count.parse().unwrap()).await.iter().for_each(|micros| println!("{micros}"));
        }
        ["send", task, count] => {
            let (count, meter) = (count.parse().unwrap(), Meter::new(Vec::new()));
            let start = meter.start();
            match task {
                "add" => drop(send_adds(&app, count).await),
                _ => send_counts(&app, count).await,
            }
            let spent = start.stop();
            println!("{}\n{}", spent.wall.as_secs_f64(), spent.own.as_secs_f64());
        }
        _ => panic!("not `send TASK COUNT`, `work` or `lone COUNT`"),
    }
    app.close().await.unwrap();
}

/// What a round has shown of one side.
#[derive(Debug, Default, Clone, Copy)]
struct Round {
    /// Rate, and processor time of the sender for each task in microseconds.
    send: [f64; 2],
    /// Rate, and processor time of the worker and the servers.
    plain: [f64; 3],
    results: [f64; 3],
    lone: [f64; 3],
}

/// One way of working in a round.
type Work = fn(&Round) -> [f64; 3];

/// The rows of one broker.
pub async fn measure(system: &mut dyn System, options: &Options, python: &Path) -> Vec<Row> {
    let (name, part) = (system.kind().name(), Part::Python.name());
    // A RabbitMQ broker has a Redis server for results beside it.
    let beside = if system.redis().is_none() { Some(RedisServer::start().await) } else { None };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..options.few_rounds() {
        ours.push(round(system, beside.as_ref(), Side::Ours, options).await);
        theirs.push(round(system, beside.as_ref(), Side::Python(python), options).await);
    }
    let row = |what: &str, unit: Unit, of: &dyn Fn(&Round) -> f64| {
        let samples = |rounds: &[Round]| rounds.iter().map(of).collect::<Vec<f64>>();
        Row::new(name, part, what, unit, samples(&ours)).python(samples(&theirs))
    };
    let mut rows = vec![
        row("send", Unit::PerSecond, &|round| round.send[0]),
        row("send, CPU a task", Unit::Micros, &|round| round.send[1]),
    ];
    let works: [(&str, Work); 2] = [("work", |round| round.plain), ("work with results", |round| round.results)];
    for (what, of) in works {
        rows.push(row(what, Unit::PerSecond, &|round| of(round)[0]));
        rows.push(row(&format!("{what}, CPU a task"), Unit::Micros, &|round| of(round)[1]));
        rows.push(row(&format!("{what}, servers' CPU a task"), Unit::Micros, &|round| of(round)[2]));
    }
    let lone = |rounds: &[Round]| rounds.iter().map(|round| round.lone).collect::<Vec<[f64; 3]>>();
    let lone = latency::rows(name, part, "lone ", &lone(&ours), &lone(&theirs));
    rows.extend(lone.into_iter().map(|(row, theirs)| row.python(theirs)));
    rows
}

async fn round(system: &mut dyn System, beside: Option<&RedisServer>, side: Side<'_>, options: &Options) -> Round {
    let (tasks, alone) = (options.count(TASKS, 1_000), options.count(LONE, 20));
    let mut round = Round::default();
    for results in [true, false] {
        let place = Place::empty(system, beside).await;
        let task = if results { "add" } else { "count" };
        let sent = figures(&print_of(&mut side.command(&place.urls, &["send", task, &tasks.to_string()])));
        let worker = place.worker(side);
        let worked = place.watch(tasks, results, &worker).await;
        if results {
            round.send = [number(tasks) / sent[0], sent[1] * 1e6 / number(tasks)];
            round.results = worked;
        } else {
            round.plain = worked;
        }
    }
    let place = Place::empty(system, beside).await;
    let worker = place.worker(side);
    let times = figures(&print_of(&mut side.command(&place.urls, &["lone", &alone.to_string()])));
    assert!(worker.ended().is_none(), "the worker has ended");
    round.lone = latency::parts(times);
    round
}

/// The numbers that a program prints.
fn figures(printed: &str) -> Vec<f64> {
    printed.split_whitespace().map(|figure| figure.parse().unwrap()).collect()
}

/// Servers in which there was nothing.
struct Place<'a> {
    system: &'a dyn System,
    results: &'a RedisServer,
    urls: Urls,
}

impl<'a> Place<'a> {
    async fn empty(system: &'a mut dyn System, beside: Option<&'a RedisServer>) -> Self {
        system.empty().await;
        let system: &dyn System = system;
        let results = beside.or(system.redis()).unwrap();
        results.command(&["FLUSHALL"]).await;
        let urls = Urls { broker: system.url(), results: results.url() };
        Self { system, results, urls }
    }

    /// A worker, which ends when it is dropped.
    fn worker(&self, side: Side<'_>) -> Process {
        let mut command = side.command(&self.urls, &["work"]);
        command.stdout(Stdio::null());
        Process::start(command, &self.results.folder().join("unused")).unwrap()
    }

    /// Watches the worker until all is done: the rate, and the processor time of the worker and of the servers for each task in microseconds.
    async fn watch(&self, tasks: usize, results: bool, worker: &Process) -> [f64; 3] {
        let mut redis = self.results.connect().await.unwrap();
        let mut last = self.look(0, worker);
        let mut begun = None;
        loop {
            // Among keys, a handful that are no results are counted with them while there are tasks left.
            let done = match results {
                true => number_of(&mut redis, &["DBSIZE"]).await,
                false => tasks - self.left(&mut redis).await.min(tasks),
            };
            let now = self.look(done, worker);
            // If it has all been done since the last look, that one must do.
            let begin = if done >= tasks { last } else { now };
            if begun.is_none() && done >= tasks / 100 {
                begun = Some(begin);
            }
            if let Some(begun) = begun.filter(|_| done >= tasks)
                && self.left(&mut redis).await == 0
            {
                let (now, count) = (self.look(done, worker), number(tasks - begun.done));
                let micros = |before: Duration, after: Duration| (after - before).as_secs_f64() * 1e6 / count;
                let rate = count / (now.at - begun.at).as_secs_f64();
                return [rate, micros(begun.worker, now.worker), micros(begun.servers, now.servers)];
            }
            if done != last.done {
                last = now;
            }
            assert!(worker.ended().is_none(), "the worker has ended with {done} tasks done");
            assert!(last.at.elapsed() < PATIENCE, "nothing happens after {done} tasks");
            tokio::time::sleep(EVERY).await;
        }
    }

    /// How many tasks wait, or are not acknowledged.
    async fn left(&self, redis: &mut RawRedis) -> usize {
        match self.system.rabbit() {
            None => number_of(redis, &["LLEN", "celery"]).await + number_of(redis, &["HLEN", "unacked"]).await,
            Some(rabbit) => {
                let info = rabbit.default_vhost().queue_info("celery").await;
                info.map_or(0, |info| usize::try_from(info.ready + info.unacked).unwrap())
            }
        }
    }

    fn look(&self, done: usize, worker: &Process) -> Look {
        let pids = self.system.servers().into_iter().chain([self.results.pid()]);
        let pids: std::collections::BTreeSet<u32> = pids.collect();
        let servers = pids.iter().map(|pid| process_time(*pid)).sum();
        Look { at: Instant::now(), done, worker: group_time(worker.pid()), servers }
    }
}

/// How things stand.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    done: usize,
    worker: Duration,
    servers: Duration,
}

async fn number_of(redis: &mut RawRedis, command: &[&str]) -> usize {
    match redis.command(command).await.unwrap() {
        Reply::Integer(number) => usize::try_from(number).unwrap(),
        other => panic!("{command:?}: {other:?}"),
    }
}
