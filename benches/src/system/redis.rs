//! Redis. Yardsticks, on the same server: pipelined LPUSH of the very envelopes that were sent; a script that takes a batch and records it, and a
//! pipeline of SETEX, PUBLISH, ZREM and HDEL for each message of it; four such operations one after the other for a lone task.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use celeriac_testkit::server::RedisServer;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{AsyncConnectionConfig, Client, Pipeline, Script, cmd};
use tokio::task::JoinHandle;

use super::{Kind, System, Yardsticks};
use crate::meter::{Meter, Spent};
use crate::ours::{BATCH, Goal, app, send_adds};
use crate::pace::Pace;

/// Takes a batch, and records it as held.
const TAKE: &str = "
local items = redis.call('RPOP', KEYS[1], ARGV[1])
if not items then return {} end
local values, scores = {}, {}
for i, item in ipairs(items) do
  local tag = ARGV[2] .. i
  values[#values + 1] = tag
  values[#values + 1] = '[' .. item .. ', \"\", \"celery\"]'
  scores[#scores + 1] = ARGV[3]
  scores[#scores + 1] = tag
end
redis.call('HSET', KEYS[2], unpack(values))
redis.call('ZADD', KEYS[3], unpack(scores))
return items";

/// A result as it is stored.
const RECORD: &str = r#"{"status": "SUCCESS", "result": 100001, "traceback": null, "children": [], "date_done": "2026-11-22T07:08:58.738354+00:00", "task_id": "0195b3a0-7c2e-7d41-8f5a-2b6c1d9e4f70"}"#;

/// A server, which is this process's own or another's.
#[derive(Debug)]
pub(super) struct Redis {
    server: Option<RedisServer>,
    url: String,
    envelopes: Vec<Vec<u8>>,
}

impl Redis {
    pub(super) async fn start() -> Self {
        let server = RedisServer::start().await;
        let url = server.url();
        Self { server: Some(server), url, envelopes: Vec::new() }
    }

    pub(super) fn at(url: &str) -> Self {
        Self { server: None, url: url.to_owned(), envelopes: Vec::new() }
    }

    async fn raw(&self) -> MultiplexedConnection {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(30)));
        let client = Client::open(&*self.url).unwrap();
        client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
    }
}

/// Sends envelopes, 1,000 commands at once.
async fn push(envelopes: &[Vec<u8>], connection: &mut MultiplexedConnection) {
    for batch in envelopes.chunks(BATCH) {
        let mut pipeline = Pipeline::with_capacity(batch.len());
        batch.iter().for_each(|envelope| {
            pipeline.cmd("LPUSH").arg("celery").arg(envelope).ignore();
        });
        let _: () = pipeline.query_async(connection).await.unwrap();
    }
}

/// Takes and ends all that there is. `worker` is a name that no other has.
async fn take(script: &Script, worker: &str, results: bool, connection: &mut MultiplexedConnection) {
    for round in 0.. {
        let prefix = format!("{worker}.{round}.");
        let mut taking = script.key("celery");
        taking.key("unacked").key("unacked_index").arg(BATCH).arg(&prefix).arg(1_900_000_000);
        let items: Vec<Vec<u8>> = taking.invoke_async(connection).await.unwrap();
        if items.is_empty() {
            return;
        }
        let mut pipeline = Pipeline::with_capacity(items.len() * 4);
        for number in 1..=items.len() {
            let tag = format!("{prefix}{number}");
            if results {
                let key = format!("celery-task-meta-{worker}-0195b3a0-{round:06}-{number:06}");
                pipeline.cmd("SETEX").arg(&key).arg(86_400).arg(RECORD).ignore();
                pipeline.cmd("PUBLISH").arg(&key).arg(RECORD).ignore();
            }
            pipeline.cmd("ZREM").arg("unacked_index").arg(&tag).ignore();
            pipeline.cmd("HDEL").arg("unacked").arg(&tag).ignore();
        }
        let _: () = pipeline.query_async(connection).await.unwrap();
    }
}

#[async_trait]
impl System for Redis {
    fn kind(&self) -> Kind {
        Kind::Redis
    }

    fn url(&self) -> String {
        self.url.clone()
    }

    fn redis(&self) -> Option<&RedisServer> {
        self.server.as_ref()
    }

    async fn version(&self) -> String {
        let about: String = cmd("INFO").arg("server").query_async(&mut self.raw().await).await.unwrap();
        let version = about.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap();
        format!("Redis {version}")
    }

    fn yardsticks(&self) -> Yardsticks {
        Yardsticks {
            send: "pipelined LPUSH",
            plain: "take script; ZREM, HDEL",
            results: "take script; SETEX, PUBLISH, ZREM, HDEL",
            lone: "LPUSH; take; SETEX, PUBLISH, ZREM, HDEL; GET",
            idle: "BRPOP, a second at a time",
        }
    }

    async fn empty(&mut self) {
        let _: () = cmd("FLUSHALL").query_async(&mut self.raw().await).await.unwrap();
    }

    async fn capture(&mut self, count: usize) {
        self.empty().await;
        let ours = app(&self.url, Goal::new(1)).await;
        send_adds(&ours, count).await;
        ours.close().await.unwrap();
        let range = cmd("LRANGE").arg("celery").arg(0).arg(-1).to_owned();
        self.envelopes = range.query_async(&mut self.raw().await).await.unwrap();
        self.empty().await;
    }

    /// Two senders, each with a connection of its own.
    async fn raw_send(&mut self, count: usize, _: bool, meter: &Meter) -> Spent {
        let halves = self.envelopes[..count].split_at(count / 2);
        let (mut first, mut second) = (self.raw().await, self.raw().await);
        let start = meter.start();
        tokio::join!(push(halves.0, &mut first), push(halves.1, &mut second));
        start.stop()
    }

    /// Two workers, each with a connection of its own.
    async fn raw_work(&mut self, _: usize, results: bool, meter: &Meter) -> Spent {
        let script = Script::new(TAKE);
        let (mut first, mut second) = (self.raw().await, self.raw().await);
        let _: String = script.prepare_invoke().load_async(&mut first).await.unwrap();
        let start = meter.start();
        tokio::join!(take(&script, "0", results, &mut first), take(&script, "1", results, &mut second));
        start.stop()
    }

    /// What a lone task takes at least: to be sent, taken, ended, and its result read.
    async fn raw_lone(&mut self, count: usize, load: Option<f64>) -> Vec<f64> {
        self.empty().await;
        let mut connection = self.raw().await;
        let script = Script::new(TAKE);
        let envelope = &self.envelopes[0];
        let loading = match load {
            None => None,
            Some(rate) => {
                let (mut connection, script, envelope) = (self.raw().await, script.clone(), envelope.clone());
                Some(tokio::spawn(async move {
                    let mut pace = Pace::new(rate);
                    loop {
                        let envelopes = vec![envelope.clone(); pace.due().await];
                        push(&envelopes, &mut connection).await;
                        take(&script, &format!("load{}", pace.so_far()), true, &mut connection).await;
                    }
                }))
            }
        };
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            let _: () = cmd("LPUSH").arg("lone").arg(envelope).query_async(&mut connection).await.unwrap();
            let mut taking = script.key("lone");
            taking.key("unacked").key("unacked_index").arg(1).arg("t").arg(1);
            let items: Vec<Vec<u8>> = taking.invoke_async(&mut connection).await.unwrap();
            assert_eq!(items.len(), 1);
            let mut pipeline = Pipeline::new();
            pipeline.cmd("SETEX").arg("result").arg(86_400).arg(RECORD).ignore();
            pipeline.cmd("PUBLISH").arg("result").arg(RECORD).ignore();
            pipeline.cmd("ZREM").arg("unacked_index").arg("t1").ignore();
            pipeline.cmd("HDEL").arg("unacked").arg("t1").ignore();
            let _: () = pipeline.query_async(&mut connection).await.unwrap();
            let _: Vec<u8> = cmd("GET").arg("result").query_async(&mut connection).await.unwrap();
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        if let Some(loading) = loading {
            loading.abort();
        }
        times
    }

    async fn raw_idle(&mut self) -> Option<JoinHandle<()>> {
        let mut connection = self.raw().await;
        Some(tokio::spawn(async move {
            loop {
                let _: () = cmd("BRPOP").arg("celery").arg(1).query_async(&mut connection).await.unwrap();
            }
        }))
    }
}
