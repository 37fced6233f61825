//! What the behaviours are written with.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backend::ResultBackend;
use celeriac_broker::{Broker, ConsumeOptions, Consumer, Delivery, Outgoing, QueueSpec};
use celeriac_core::{Message, QueueName, Timestamp};
use tokio::time::timeout;

use super::BrokerHarness;

pub(super) const ONE: NonZeroUsize = NonZeroUsize::MIN;
pub(super) const MANY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(99);

/// The broker under test, and what the behaviours do with it.
pub struct BrokerKit {
    pub(super) broker: Arc<dyn Broker>,
    harness: Arc<dyn BrokerHarness>,
    name: &'static str,
}

impl std::fmt::Debug for BrokerKit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerKit").field("broker", &self.broker).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A message with this text as its body.
pub(super) fn message(body: impl Into<String>) -> Message {
    Message { body: body.into().into(), ..Message::default() }
}

/// The delivery's body as text.
pub(super) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.body).into_owned()
}

/// The bodies as texts.
pub(super) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(text).collect()
}

impl BrokerKit {
    pub(super) async fn open(harness: Arc<dyn BrokerHarness>, name: &'static str) -> Self {
        Self { broker: harness.open().await, harness, name }
    }

    /// Another handle on the same store; says that the behaviour is skipped if there is none.
    pub(super) async fn reopen(&self) -> Option<Arc<dyn Broker>> {
        let handle = self.harness.reopen().await;
        if handle.is_none() {
            self.skip("a second handle, from `BrokerHarness::reopen`");
        }
        handle
    }

    /// The result backend on the same store; says that the behaviour is skipped if there is none.
    pub(super) async fn backend(&self) -> Option<Arc<dyn ResultBackend>> {
        if self.broker.store_id().is_none() {
            self.skip("a broker that stores results (`Broker::store_id`)");
            return None;
        }
        let backend = self.harness.backend().await;
        match &backend {
            None => self.skip("the result backend, from `BrokerHarness::backend`"),
            Some(backend) => {
                assert_eq!(
                    backend.store_id(),
                    self.broker.store_id(),
                    "broker and result backend name one store alike"
                );
            }
        }
        backend
    }

    pub(super) fn skip(&self, needs: &str) {
        crate::suite::skipped("broker", self.name, needs);
    }

    /// A queue name of this behaviour's own.
    pub(super) fn queue(&self) -> QueueName {
        QueueName::new(crate::unique("testkit")).expect("a unique name is a valid queue name")
    }

    /// A queue that is there already, so that making it takes no time that is measured.
    pub(super) async fn made(&self) -> QueueName {
        let queue = self.queue();
        self.broker.declare(&QueueSpec::direct(queue.clone())).await.expect("a queue is declared");
        queue
    }

    pub(super) fn now(&self) -> Timestamp {
        self.harness.now()
    }

    pub(super) async fn pass(&self, time: Duration) {
        self.harness.pass(time).await;
    }

    pub(super) fn patience(&self) -> Duration {
        self.harness.patience()
    }

    /// Publishes one message for each text, in one batch.
    pub(super) async fn publish<T: Into<String> + Send>(
        &self,
        queue: &QueueName,
        bodies: impl IntoIterator<Item = T> + Send,
    ) {
        let batch = bodies.into_iter().map(|body| Outgoing::new(message(body), queue)).collect();
        self.send(batch).await;
    }

    pub(super) async fn send(&self, batch: Vec<Outgoing>) {
        self.broker.publish(batch).await.expect("a routable batch is published");
    }

    /// A consumer that has one message on the way at a time.
    pub(super) async fn consumer(&self, queue: &QueueName) -> Box<dyn Consumer> {
        Self::consumer_of(&self.broker, queue).await
    }

    /// As [`BrokerKit::consumer`], on any handle.
    pub(super) async fn consumer_of(broker: &Arc<dyn Broker>, queue: &QueueName) -> Box<dyn Consumer> {
        let options = ConsumeOptions::new([queue.clone()]).prefetch(ONE);
        broker.consume(options).await.expect("a queue can be consumed")
    }

    /// A consumer that has up to a hundred messages on the way.
    pub(super) async fn eager(&self, queues: impl IntoIterator<Item = QueueName> + Send) -> Box<dyn Consumer> {
        let options = ConsumeOptions::new(queues).prefetch(MANY);
        self.broker.consume(options).await.expect("queues can be consumed")
    }

    /// Receives, for as long as patience lasts.
    pub(super) async fn recv(&self, consumer: &mut Box<dyn Consumer>, limit: NonZeroUsize) -> Vec<Delivery> {
        let received = timeout(self.patience(), consumer.recv(limit)).await;
        let deliveries = received
            .unwrap_or_else(|_| {
                panic!("no message came within {:?}, though one was due to be delivered", self.patience())
            })
            .expect("an open broker delivers");
        assert!(!deliveries.is_empty(), "`recv` never returns an empty list");
        assert!(deliveries.len() <= limit.get(), "`recv({limit})` returned {} messages", deliveries.len());
        deliveries
    }

    /// Receives one message.
    pub(super) async fn one(&self, consumer: &mut Box<dyn Consumer>) -> Delivery {
        self.recv(consumer, ONE).await.pop().expect("`recv` never returns an empty list")
    }

    /// Receives `count` messages, however many calls that takes. The consumer must be eager enough to hold them.
    pub(super) async fn take(&self, consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        while let Some(limit) = NonZeroUsize::new(count - deliveries.len()) {
            deliveries.append(&mut self.recv(consumer, limit).await);
        }
        deliveries
    }

    /// Receives and acknowledges `count` messages one by one; their bodies.
    pub(super) async fn drain(&self, consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            let delivery = self.one(consumer).await;
            bodies.push(text(&delivery));
            delivery.ack().await.expect("a held delivery is acknowledged");
        }
        bodies
    }

    /// The bodies as they came, some of them after they came back; in no order where the broker puts those anywhere.
    pub(super) fn after_coming_back<T: Ord>(&self, mut bodies: Vec<T>) -> Vec<T> {
        if !self.broker.capabilities().keeps_place {
            bodies.sort();
        }
        bodies
    }

    /// Receives one message if one comes while it is watched out for.
    pub(super) async fn watch_out(&self, consumer: &mut Box<dyn Consumer>) -> Option<Delivery> {
        let received = timeout(self.harness.quiet(), consumer.recv(ONE)).await.ok()?;
        received.expect("an open broker delivers").pop()
    }

    /// Sees to it that no message comes.
    pub(super) async fn none(&self, consumer: &mut Box<dyn Consumer>, why: &str) {
        if let Ok(received) = timeout(self.harness.quiet(), consumer.recv(MANY)).await {
            let bodies = received.map(|deliveries| texts(&deliveries));
            panic!("nothing was to be delivered ({why}), but this came: {bodies:?}");
        }
    }

    /// Waits until `queue` has `depth` messages waiting.
    pub(super) async fn depth(&self, queue: &QueueName, depth: u64) {
        let mut last = None;
        let reached = timeout(self.patience(), async {
            loop {
                let now = self.broker.depth(queue).await.expect("an open broker tells a queue's depth");
                if now == depth {
                    return;
                }
                last = Some(now);
                tokio::time::sleep(Duration::from_millis(10)).await; // wait: some servers count a little later
            }
        });
        assert!(reached.await.is_ok(), "`depth` of the queue is {last:?}, not {depth}");
    }

    /// Sees to it that nothing is left of `queue`: neither waiting nor held by anyone.
    pub(super) async fn empty(&self, queue: &QueueName, why: &str) {
        self.none(&mut self.consumer(queue).await, why).await;
        self.depth(queue, 0).await;
    }
}
