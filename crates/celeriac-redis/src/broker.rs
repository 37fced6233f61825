//! The broker half.

use std::sync::Arc;

use async_trait::async_trait;
use celeriac_broker::{Broker, Capabilities, ConsumeOptions, Consumer, Outgoing, QueueSpec};
use celeriac_core::{Error, QueueName, Result, StoreId};
use deadpool_redis::redis::{self, Pipeline};

use crate::config::PriorityOrder;
use crate::consumer::RedisConsumer;
use crate::error::unexpected;
use crate::settle::Settler;
use crate::store::{Half, Inner};
use crate::{publish, script, topology};

pub(crate) struct RedisBroker {
    inner: Arc<Inner>,
    settler: Arc<Settler>,
}

impl RedisBroker {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        let settler = Arc::new(Settler::new(Arc::clone(&inner)));
        Self { inner, settler }
    }

    pub(crate) fn settler(&self) -> &Arc<Settler> {
        &self.settler
    }
}

impl std::fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RedisBroker").field(&self.inner.shared.id.0).finish()
    }
}

#[async_trait]
impl Broker for RedisBroker {
    fn capabilities(&self) -> Capabilities {
        let config = &self.inner.shared.config;
        let mut capabilities = Capabilities::none();
        capabilities.delay = true;
        capabilities.delivery_count = true;
        capabilities.durable = true;
        capabilities.fanout = true;
        capabilities.lowest_first = config.priority_order == PriorityOrder::Celery;
        capabilities.priorities = config.priority_steps.len() > 1;
        capabilities.priority_levels = u8::try_from(config.priority_steps.len()).unwrap_or(10);
        capabilities.keeps_place = true;
        capabilities.purges_delayed = true;
        capabilities.topic = true;
        capabilities
    }

    fn store_id(&self) -> Option<StoreId> {
        Some(self.inner.shared.id.clone())
    }

    async fn declare(&self, queue: &QueueSpec) -> Result<()> {
        self.inner.check_open(Half::Broker, "declare queue")?;
        topology::declare(&self.inner.shared, &self.inner.link, queue).await
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Result<()> {
        self.inner.check_open(Half::Broker, "publish")?;
        publish::publish(&self.inner, batch).await
    }

    async fn consume(&self, options: ConsumeOptions) -> Result<Box<dyn Consumer>> {
        self.inner.check_open(Half::Broker, "consume")?;
        let mut queues: Vec<QueueName> = Vec::with_capacity(options.queues.len());
        for queue in options.queues {
            if !queues.contains(&queue) {
                queues.push(queue);
            }
        }
        if queues.is_empty() {
            return Err(Error::config("consume", "no queue is named"));
        }
        Ok(Box::new(RedisConsumer::start(&self.inner, &self.settler, queues).await?))
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64> {
        const COUNT: &str = "count";
        self.inner.check_open(Half::Broker, COUNT)?;
        let keys = &self.inner.shared.keys;
        let mut pipeline = Pipeline::new();
        for step in keys.steps() {
            pipeline.cmd("LLEN").arg(keys.list(queue, step));
        }
        let mut depth = 0;
        for length in self.inner.link.pipeline(COUNT, &pipeline).await? {
            depth += redis::from_redis_value::<u64>(length).map_err(|error| unexpected(COUNT, error))?;
        }
        Ok(depth)
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64> {
        const PURGE: &str = "purge";
        self.inner.check_open(Half::Broker, PURGE)?;
        let keys = &self.inner.shared.keys;
        let lists: Vec<String> = keys.steps().into_iter().map(|step| keys.list(queue, step)).collect();
        let mut command = script::PURGE.call();
        command.arg(2 + lists.len()).arg(keys.parked(queue)).arg(&keys.parked_index).arg(lists).arg(queue.as_str());
        let purged = self.inner.link.query(PURGE, &command).await?;
        redis::from_redis_value(purged).map_err(|error| unexpected(PURGE, error))
    }

    async fn close(&self) -> Result<()> {
        self.inner.close(Half::Broker).await
    }
}
