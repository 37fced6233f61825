//! A broker and a result backend that can do less than the memory store, or fail on purpose, and write down what is asked of them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use celeriac_backend::{BackendCapabilities, ResultBackend, Watch};
use celeriac_broker::{
    Broker, Capabilities, ConsumeOptions, Consumer, Delivery, DeliveryTag, Outgoing, QueueSpec, Receipt, Settle,
    Settlement, Verb,
};
use celeriac_core::{Error, ErrorKind, QueueName, Result, StoreResult, TaskId, TaskMeta};
use celeriac_memory::MemoryStore;

/// What was asked of a broker and a backend, in order.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

/// A broker that keeps no messages until they are due and stores no results.
#[derive(Debug)]
pub(crate) struct Plain {
    inner: MemoryStore,
    log: Log,
    /// `publish` never returns.
    pub(crate) hangs: AtomicBool,
    /// The most deliveries that were taken at once.
    pub(crate) most: Arc<AtomicUsize>,
    /// With how many on the way it was consumed.
    pub(crate) prefetch: AtomicUsize,
}

impl Plain {
    pub(crate) fn new(inner: MemoryStore, log: Log) -> Arc<Self> {
        Arc::new(Self {
            inner,
            log,
            hangs: AtomicBool::new(false),
            most: Arc::default(),
            prefetch: AtomicUsize::new(0),
        })
    }
}

#[async_trait]
impl Broker for Plain {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Broker::capabilities(&self.inner);
        capabilities.delay = false;
        capabilities
    }

    async fn declare(&self, queue: &QueueSpec) -> Result<()> {
        self.inner.declare(queue).await
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Result<()> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if batch.iter().any(|outgoing| outgoing.deliver_at.is_some()) {
            return Err(Error::unsupported("publish", "this broker keeps no messages until they are due"));
        }
        self.log.lock().unwrap().push(format!("publish {}", batch.len()));
        self.inner.publish(batch).await
    }

    async fn consume(&self, options: ConsumeOptions) -> Result<Box<dyn Consumer>> {
        self.prefetch.store(options.prefetch.get(), Ordering::SeqCst);
        let settle = Arc::new(PlainSettle { log: Arc::clone(&self.log), held: Mutex::default() });
        let most = Arc::clone(&self.most);
        Ok(Box::new(PlainConsumer { inner: self.inner.consume(options).await?, settle, most }))
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64> {
        self.inner.depth(queue).await
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64> {
        self.inner.purge(queue).await
    }

    fn trouble(&self) -> Option<Error> {
        self.hangs.load(Ordering::Relaxed).then(|| Error::unavailable("publish", "it hangs for a test"))
    }

    async fn close(&self) -> Result<()> {
        Broker::close(&self.inner).await
    }
}

#[derive(Debug)]
struct PlainConsumer {
    inner: Box<dyn Consumer>,
    settle: Arc<PlainSettle>,
    most: Arc<AtomicUsize>,
}

#[async_trait]
impl Consumer for PlainConsumer {
    async fn recv(&mut self, limit: std::num::NonZeroUsize) -> Result<Vec<Delivery>> {
        let deliveries = self.inner.recv(limit).await?;
        self.most.fetch_max(deliveries.len(), Ordering::Relaxed);
        Ok(deliveries.into_iter().map(|delivery| self.settle.wrap(delivery)).collect())
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        self.inner.cancel().await
    }
}

#[derive(Debug)]
struct PlainSettle {
    log: Log,
    held: Mutex<HashMap<DeliveryTag, Receipt>>,
}

impl PlainSettle {
    fn wrap(self: &Arc<Self>, delivery: Delivery) -> Delivery {
        let (queue, exchange, key) = (delivery.queue.clone(), delivery.exchange.clone(), delivery.routing_key.clone());
        let (redelivered, count) = (delivery.redelivered, delivery.delivery_count);
        let (message, receipt) = delivery.split();
        let tag = receipt.tag();
        self.held.lock().unwrap().insert(tag, receipt);
        let settle: Arc<dyn Settle> = Arc::<Self>::clone(self);
        let wrapped = Delivery::new(message, queue, Receipt::new(tag, settle)).published_to(exchange, key);
        match count {
            Some(count) => wrapped.counted(count),
            None => wrapped,
        }
        .redelivered(redelivered)
    }
}

#[async_trait]
impl Settle for PlainSettle {
    async fn settle(&self, batch: &mut Vec<Settlement>) -> Result<()> {
        while let Some(Settlement { tag, verb }) = batch.first().cloned() {
            let word = match &verb {
                // A tag that is not held is passed over, whatever its verb.
                _ if !self.held.lock().unwrap().contains_key(&tag) => None,
                Verb::Ack => Some("ack"),
                Verb::Reject(_) => Some("reject"),
                other => return Err(Error::unsupported("settle", format!("this broker cannot {other:?}"))),
            };
            let receipt = self.held.lock().unwrap().remove(&tag);
            if let (Some(receipt), Some(word)) = (receipt, word) {
                self.log.lock().unwrap().push(word.to_owned());
                receipt.settle(verb).await?;
            }
            batch.remove(0);
        }
        Ok(())
    }

    fn abandon(&self, tag: DeliveryTag) {
        self.held.lock().unwrap().remove(&tag);
    }
}

/// A result backend of its own store, that can be told to fail.
#[derive(Debug)]
pub(crate) struct Flaky {
    inner: MemoryStore,
    log: Log,
    /// So many calls of `store` fail as unavailable.
    pub(crate) down_for: AtomicUsize,
    /// Successes of these tasks are refused for good.
    pub(crate) refuses: Mutex<HashSet<TaskId>>,
    /// Failures of those are refused as well.
    pub(crate) refuses_all: AtomicBool,
    /// `store` never returns.
    pub(crate) hangs: AtomicBool,
    /// Every result that was stored, as it was given.
    pub(crate) given: Mutex<Vec<StoreResult>>,
}

impl Flaky {
    pub(crate) fn new(inner: MemoryStore, log: Log) -> Arc<Self> {
        let (down_for, refuses) = (AtomicUsize::new(0), Mutex::default());
        let (refuses_all, hangs) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { inner, log, down_for, refuses, refuses_all, hangs, given: Mutex::default() })
    }
}

#[async_trait]
impl ResultBackend for Flaky {
    fn capabilities(&self) -> BackendCapabilities {
        ResultBackend::capabilities(&self.inner)
    }

    async fn store(&self, batch: Vec<StoreResult>) -> Result<()> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let down = self.down_for.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if down {
            self.log.lock().unwrap().push("down".to_owned());
            return Err(Error::unavailable("store result", "the backend is down"));
        }
        let refused = |result: &StoreResult| {
            let all = self.refuses_all.load(Ordering::Relaxed);
            (all || crate::support::is_success(&result.meta))
                && self.refuses.lock().unwrap().contains(&result.meta.task_id)
        };
        if let Some(result) = batch.iter().find(|result| refused(result)) {
            let message = format!("the result of task `{}` is refused", result.meta.task_id);
            return Err(Error::new(ErrorKind::TooLarge, "store result", message));
        }
        self.log.lock().unwrap().push(format!("store {}", batch.len()));
        self.given.lock().unwrap().extend(batch.iter().cloned());
        self.inner.store(batch).await
    }

    async fn fetch(&self, ids: &[TaskId]) -> Result<Vec<Option<TaskMeta>>> {
        self.inner.fetch(ids).await
    }

    async fn watch(&self, id: &TaskId) -> Result<Box<dyn Watch>> {
        self.inner.watch(id).await
    }

    async fn forget(&self, ids: &[TaskId]) -> Result<()> {
        self.inner.forget(ids).await
    }

    async fn sweep(&self) -> Result<u64> {
        self.inner.sweep().await
    }

    async fn close(&self) -> Result<()> {
        ResultBackend::close(&self.inner).await
    }
}
