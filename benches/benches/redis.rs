//! How fast tasks are sent and worked on Redis, beside the raw operations underneath: `cargo bench -p celeriac-benches --bench redis`.
//!
//! Yardsticks, on the same private server and in turns: pipelined LPUSH of the very envelopes that were sent; a script that takes a batch and
//! records it, and a pipeline of SETEX, PUBLISH, ZREM and HDEL for each message of it; four such operations one after the other for a lone task.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its table, and stops at the first error")]

use std::time::{Duration, Instant};

use celeriac_benches::runs::{BATCH, Goal, ROUNDS, all_done, app, idle, round_trip, send, work};
use celeriac_benches::{Line, median, timed};
use celeriac_testkit::server::RedisServer;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{AsyncConnectionConfig, Client, Pipeline, Script, cmd};

const TASKS: usize = 100_000;

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

async fn raw(server: &RedisServer) -> MultiplexedConnection {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(30)));
    let client = Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

async fn flush(server: &RedisServer) {
    let _: () = cmd("FLUSHALL").query_async(&mut raw(server).await).await.unwrap();
}

/// Two senders, each with a connection of its own, and batches of 1,000 commands.
async fn raw_send(server: &RedisServer, envelopes: &[Vec<u8>]) -> Duration {
    let halves = envelopes.split_at(envelopes.len() / 2);
    let connections = (raw(server).await, raw(server).await);
    let push = async |half: &[Vec<u8>], mut connection: MultiplexedConnection| {
        for batch in half.chunks(BATCH) {
            let mut pipeline = Pipeline::with_capacity(batch.len());
            batch.iter().for_each(|envelope| {
                pipeline.cmd("LPUSH").arg("celery").arg(envelope).ignore();
            });
            let _: () = pipeline.query_async(&mut connection).await.unwrap();
        }
    };
    let start = Instant::now();
    tokio::join!(push(halves.0, connections.0), push(halves.1, connections.1));
    start.elapsed()
}

/// Two workers, each with a connection of its own.
async fn raw_work(server: &RedisServer, results: bool) -> Duration {
    let script = Script::new(TAKE);
    let mut first = raw(server).await;
    let _: String = script.prepare_invoke().load_async(&mut first).await.unwrap();
    let connections = (first, raw(server).await);
    let take = async |worker: usize, mut connection: MultiplexedConnection| {
        for round in 0.. {
            let prefix = format!("{worker}.{round}.");
            let mut taking = script.key("celery");
            taking.key("unacked").key("unacked_index").arg(BATCH).arg(&prefix).arg(1_900_000_000);
            let items: Vec<Vec<u8>> = taking.invoke_async(&mut connection).await.unwrap();
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
            let _: () = pipeline.query_async(&mut connection).await.unwrap();
        }
    };
    let start = Instant::now();
    tokio::join!(take(0, connections.0), take(1, connections.1));
    start.elapsed()
}

/// What a lone task takes at least: to be sent, taken, ended, and its result read.
async fn raw_round_trip(server: &RedisServer, envelope: &[u8], count: usize) -> f64 {
    let mut connection = raw(server).await;
    let script = Script::new(TAKE);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let (spent, ()) = timed(async {
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
        })
        .await;
        times.push(spent.as_secs_f64() * 1e6);
    }
    median(times.into_iter())
}

async fn rates(server: &RedisServer) {
    let url = server.url();
    let mut sending = Line::new("redis: send, 2 x batches of 1000", "pipelined LPUSH", TASKS);
    let mut working = Line::new("redis: work, no results", "take script; ZREM, HDEL", TASKS);
    let mut resulting = Line::new("redis: work with results", "take script; SETEX, PUBLISH, ZREM, HDEL", TASKS);
    for _ in 0..ROUNDS {
        flush(server).await;
        let ours = app(&url, Goal::new(1)).await;
        let (ours_send, last) = timed(send(&ours, TASKS, false)).await;
        let mut connection = raw(server).await;
        let envelopes: Vec<Vec<u8>> =
            cmd("LRANGE").arg("celery").arg(0).arg(-1).query_async(&mut connection).await.unwrap();
        let ours_results = work(&ours, 2, all_done(&ours, last)).await;
        ours.close().await.unwrap();

        flush(server).await;
        let goal = Goal::new(TASKS);
        let ours = app(&url, goal.clone()).await;
        send(&ours, TASKS, true).await;
        let ours_plain = work(&ours, 2, goal.reached()).await;
        ours.close().await.unwrap();

        flush(server).await;
        let raw_sent = raw_send(server, &envelopes).await;
        let raw_results = raw_work(server, true).await;
        flush(server).await;
        raw_send(server, &envelopes).await;
        let raw_plain = raw_work(server, false).await;

        sending.add(ours_send, raw_sent);
        working.add(ours_plain, raw_plain);
        resulting.add(ours_results, raw_results);
    }
    sending.print();
    working.print();
    resulting.print();
}

async fn lone(server: &RedisServer) {
    let url = server.url();
    flush(server).await;
    let probe = app(&url, Goal::new(1)).await;
    probe.send_batch([celeriac_benches::runs::add::s(1, 1)]).await.unwrap();
    let envelope: Vec<u8> = cmd("RPOP").arg("celery").query_async(&mut raw(server).await).await.unwrap();
    probe.close().await.unwrap();
    let mut ratios = Vec::new();
    for _ in 0..3 {
        let ours = round_trip("redis: round trip of a lone task", &url, 2_000).await;
        let raw = raw_round_trip(server, &envelope, 2_000).await;
        println!(
            "{:<44} median {raw:>7.0} us   (LPUSH; take; SETEX, PUBLISH, ZREM, HDEL; GET)",
            "redis: four raw round trips"
        );
        ratios.push(ours / raw);
    }
    println!("{:<44} {:>7.2} times the raw ones", "redis: round trip of a lone task", median(ratios.into_iter()));
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = RedisServer::start().await;
        tokio::spawn(async move {
            // Named parts only, if any is named: `cargo bench -p celeriac-benches --bench redis -- lone`.
            let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
            let wanted = |name: &str| named.is_empty() || named.iter().any(|arg| arg == name);
            if wanted("rates") {
                rates(&server).await;
            }
            if wanted("lone") {
                lone(&server).await;
            }
            if wanted("idle") {
                idle("redis: an idle worker", &server.url()).await;
            }
        })
        .await
        .unwrap();
    });
}
