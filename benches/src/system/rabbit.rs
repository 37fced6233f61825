//! RabbitMQ. Yardsticks, by the driver that Celeriac stands on, on the same server: confirmed publishing of the very messages that were sent, 1,000 on
//! the way; consuming with a prefetch of 1,000 and one acknowledgement for many, and with results a confirmed reply to each message before it; and for
//! a lone task a message to a queue, and a reply to it.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use celeriac_testkit::server::RabbitServer;
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, PublisherConfirm};
use tokio::task::JoinHandle;

use super::{Kind, System, Yardsticks};
use crate::meter::{Meter, Spent};
use crate::ours::{BATCH, Goal, app, send_adds, send_counts};
use crate::pace::Pace;

/// What a yardstick's consumer may hold unacknowledged.
const PREFETCH: u16 = 1_000;
/// What it acknowledges at once, at most.
const AT_ONCE: usize = 250;

/// Where tasks go, and where the yardstick's replies do.
const TASKS: Way = Way { to: "celery", back: "raw-replies" };
/// The same for lone messages beside a load.
const LONE: Way = Way { to: "raw-lone", back: "raw-lone-replies" };

/// A queue of messages, and one of replies to them.
#[derive(Debug, Clone, Copy)]
struct Way {
    to: &'static str,
    back: &'static str,
}

/// A result as it is replied.
const RECORD: &[u8] = br#"{"status": "SUCCESS", "result": 100001, "traceback": null, "children": [], "date_done": "2026-11-22T07:08:58.738354+00:00", "task_id": "0195b3a0-7c2e-7d41-8f5a-2b6c1d9e4f70"}"#;

/// A message as it was sent.
type Sent = (BasicProperties, Vec<u8>);

/// A connection, and a channel that confirms what is published on it.
#[derive(Debug)]
struct Raw {
    connection: Connection,
    channel: Channel,
}

impl Raw {
    async fn open(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
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

    async fn reply(&self, queue: &str, to: &Delivery) -> PublisherConfirm {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_delivery_mode(2)
            .with_priority(0)
            .with_expiration("86400000".into())
            .with_correlation_id(to.properties.correlation_id().clone().unwrap());
        self.publish(queue, properties, RECORD).await
    }

    async fn ack(&self, last: u64) {
        self.channel.basic_ack(last, BasicAckOptions { multiple: true }).await.unwrap();
    }

    /// Publishes messages, and waits until all are confirmed.
    async fn publish_all(&self, messages: Vec<Sent>) {
        let mut confirms = Vec::with_capacity(messages.len());
        for (properties, body) in messages {
            confirms.push(self.publish(TASKS.to, properties, &body).await);
        }
        confirmed(confirms).await;
    }

    /// Takes tasks and ends them, with replies or without, for ever.
    async fn work(self, results: bool, goal: Option<Arc<Goal>>) {
        let mut batches = self.consume(TASKS.to).await.ready_chunks(AT_ONCE);
        while let Some(batch) = batches.next().await {
            let batch: Vec<Delivery> = batch.into_iter().map(Result::unwrap).collect();
            let mut confirms = Vec::new();
            for delivery in batch.iter().filter(|_| results) {
                confirms.push(self.reply(TASKS.back, delivery).await);
            }
            confirmed(confirms).await;
            self.ack(batch.last().unwrap().delivery_tag).await;
            if let Some(goal) = &goal {
                batch.iter().for_each(|_| goal.count());
            }
        }
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

/// A server, which is this process's own or another's.
#[derive(Debug)]
pub(super) struct Rabbit {
    server: Option<RabbitServer>,
    url: String,
    /// With results.
    sent: Vec<Sent>,
    /// Without.
    plain: Vec<Sent>,
}

impl Rabbit {
    pub(super) async fn start() -> Self {
        let server = RabbitServer::start().await;
        let url = server.url();
        Self { server: Some(server), url, sent: Vec::new(), plain: Vec::new() }
    }

    pub(super) fn at(url: &str) -> Self {
        Self { server: None, url: url.to_owned(), sent: Vec::new(), plain: Vec::new() }
    }

    async fn raw(&self) -> Raw {
        Raw::open(&self.url).await
    }

    /// Messages that wait, which are removed.
    async fn taken(&self, count: usize) -> Vec<Sent> {
        let raw = self.raw().await;
        let mut deliveries = raw.consume(TASKS.to).await;
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

    /// A sender and a worker that keep to a pace, and who receives the replies.
    async fn load(&self, rate: f64) -> [JoinHandle<()>; 3] {
        let (sender, worker, receiver) = (self.raw().await, self.raw().await, self.raw().await);
        let message = self.sent[0].clone();
        let sending = tokio::spawn(async move {
            let mut pace = Pace::new(rate);
            loop {
                sender.publish_all(vec![message.clone(); pace.due().await]).await;
            }
        });
        let receiving = tokio::spawn(async move {
            let mut replies = receiver.consume(TASKS.back).await.ready_chunks(AT_ONCE);
            while let Some(batch) = replies.next().await {
                receiver.ack(batch.last().unwrap().as_ref().unwrap().delivery_tag).await;
            }
        });
        [sending, tokio::spawn(worker.work(true, None)), receiving]
    }
}

#[async_trait]
impl System for Rabbit {
    fn kind(&self) -> Kind {
        Kind::Rabbit
    }

    fn url(&self) -> String {
        self.url.clone()
    }

    fn rabbit(&self) -> Option<&RabbitServer> {
        self.server.as_ref()
    }

    async fn version(&self) -> String {
        let server = self.server.as_ref().unwrap();
        format!("RabbitMQ {}", server.eval("rabbit_misc:version()").await.trim_matches('"'))
    }

    fn yardsticks(&self) -> Yardsticks {
        Yardsticks {
            send: "confirmed publish",
            plain: "consume, multiple acks",
            results: "consume, confirmed reply, ack; receive",
            lone: "confirmed publish; confirmed reply, received",
            idle: "a consumer",
        }
    }

    async fn empty(&mut self) {
        let raw = self.raw().await;
        for queue in [TASKS.to, TASKS.back, LONE.to, LONE.back] {
            raw.declare(queue).await;
        }
        raw.close().await;
    }

    async fn capture(&mut self, count: usize) {
        self.empty().await;
        let ours = app(&self.url, Goal::new(1)).await;
        send_adds(&ours, count).await;
        self.sent = self.taken(count).await;
        self.empty().await;
        send_counts(&ours, count).await;
        self.plain = self.taken(count).await;
        ours.close().await.unwrap();
        self.empty().await;
    }

    /// Two senders, each with a connection of its own, and batches of 1,000 messages.
    async fn raw_send(&mut self, count: usize, results: bool, meter: &Meter) -> Spent {
        let sent = if results { &self.sent } else { &self.plain };
        // Making messages is not part of it.
        let batches = |half: &[Sent]| half.chunks(BATCH).map(<[Sent]>::to_vec).collect::<Vec<_>>();
        let (first, second) = sent[..count].split_at(count / 2);
        let halves = (batches(first), batches(second));
        let senders = (self.raw().await, self.raw().await);
        let publish = |raw: Raw, batches: Vec<Vec<Sent>>| async move {
            for batch in batches {
                raw.publish_all(batch).await;
            }
            raw
        };
        let start = meter.start();
        let first = tokio::spawn(publish(senders.0, halves.0));
        let second = tokio::spawn(publish(senders.1, halves.1));
        let ended = (first.await.unwrap(), second.await.unwrap());
        let spent = start.stop();
        ended.0.close().await;
        ended.1.close().await;
        spent
    }

    /// Two workers, each with a connection of its own; with results, and one more connection that receives them.
    async fn raw_work(&mut self, count: usize, results: bool, meter: &Meter) -> Spent {
        let goal = Goal::new(count);
        let ready = [self.raw().await, self.raw().await];
        let receiver = self.raw().await;
        let mut replies = receiver.consume(TASKS.back).await.ready_chunks(AT_ONCE);
        let start = meter.start();
        let running = ready.map(|raw| tokio::spawn(raw.work(results, Some(Arc::clone(&goal)))));
        let mut left = if results { count } else { 0 };
        while left > 0 {
            let batch = replies.next().await.unwrap();
            left -= batch.len();
            receiver.ack(batch.last().unwrap().as_ref().unwrap().delivery_tag).await;
        }
        goal.reached().await;
        let spent = start.stop();
        running.iter().for_each(JoinHandle::abort);
        receiver.close().await;
        spent
    }

    /// What a lone task takes at least: a message, which is confirmed, and a reply to it, which is received.
    async fn raw_lone(&mut self, count: usize, load: Option<f64>) -> Vec<f64> {
        self.empty().await;
        let (properties, body) = &self.sent[0];
        let (sender, worker, receiver) = (self.raw().await, self.raw().await, self.raw().await);
        let mut tasks = worker.consume(LONE.to).await;
        let mut replies = receiver.consume(LONE.back).await;
        let working = tokio::spawn(async move {
            while let Some(delivery) = tasks.next().await {
                let delivery = delivery.unwrap();
                let reply = worker.reply(LONE.back, &delivery).await;
                confirmed(vec![reply]).await;
                worker.ack(delivery.delivery_tag).await;
            }
        });
        let loading = match load {
            Some(rate) => Some(self.load(rate).await),
            None => None,
        };
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            let sent = sender.publish(LONE.to, properties.clone(), body).await;
            confirmed(vec![sent]).await;
            let reply = replies.next().await.unwrap().unwrap();
            receiver.ack(reply.delivery_tag).await;
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        loading.iter().flatten().for_each(JoinHandle::abort);
        working.abort();
        sender.close().await;
        receiver.close().await;
        times
    }

    async fn raw_idle(&mut self) -> Option<JoinHandle<()>> {
        let raw = self.raw().await;
        let mut deliveries = raw.consume(TASKS.to).await;
        Some(tokio::spawn(async move {
            while deliveries.next().await.is_some() {}
            drop(raw);
        }))
    }
}
