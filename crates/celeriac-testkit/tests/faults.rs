//! The suites find faults: each fault here, on top of an implementation without any, breaks the behaviour that names it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backend::{BackendCapabilities, ResultBackend, StoreResult, TaskMeta, Watch};
use celeriac_broker::{
    Broker, Capabilities, ConsumeOptions, Consumer, Delivery, Error, Outgoing, QueueSpec, Result, Verb, settle_all,
};
use celeriac_core::{QueueName, TaskId};
use celeriac_memory::MemoryStore;
use celeriac_testkit::backend::BackendHarness;
use celeriac_testkit::broker::BrokerHarness;
use celeriac_testkit::{backend, broker, schedule, serializer};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    AcksOnReceipt,
    CountsHeld,
    DeniesDelay,
    DeniesExpiration,
    DeniesMaxPriority,
    DeniesPriorities,
    IgnoresArguments,
    IgnoresClose,
    IgnoresLimit,
    LosesBodies,
    OverwritesSuccess,
    RefusesThePast,
    ReplacesBindings,
    ReversesBatches,
    SwapsIds,
    WatchesTooLate,
}

/// A store with a fault.
#[derive(Debug)]
struct Faulty(MemoryStore, Fault);

#[async_trait]
impl Broker for Faulty {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Broker::capabilities(&self.0);
        capabilities.delay &= self.1 != Fault::DeniesDelay;
        capabilities.expiration &= self.1 != Fault::DeniesExpiration;
        capabilities.max_priority &= self.1 != Fault::DeniesMaxPriority;
        capabilities.priorities &= self.1 != Fault::DeniesPriorities;
        capabilities
    }

    async fn declare(&self, queue: &QueueSpec) -> Result<()> {
        let mut queue = queue.clone();
        if self.1 == Fault::IgnoresArguments {
            queue.arguments = celeriac_core::Map::new();
        }
        if self.1 == Fault::ReplacesBindings && self.0.depth(&queue.name).await? > 0 {
            queue.bindings.clear();
        }
        self.0.declare(&queue).await
    }

    async fn publish(&self, mut batch: Vec<Outgoing>) -> Result<()> {
        match self.1 {
            Fault::ReversesBatches => batch.reverse(),
            Fault::RefusesThePast if batch.iter().any(|one| one.deliver_at.is_some()) => {
                return Err(Error::unsupported("publish", "a delay"));
            }
            Fault::LosesBodies => batch.iter_mut().for_each(|one| one.message.body.truncate(1000)),
            _ => {}
        }
        self.0.publish(batch).await
    }

    async fn consume(&self, options: ConsumeOptions) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(FaultyConsumer(self.0.consume(options).await?, self.1)))
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64> {
        let depth = self.0.depth(queue).await?;
        Ok(if self.1 == Fault::CountsHeld { depth + 1 } else { depth })
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64> {
        self.0.purge(queue).await
    }

    async fn close(&self) -> Result<()> {
        if self.1 == Fault::IgnoresClose { Ok(()) } else { Broker::close(&self.0).await }
    }
}

#[derive(Debug)]
struct FaultyConsumer(Box<dyn Consumer>, Fault);

#[async_trait]
impl Consumer for FaultyConsumer {
    async fn recv(&mut self, limit: NonZeroUsize) -> Result<Vec<Delivery>> {
        let limit = if self.1 == Fault::IgnoresLimit { NonZeroUsize::MAX } else { limit };
        let deliveries = self.0.recv(limit).await?;
        if self.1 == Fault::AcksOnReceipt {
            let (kept, receipts): (Vec<_>, Vec<_>) = deliveries.into_iter().map(copy_and_receipt).unzip();
            let batch = receipts.into_iter().map(|receipt| (receipt, Verb::Ack)).collect();
            settle_all(batch).await.map_err(|unsettled| unsettled.error)?;
            return Ok(kept);
        }
        Ok(deliveries)
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        self.0.cancel().await
    }
}

/// Settles nothing.
#[derive(Debug)]
struct Deaf;

#[async_trait]
impl celeriac_broker::Settle for Deaf {
    async fn settle(&self, _: &mut Vec<celeriac_broker::Settlement>) -> Result<()> {
        Ok(())
    }

    fn abandon(&self, _: celeriac_broker::DeliveryTag) {}
}

fn copy_and_receipt(delivery: Delivery) -> (Delivery, celeriac_broker::Receipt) {
    let queue = delivery.queue.clone();
    let (message, receipt) = delivery.split();
    let deaf = celeriac_broker::Receipt::new(receipt.tag(), Arc::new(Deaf));
    (Delivery::new(message, queue, deaf), receipt)
}

#[async_trait]
impl ResultBackend for Faulty {
    fn capabilities(&self) -> BackendCapabilities {
        ResultBackend::capabilities(&self.0)
    }

    async fn store(&self, batch: Vec<StoreResult>) -> Result<()> {
        if self.1 == Fault::OverwritesSuccess {
            let ids: Vec<TaskId> = batch.iter().map(|result| result.meta.task_id.clone()).collect();
            self.0.forget(&ids).await?;
        }
        self.0.store(batch).await
    }

    async fn fetch(&self, ids: &[TaskId]) -> Result<Vec<Option<TaskMeta>>> {
        let mut found = self.0.fetch(ids).await?;
        if self.1 == Fault::SwapsIds {
            found.reverse();
        }
        Ok(found)
    }

    async fn watch(&self, id: &TaskId) -> Result<Box<dyn Watch>> {
        let mut watch = self.0.watch(id).await?;
        if self.1 == Fault::WatchesTooLate && self.0.fetch(std::slice::from_ref(id)).await? != [None] {
            watch.next().await?;
        }
        Ok(watch)
    }

    async fn forget(&self, ids: &[TaskId]) -> Result<()> {
        self.0.forget(ids).await
    }

    async fn sweep(&self) -> Result<u64> {
        self.0.sweep().await
    }

    async fn close(&self) -> Result<()> {
        if self.1 == Fault::IgnoresClose { Ok(()) } else { ResultBackend::close(&self.0).await }
    }
}

/// Opens stores with a fault, and does not wait long for what may never come.
struct Opener(Fault);

#[async_trait]
impl BrokerHarness for Opener {
    async fn open(&self) -> Arc<dyn Broker> {
        Arc::new(Faulty(MemoryStore::new(), self.0))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(1)
    }
}

#[async_trait]
impl BackendHarness for Opener {
    async fn open(&self) -> Arc<dyn ResultBackend> {
        Arc::new(Faulty(MemoryStore::new(), self.0))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// Whether the broker behaviour `name` holds with `fault`.
async fn broker_holds(fault: Fault, name: &str) -> bool {
    let behaviour = broker::BEHAVIOURS.iter().find(|one| one.name == name).expect("the suite has this behaviour");
    tokio::spawn(behaviour.check(Arc::new(Opener(fault)))).await.is_ok()
}

/// Whether the backend behaviour `name` holds with `fault`.
async fn backend_holds(fault: Fault, name: &str) -> bool {
    let behaviour = backend::BEHAVIOURS.iter().find(|one| one.name == name).expect("the suite has this behaviour");
    tokio::spawn(behaviour.check(Arc::new(Opener(fault)))).await.is_ok()
}

#[tokio::test]
async fn a_fault_in_a_broker_breaks_the_behaviour_that_names_it() {
    for (fault, name) in [
        (Fault::AcksOnReceipt, "a_dropped_delivery_comes_back"),
        (Fault::CountsHeld, "depth_counts_what_waits"),
        (Fault::DeniesDelay, "deliver_at_without_delay_is_unsupported"),
        (Fault::DeniesDelay, "park_without_delay_is_unsupported"),
        (Fault::DeniesExpiration, "hints_that_cannot_be_followed_have_no_effect"),
        (Fault::DeniesExpiration, "message_ttl_without_expiration_is_unsupported"),
        (Fault::DeniesPriorities, "hints_that_cannot_be_followed_have_no_effect"),
        (Fault::DeniesMaxPriority, "max_priority_without_the_capability_is_unsupported"),
        (Fault::IgnoresArguments, "an_unknown_argument_is_refused_by_name"),
        (Fault::IgnoresClose, "calls_after_close_are_unavailable"),
        (Fault::IgnoresClose, "close_ends_a_pending_recv"),
        (Fault::IgnoresLimit, "recv_returns_at_most_its_limit_and_never_nothing"),
        (Fault::LosesBodies, "a_body_of_any_bytes_arrives_unchanged"),
        (Fault::RefusesThePast, "a_message_due_in_the_past_is_delivered_at_once"),
        (Fault::ReplacesBindings, "bindings_add_up"),
        (Fault::ReversesBatches, "a_batch_is_published_in_order"),
    ] {
        assert!(broker_holds(Fault::None, name).await, "{name} holds without a fault");
        assert!(!broker_holds(fault, name).await, "{name} does not hold with {fault:?}");
    }
}

#[tokio::test]
async fn a_fault_in_a_backend_breaks_the_behaviour_that_names_it() {
    for (fault, name) in [
        (Fault::IgnoresClose, "calls_after_close_are_unavailable"),
        (Fault::OverwritesSuccess, "a_success_is_final"),
        (Fault::SwapsIds, "missing_records_are_none_and_the_order_is_kept"),
        (Fault::WatchesTooLate, "no_final_record_is_missed"),
        (Fault::WatchesTooLate, "a_watch_begins_with_the_record_that_is_there"),
    ] {
        assert!(backend_holds(Fault::None, name).await, "{name} holds without a fault");
        assert!(!backend_holds(fault, name).await, "{name} does not hold with {fault:?}");
    }
}

#[test]
fn every_behaviour_has_a_name_and_a_contract_of_its_own() {
    let brokers = broker::BEHAVIOURS.iter().map(|one| (one.name, one.contract));
    let backends = backend::BEHAVIOURS.iter().map(|one| (one.name, one.contract));
    let serializers = serializer::BEHAVIOURS.iter().map(|one| (one.name, one.contract));
    let schedules = schedule::BEHAVIOURS.iter().map(|one| (one.name, one.contract));
    for suite in [brokers.collect::<Vec<_>>(), backends.collect(), schedules.collect(), serializers.collect()] {
        let mut names: Vec<&str> = suite.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), suite.len());
        assert!(suite.iter().all(|(_, contract)| contract.len() > 10));
    }
}
