//! The broker half.

use std::sync::Arc;

use async_trait::async_trait;
use celeriac_broker::{Broker, Capabilities, ConsumeOptions, Consumer, Outgoing, QueueSpec};
use celeriac_core::{Error, QueueName, Result};
use tokio::time::Instant;

use crate::config::QueueType;
use crate::consumer::AmqpConsumer;
use crate::settle::Settler;
use crate::store::{Half, Inner};

pub(crate) struct AmqpBroker {
    inner: Arc<Inner>,
    settler: Arc<Settler>,
}

impl AmqpBroker {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        let settler = Arc::new(Settler::new(Arc::clone(&inner)));
        Self { inner, settler }
    }

    pub(crate) fn settler(&self) -> &Arc<Settler> {
        &self.settler
    }
}

impl std::fmt::Debug for AmqpBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AmqpBroker").field(&self.inner.config.shown()).finish()
    }
}

#[async_trait]
impl Broker for AmqpBroker {
    fn capabilities(&self) -> Capabilities {
        let config = &self.inner.config;
        let quorum = config.queue_type == QueueType::Quorum;
        let mut capabilities = Capabilities::none();
        capabilities.delay = true;
        capabilities.delivery_count = quorum;
        capabilities.durable = true;
        capabilities.expiration = true;
        capabilities.fanout = true;
        capabilities.headers = true;
        // A quorum queue puts what comes back at its end; or, with a delivery limit, which is not ours to set, at its head as it comes.
        capabilities.keeps_place = !quorum;
        capabilities.max_priority = !quorum;
        capabilities.priorities = !quorum && config.max_priority.is_some();
        capabilities.topic = true;
        capabilities
    }

    async fn declare(&self, queue: &QueueSpec) -> Result<()> {
        self.inner.check_open(Half::Broker, "declare queue")?;
        self.inner.topology.declare(queue).await?;
        if queue.auto_delete || queue.expires.is_some() {
            self.inner.kept().insert(queue.name.clone());
        }
        Ok(())
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Result<()> {
        self.inner.check_open(Half::Broker, "publish")?;
        let end = Instant::now() + self.inner.config.publish_timeout;
        self.inner.replies.expect("publish", &batch).await?;
        self.inner.publisher.publish_until(end, "publish", batch).await
    }

    async fn consume(&self, options: ConsumeOptions) -> Result<Box<dyn Consumer>> {
        self.inner.check_open(Half::Broker, "consume")?;
        Ok(Box::new(AmqpConsumer::start(&self.inner, &self.settler, options).await?))
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64> {
        self.inner.check_open(Half::Broker, "depth")?;
        self.inner.topology.depth("depth", queue).await
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64> {
        self.inner.check_open(Half::Broker, "purge")?;
        self.inner.topology.purge("purge", queue).await
    }

    fn trouble(&self) -> Option<Error> {
        self.inner.sending.trouble("publish")
    }

    async fn close(&self) -> Result<()> {
        self.inner.close(Half::Broker).await
    }
}
