//! The servers of the comparison: Redis, and RabbitMQ if anybody needs it.

use celeriac_testkit::server::{RabbitServer, RedisServer, Vhost};

use crate::system::{Result, System, Urls, Waits};

/// The servers, which belong to this process.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) redis: RedisServer,
    rabbit: Option<RabbitServer>,
}

impl Servers {
    /// Starts those that `systems` need.
    pub(crate) async fn start(systems: &[System]) -> Self {
        let redis = RedisServer::start().await;
        let rabbit = match systems.iter().any(|system| matches!(system.waits, Waits::Rabbit { .. })) {
            true => Some(RabbitServer::start().await),
            false => None,
        };
        Self { redis, rabbit }
    }

    /// What they are.
    pub(crate) async fn versions(&self) -> String {
        let about = self.redis.command(&["INFO", "server"]).await.text();
        let redis = about.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("?");
        match &self.rabbit {
            Some(rabbit) => format!("Redis {redis}, RabbitMQ {}", rabbit.eval("rabbit_misc:version()").await),
            None => format!("Redis {redis}"),
        }
    }

    /// Empties them for a run of `system`: on RabbitMQ by a virtual host that nobody has used.
    pub(crate) async fn empty(&self, system: &System) -> Result<Empty<'_>> {
        self.redis.command(&["FLUSHALL"]).await;
        let results = self.redis.url();
        Ok(match system.waits {
            Waits::Redis(_) => Empty { urls: Urls { broker: results.clone(), results }, rabbit: None },
            Waits::Rabbit { .. } => {
                let vhost = self.rabbit.as_ref().ok_or("RabbitMQ was not started")?.vhost().await;
                Empty { urls: Urls { broker: vhost.url(), results }, rabbit: Some(vhost) }
            }
        })
    }
}

/// Servers in which there is nothing.
#[derive(Debug)]
pub(crate) struct Empty<'a> {
    pub(crate) urls: Urls,
    /// Where tasks wait, if that is on RabbitMQ.
    pub(crate) rabbit: Option<Vhost<'a>>,
}

impl Empty<'_> {
    /// How many messages of a queue wait, or are not acknowledged.
    pub(crate) async fn messages(&self, queue: &str) -> Result<u64> {
        let vhost = self.rabbit.as_ref().ok_or("RabbitMQ was not started")?;
        Ok(vhost.queue_info(queue).await.map_or(0, |info| info.ready + info.unacked))
    }

    /// The processor time that RabbitMQ has used, in seconds; 0 without it.
    pub(crate) fn rabbit_time(&self) -> Result<f64> {
        let Some(vhost) = &self.rabbit else { return Ok(0.0) };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", vhost.server().pid()))?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        // User and system time, in hundredths of a second.
        let ticks: Result<Vec<f64>, _> = fields.skip(11).take(2).map(str::parse).collect();
        Ok(ticks?.iter().sum::<f64>() / 100.0)
    }
}
