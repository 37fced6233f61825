//! How fast tasks are sent and worked on RabbitMQ, beside the raw operations underneath: `cargo bench -p celeriac-benches --bench rabbit`.
//!
//! Yardsticks, by the driver that Celeriac stands on, on the same private server and in turns: confirmed publishing of the very messages that were
//! sent, 1,000 on the way; consuming with a prefetch of 1,000 and one acknowledgement for many, and with results a confirmed reply to each message
//! before it; and for a lone task a message to a queue, and a reply to it.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its table, and stops at the first error")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use celeriac_benches::runs::{BATCH, Goal, ROUNDS, all_done, app, idle, round_trip, send, work};
use celeriac_benches::{Line, median, timed};
use celeriac_testkit::server::RabbitServer;
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, PublisherConfirm};

const TASKS: usize = 50_000;

/// What a yardstick's consumer may hold unacknowledged.
const PREFETCH: u16 = 1_000;
/// What it acknowledges at once, at most.
const AT_ONCE: usize = 250;

/// Where tasks go, and where the yardstick's replies do.
const TASK_QUEUE: &str = "celery";
const REPLY_QUEUE: &str = "raw-replies";

/// A result as it is replied.
const RECORD: &[u8] = br#"{"status": "SUCCESS", "result": 100001, "traceback": null, "children": [], "date_done": "2026-11-22T07:08:58.738354+00:00", "task_id": "0195b3a0-7c2e-7d41-8f5a-2b6c1d9e4f70"}"#;

/// A message as it was sent.
type Sent = (BasicProperties, Vec<u8>);

/// A connection, and a channel that confirms what is published on it.
struct Raw {
    connection: Connection,
    channel: Channel,
}

impl Raw {
    async fn open(server: &RabbitServer) -> Self {
        let connection = Connection::connect(&server.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { connection, channel }
    }

    async fn declare(&self, queue: &str) {
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.into(), durable, FieldTable::default()).await.unwrap();
        self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await.unwrap();
    }

    async fn consume(&self, queue: &str) -> Consumer {
        self.channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.unwrap();
        let options = BasicConsumeOptions::default();
        self.channel.basic_consume(queue.into(), ShortString::default(), options, FieldTable::default()).await.unwrap()
    }

    async fn publish(&self, queue: &str, properties: BasicProperties, body: &[u8]) -> PublisherConfirm {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        self.channel.basic_publish("".into(), queue.into(), options, body, properties).await.unwrap()
    }

    async fn reply(&self, to: &Delivery) -> PublisherConfirm {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_delivery_mode(2)
            .with_priority(0)
            .with_expiration("86400000".into())
            .with_correlation_id(to.properties.correlation_id().clone().unwrap());
        self.publish(REPLY_QUEUE, properties, RECORD).await
    }

    async fn ack(&self, last: u64) {
        self.channel.basic_ack(last, BasicAckOptions { multiple: true }).await.unwrap();
    }

    /// Waits until the server has all that it was told.
    async fn close(self) {
        self.channel.close(200, "closed".into()).await.unwrap();
        self.connection.close(200, "closed".into()).await.unwrap();
    }
}

async fn confirmed(confirms: Vec<PublisherConfirm>) {
    for confirm in confirms {
        let confirmation = confirm.await.unwrap();
        assert!(confirmation.is_ack() && confirmation.take_message().is_none());
    }
}

async fn empty(server: &RabbitServer) {
    let raw = Raw::open(server).await;
    raw.declare(TASK_QUEUE).await;
    raw.declare(REPLY_QUEUE).await;
    raw.close().await;
}

/// Tasks as Celeriac sends them, with results or without.
async fn captured(server: &RabbitServer, count: usize, ignore: bool) -> Vec<Sent> {
    empty(server).await;
    let ours = app(&server.url(), Goal::new(1)).await;
    send(&ours, count, ignore).await;
    ours.close().await.unwrap();
    let raw = Raw::open(server).await;
    let mut deliveries = raw.consume(TASK_QUEUE).await;
    let mut sent = Vec::with_capacity(count);
    while sent.len() < count {
        let delivery = deliveries.next().await.unwrap().unwrap();
        if sent.len() % AT_ONCE == AT_ONCE - 1 {
            raw.ack(delivery.delivery_tag).await;
        }
        sent.push((delivery.properties, delivery.data));
    }
    raw.close().await;
    sent
}

/// Two senders, each with a connection of its own, and batches of 1,000 messages.
async fn raw_send(server: &RabbitServer, sent: &[Sent]) -> Duration {
    // Making messages is not part of it.
    let batches = |half: &[Sent]| half.chunks(BATCH).map(<[Sent]>::to_vec).collect::<Vec<_>>();
    let (first, second) = sent.split_at(sent.len() / 2);
    let halves = (batches(first), batches(second));
    let senders = (Raw::open(server).await, Raw::open(server).await);
    let publish = |raw: Raw, batches: Vec<Vec<Sent>>| async move {
        for batch in batches {
            let mut confirms = Vec::with_capacity(batch.len());
            for (properties, body) in batch {
                confirms.push(raw.publish(TASK_QUEUE, properties, &body).await);
            }
            confirmed(confirms).await;
        }
        raw
    };
    let start = Instant::now();
    let first = tokio::spawn(publish(senders.0, halves.0));
    let second = tokio::spawn(publish(senders.1, halves.1));
    let ended = (first.await.unwrap(), second.await.unwrap());
    let spent = start.elapsed();
    ended.0.close().await;
    ended.1.close().await;
    spent
}

/// Two workers, each with a connection of its own; with results, and one more connection that receives them.
async fn raw_work(server: &RabbitServer, results: bool) -> Duration {
    let goal = Goal::new(TASKS);
    let ready = [Raw::open(server).await, Raw::open(server).await];
    let receiver = Raw::open(server).await;
    let mut replies = receiver.consume(REPLY_QUEUE).await.ready_chunks(AT_ONCE);
    let start = Instant::now();
    let working = |raw: Raw| {
        let goal = Arc::clone(&goal);
        async move {
            let mut batches = raw.consume(TASK_QUEUE).await.ready_chunks(AT_ONCE);
            while let Some(batch) = batches.next().await {
                let batch: Vec<Delivery> = batch.into_iter().map(Result::unwrap).collect();
                let mut confirms = Vec::new();
                for delivery in batch.iter().filter(|_| results) {
                    confirms.push(raw.reply(delivery).await);
                }
                confirmed(confirms).await;
                raw.ack(batch.last().unwrap().delivery_tag).await;
                batch.iter().for_each(|_| goal.count());
            }
        }
    };
    let running = ready.map(|raw| tokio::spawn(working(raw)));
    let mut left = if results { TASKS } else { 0 };
    while left > 0 {
        let batch = replies.next().await.unwrap();
        left -= batch.len();
        receiver.ack(batch.last().unwrap().as_ref().unwrap().delivery_tag).await;
    }
    goal.reached().await;
    let spent = start.elapsed();
    running.iter().for_each(tokio::task::JoinHandle::abort);
    receiver.close().await;
    spent
}

/// What a lone task takes at least: a message, which is confirmed, and a reply to it, which is received.
async fn raw_round_trip(server: &RabbitServer, (properties, body): &Sent, count: usize) -> f64 {
    let (sender, worker, receiver) = (Raw::open(server).await, Raw::open(server).await, Raw::open(server).await);
    let mut tasks = worker.consume(TASK_QUEUE).await;
    let mut replies = receiver.consume(REPLY_QUEUE).await;
    let working = tokio::spawn(async move {
        while let Some(delivery) = tasks.next().await {
            let delivery = delivery.unwrap();
            let reply = worker.reply(&delivery).await;
            confirmed(vec![reply]).await;
            worker.ack(delivery.delivery_tag).await;
        }
    });
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let (spent, ()) = timed(async {
            let sent = sender.publish(TASK_QUEUE, properties.clone(), body).await;
            confirmed(vec![sent]).await;
            let reply = replies.next().await.unwrap().unwrap();
            receiver.ack(reply.delivery_tag).await;
        })
        .await;
        times.push(spent.as_secs_f64() * 1e6);
    }
    working.abort();
    sender.close().await;
    receiver.close().await;
    median(times.into_iter())
}

/// Sends, and works what was sent with its results.
async fn sending_and_results(server: &RabbitServer) {
    let url = server.url();
    let sent = captured(server, TASKS, false).await;
    let mut sending = Line::new("rabbit: send, 2 x batches of 1000", "confirmed publish", TASKS);
    let mut resulting = Line::new("rabbit: work with rpc:// results", "consume, confirmed reply, ack; receive", TASKS);
    for _ in 0..ROUNDS {
        empty(server).await;
        let ours = app(&url, Goal::new(1)).await;
        let (ours_send, last) = timed(send(&ours, TASKS, false)).await;
        let ours_results = work(&ours, 2, all_done(&ours, last)).await;
        ours.close().await.unwrap();
        let raw_sent = raw_send(server, &sent).await;
        let raw_results = raw_work(server, true).await;
        sending.add(ours_send, raw_sent);
        resulting.add(ours_results, raw_results);
    }
    sending.print();
    resulting.print();
}

/// Works without results: both the same messages.
async fn working(server: &RabbitServer) {
    let url = server.url();
    let sent = captured(server, TASKS, true).await;
    let mut working = Line::new("rabbit: work, no results", "consume, multiple acks", TASKS);
    for _ in 0..ROUNDS {
        empty(server).await;
        raw_send(server, &sent).await;
        let goal = Goal::new(TASKS);
        let ours = app(&url, goal.clone()).await;
        let ours_plain = work(&ours, 2, goal.reached()).await;
        ours.close().await.unwrap();
        raw_send(server, &sent).await;
        working.add(ours_plain, raw_work(server, false).await);
    }
    working.print();
}

async fn lone(server: &RabbitServer) {
    let url = server.url();
    let sent = captured(server, 2, false).await.remove(0);
    empty(server).await;
    let mut ratios = Vec::new();
    for _ in 0..3 {
        let ours = round_trip("rabbit: round trip of a lone task", &url, 2_000).await;
        let raw = raw_round_trip(server, &sent, 2_000).await;
        println!("{:<44} median {raw:>7.0} us   (confirmed publish; reply)", "rabbit: a message and its reply");
        ratios.push(ours / raw);
    }
    println!("{:<44} {:>7.2} times the raw one", "rabbit: round trip of a lone task", median(ratios.into_iter()));
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = RabbitServer::start().await;
        tokio::spawn(async move {
            // Named parts only, if any is named: `cargo bench -p celeriac-benches --bench rabbit -- lone`.
            let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
            let wanted = |name: &str| named.is_empty() || named.iter().any(|arg| arg == name);
            if wanted("send") {
                sending_and_results(&server).await;
            }
            if wanted("work") {
                working(&server).await;
            }
            if wanted("lone") {
                lone(&server).await;
            }
            if wanted("idle") {
                idle("rabbit: an idle worker", &server.url()).await;
            }
        })
        .await
        .unwrap();
    });
}
