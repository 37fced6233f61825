//! `Broker` for the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use celeriac_broker::{Broker, Capabilities, ConsumeOptions, Consumer, Outgoing, QueueSpec};
use celeriac_core::{Error, ErrorKind, QueueName, Result, StoreId};
use tokio::sync::Notify;

use crate::consumer::MemoryConsumer;
use crate::state::Incoming;
use crate::store::{MemoryStore, Shared};

#[async_trait]
impl Broker for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::all();
        capabilities.durable = false;
        capabilities
    }

    fn store_id(&self) -> Option<StoreId> {
        Some(self.handle.shared.id.clone())
    }

    async fn declare(&self, queue: &QueueSpec) -> Result<()> {
        let now = self.handle.shared.now();
        self.handle.with_broker("declare queue", |state, after| {
            state.expire_queues(now, after);
            state.declare(queue, now)
        })
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Result<()> {
        let shared = &self.handle.shared;
        batch.iter().try_for_each(|outgoing| shared.check_size(outgoing))?;
        let batch: Vec<Incoming> = batch.into_iter().map(Incoming::from).collect();
        let now = shared.now();
        self.handle.with_broker("publish", |state, after| {
            state.expire_queues(now, after);
            state.check_routes(batch.iter().map(Incoming::route), shared.config.max_queue_length)?;
            state.enqueue(batch, now, after);
            Ok(())
        })
    }

    async fn consume(&self, options: ConsumeOptions) -> Result<Box<dyn Consumer>> {
        if options.queues.is_empty() {
            return Err(Error::config("consume", "no queue is named"));
        }
        let notify = Arc::new(Notify::new());
        let now = self.handle.shared.now();
        let (member, queues) = self.handle.with_broker("consume", |state, after| {
            state.expire_queues(now, after);
            Ok(state.add_member(self.handle.id, options.queues, &notify, now))
        })?;
        Ok(Box::new(MemoryConsumer::new(Arc::clone(&self.handle), member, queues, notify)))
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64> {
        let now = self.handle.shared.now();
        self.handle.with_broker("depth", |state, after| {
            state.expire_queues(now, after);
            let Some(queue) = state.queue_named(queue) else { return Ok(0) };
            let promoted = queue.promote(now);
            queue.wake(promoted, after);
            queue.drop_expired(now);
            Ok(queue.ready() as u64)
        })
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64> {
        let now = self.handle.shared.now();
        self.handle.with_broker("purge", |state, after| {
            state.expire_queues(now, after);
            let Some(queue) = state.queue_named(queue) else { return Ok(0) };
            queue.drop_expired(now);
            Ok(queue.clear(after) as u64)
        })
    }

    async fn close(&self) -> Result<()> {
        let now = self.handle.shared.now();
        self.handle.shared.with(|state, after| {
            if !self.handle.broker_closed.swap(true, Ordering::Relaxed) {
                state.leave(self.handle.id, now, after);
            }
        });
        Ok(())
    }
}

impl Shared {
    /// Refuses a message that is over the limit.
    pub(crate) fn check_size(&self, outgoing: &Outgoing) -> Result<()> {
        let (size, max) = (outgoing.message.body.len(), self.config.max_message_bytes);
        if size <= max {
            return Ok(());
        }
        let key = &outgoing.destination.routing_key;
        let message = format!("a message to `{key}` has a body of {size} bytes, and the limit is {max}");
        Err(Error::new(ErrorKind::TooLarge, "publish", message))
    }
}
