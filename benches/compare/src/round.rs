//! One run of one system: its tasks are sent, then its worker is watched.

use std::process::Command;
use std::time::{Duration, Instant};

use celeriac_testkit::server::{Process, RawRedis, Reply};

use crate::servers::{Empty, Servers};
use crate::system::{Result, Results, System, Waits};

/// How often the server is asked how many results there are.
const EVERY: Duration = Duration::from_millis(5);
/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many results are read, to see that they are what they should be.
const SAMPLES: usize = 20;

/// How fast a run was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Tasks a second.
    pub(crate) rate: f64,
    /// The servers' processor time for each task, in microseconds.
    pub(crate) server: f64,
}

/// One run.
///
/// The clock runs from when a hundredth of the results is stored until all are, and every task is acknowledged. Starting a worker is not
/// part of it.
pub(crate) async fn round(servers: &Servers, system: &System) -> Result<Run> {
    let empty = servers.empty(system).await?;
    send((system.send)(&empty.urls, system.tasks)?)?;
    let worker = Process::start((system.work)(&empty.urls)?, &servers.redis.folder().join("unused"))?;
    let mut watch = Watch { redis: servers.redis.connect().await?, servers: &empty, results: system.results };
    let run = watch.run(system, &worker).await?;
    worker.kill();
    watch.check(system.tasks).await?;
    Ok(run)
}

fn send(mut command: Command) -> Result {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("sending: {status}").into()) }
}

struct Watch<'a> {
    servers: &'a Empty<'a>,
    redis: RawRedis,
    results: Results,
}

impl Watch<'_> {
    async fn run(&mut self, system: &System, worker: &Process) -> Result<Run> {
        let (mut stored, mut moved) = (0, Instant::now());
        let mut begun = None;
        loop {
            let now = self.stored().await?;
            if now >= system.tasks && self.none_open(system.waits).await? {
                let (before, start, busy): (_, Instant, _) = begun.ok_or("too fast to be measured: send more tasks")?;
                let (tasks, spent) = (count(system.tasks - before), start.elapsed().as_secs_f64());
                return Ok(Run { rate: tasks / spent, server: (self.server_time().await? - busy) * 1e6 / tasks });
            }
            if now != stored {
                (stored, moved) = (now, Instant::now());
            }
            if begun.is_none() && stored >= system.tasks / 100 {
                begun = Some((stored, moved, self.server_time().await?));
            }
            if let Some(status) = worker.ended() {
                return Err(format!("the worker ended after {stored} results: {status}").into());
            }
            if moved.elapsed() > PATIENCE {
                return Err(format!("nothing happens after {stored} results").into());
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// How many results there are. Among keys, a handful that are no results are counted with them while there are tasks left.
    async fn stored(&mut self) -> Result<usize> {
        match self.results {
            Results::Keys { .. } => self.number(&["DBSIZE"]).await,
            Results::Hashes { done, .. } => self.number(&["SCARD", done]).await,
        }
    }

    async fn none_open(&mut self, waits: Waits) -> Result<bool> {
        let commands = match waits {
            Waits::Redis(commands) => commands,
            Waits::Rabbit { queue } => return Ok(self.servers.messages(queue).await? == 0),
        };
        for command in commands {
            if self.number(command).await? != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The processor time that the servers have used, in seconds.
    async fn server_time(&mut self) -> Result<f64> {
        let info = self.redis.command(&["INFO", "cpu"]).await?.text();
        let fields = info.lines().filter_map(|line| line.split_once(':'));
        let times = fields.filter(|(name, _)| matches!(*name, "used_cpu_sys" | "used_cpu_user"));
        let redis = times.map(|(_, seconds)| seconds.trim().parse::<f64>()).sum::<Result<f64, _>>()?;
        Ok(redis + self.servers.rabbit_time()?)
    }

    /// Checks that there are as many results as tasks, and that they are what they should be.
    async fn check(&mut self, tasks: usize) -> Result {
        let (ids, prefix, says) = match self.results {
            Results::Keys { prefix, says } => (self.scan(&["SCAN"], prefix).await?, "", says),
            Results::Hashes { done, prefix, says } => (self.scan(&["SSCAN", done], "").await?, prefix, says),
        };
        if ids.len() != tasks {
            return Err(format!("{} results of {tasks} tasks", ids.len()).into());
        }
        for id in ids.iter().step_by((tasks / SAMPLES).max(1)) {
            let result = match self.results {
                Results::Keys { .. } => self.redis.command(&["GET", id]).await?,
                Results::Hashes { .. } => self.redis.command(&["HGET", &format!("{prefix}{id}"), "result"]).await?,
            };
            if !result.text().contains(says) {
                return Err(format!("a result is {:?}", result.text()).into());
            }
        }
        Ok(())
    }

    /// All names that begin with `prefix`.
    async fn scan(&mut self, command: &[&str], prefix: &str) -> Result<Vec<String>> {
        let (mut names, mut cursor) = (std::collections::BTreeSet::new(), "0".to_owned());
        let pattern = format!("{prefix}*");
        loop {
            let words = [command, &[&cursor, "MATCH", &pattern, "COUNT", "10000"]].concat();
            let Reply::Array(parts) = self.redis.command(&words).await? else { return Err("no array".into()) };
            let [next, found] = &parts[..] else { return Err("not a cursor and names".into()) };
            names.extend(found.texts());
            cursor = next.text();
            if cursor == "0" {
                return Ok(names.into_iter().collect());
            }
        }
    }

    async fn number(&mut self, command: &[&str]) -> Result<usize> {
        match self.redis.command(command).await? {
            Reply::Integer(number) => Ok(number.try_into()?),
            other => Err(format!("{command:?}: {other:?}").into()),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates are rounded anyway")]
fn count(tasks: usize) -> f64 {
    tasks as f64
}
