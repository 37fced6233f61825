//! A broker, a backend and a store of schedules behind `Arc<dyn ...>`, forwarded by a wrapper: the suites must not depend on the concrete type, and a wrapper must
//! forward every method.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use celeriac_backend::{BackendCapabilities, ResultBackend, StoreResult, TaskMeta, Watch};
use celeriac_broker::{Broker, Capabilities, ConsumeOptions, Consumer, Outgoing, QueueSpec, Result};
use celeriac_core::{EntryName, Error, QueueName, RoutingKey, StoreId, TaskId};
use celeriac_memory::MemoryStore;
use celeriac_schedule::{
    Advance, Changes, Condition, Lead, Put, Revision, ScheduleCapabilities, ScheduleStore, Step, StoredEntry, Term,
};

#[derive(Debug)]
struct Forward<T: ?Sized>(Arc<T>);

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Broker for Forward<dyn Broker> {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn store_id(&self) -> Option<StoreId> {
        self.0.store_id()
    }

    async fn declare(&self, queue: &QueueSpec) -> Result<()> {
        self.0.declare(queue).await
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Result<()> {
        self.0.publish(batch).await
    }

    async fn consume(&self, options: ConsumeOptions) -> Result<Box<dyn Consumer>> {
        self.0.consume(options).await
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64> {
        self.0.depth(queue).await
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64> {
        self.0.purge(queue).await
    }

    fn trouble(&self) -> Option<Error> {
        self.0.trouble()
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl ResultBackend for Forward<dyn ResultBackend> {
    fn capabilities(&self) -> BackendCapabilities {
        self.0.capabilities()
    }

    fn store_id(&self) -> Option<StoreId> {
        self.0.store_id()
    }

    fn reply_to(&self) -> Option<RoutingKey> {
        self.0.reply_to()
    }

    async fn store(&self, batch: Vec<StoreResult>) -> Result<()> {
        self.0.store(batch).await
    }

    async fn fetch(&self, ids: &[TaskId]) -> Result<Vec<Option<TaskMeta>>> {
        self.0.fetch(ids).await
    }

    async fn watch(&self, id: &TaskId) -> Result<Box<dyn Watch>> {
        self.0.watch(id).await
    }

    async fn forget(&self, ids: &[TaskId]) -> Result<()> {
        self.0.forget(ids).await
    }

    async fn sweep(&self) -> Result<u64> {
        self.0.sweep().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl ScheduleStore for Forward<dyn ScheduleStore> {
    fn capabilities(&self) -> ScheduleCapabilities {
        self.0.capabilities()
    }

    fn store_id(&self) -> Option<StoreId> {
        self.0.store_id()
    }

    async fn put(&self, name: &EntryName, definition: Bytes, condition: Condition) -> Result<Put> {
        self.0.put(name, definition, condition).await
    }

    async fn remove(&self, name: &EntryName) -> Result<bool> {
        self.0.remove(name).await
    }

    async fn get(&self, name: &EntryName) -> Result<Option<StoredEntry>> {
        self.0.get(name).await
    }

    async fn list(&self, after: Option<&EntryName>, limit: NonZeroUsize) -> Result<Vec<StoredEntry>> {
        self.0.list(after, limit).await
    }

    async fn changes(&self, since: Revision, limit: NonZeroUsize) -> Result<Changes> {
        self.0.changes(since, limit).await
    }

    async fn changed(&self, since: Revision) -> Result<()> {
        self.0.changed(since).await
    }

    async fn lead(&self, who: &str, lease: Duration) -> Result<Lead> {
        self.0.lead(who, lease).await
    }

    async fn resign(&self, term: Term) -> Result<()> {
        self.0.resign(term).await
    }

    async fn advance(&self, term: Term, steps: Vec<Step>) -> Result<Advance> {
        self.0.advance(term, steps).await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

mod broker {
    use super::{Arc, Broker, Forward, MemoryStore};
    celeriac_testkit::broker_conformance!(|| async {
        let inner: Arc<dyn Broker> = Arc::new(MemoryStore::new());
        Arc::new(Forward(inner)) as Arc<dyn Broker>
    });
}

mod backend {
    use super::{Arc, Forward, MemoryStore, ResultBackend};
    celeriac_testkit::backend_conformance!(|| async {
        let inner: Arc<dyn ResultBackend> = Arc::new(MemoryStore::new());
        Arc::new(Forward(inner)) as Arc<dyn ResultBackend>
    });
}

mod schedule {
    use super::{Arc, Forward, MemoryStore, ScheduleStore};
    celeriac_testkit::schedule_conformance!(|| async {
        let inner: Arc<dyn ScheduleStore> = Arc::new(MemoryStore::new());
        Arc::new(Forward(inner)) as Arc<dyn ScheduleStore>
    });
}
