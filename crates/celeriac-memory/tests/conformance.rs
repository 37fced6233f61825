//! The memory store does what every broker, result backend and store of schedules does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backend::ResultBackend;
use celeriac_broker::Broker;
use celeriac_core::{Clock, Timestamp};
use celeriac_memory::MemoryStore;
use celeriac_schedule::ScheduleStore;
use celeriac_testkit::ManualClock;
use celeriac_testkit::backend::BackendHarness;
use celeriac_testkit::broker::BrokerHarness;
use celeriac_testkit::schedule::ScheduleHarness;

/// A store whose time is moved by hand.
struct ByHand {
    clock: ManualClock,
    store: MemoryStore,
}

impl ByHand {
    fn new() -> Self {
        let clock = ManualClock::new();
        let store = MemoryStore::with_clock(Arc::new(clock.clone()));
        let woken = store.connect();
        clock.on_change(move || woken.wake());
        Self { clock, store }
    }
}

#[async_trait]
impl BrokerHarness for ByHand {
    async fn open(&self) -> Arc<dyn Broker> {
        Arc::new(self.store.clone())
    }

    async fn reopen(&self) -> Option<Arc<dyn Broker>> {
        Some(Arc::new(self.store.connect()))
    }

    async fn backend(&self) -> Option<Arc<dyn ResultBackend>> {
        Some(Arc::new(self.store.clone()))
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}

#[async_trait]
impl BackendHarness for ByHand {
    async fn open(&self) -> Arc<dyn ResultBackend> {
        Arc::new(self.store.clone())
    }

    async fn reopen(&self) -> Option<Arc<dyn ResultBackend>> {
        Some(Arc::new(self.store.connect()))
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}

#[async_trait]
impl ScheduleHarness for ByHand {
    async fn open(&self) -> Arc<dyn ScheduleStore> {
        Arc::new(self.store.clone())
    }

    async fn reopen(&self) -> Option<Arc<dyn ScheduleStore>> {
        Some(Arc::new(self.store.connect()))
    }

    async fn broker(&self) -> Option<Arc<dyn Broker>> {
        Some(Arc::new(self.store.clone()))
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}

mod backend {
    use super::ByHand;
    celeriac_testkit::backend_conformance!(ByHand::new);
}

mod backend_on_the_wall_clock {
    use super::{Arc, MemoryStore, ResultBackend};
    celeriac_testkit::backend_conformance!(|| async { Arc::new(MemoryStore::new()) as Arc<dyn ResultBackend> });
}

mod broker {
    use super::ByHand;
    celeriac_testkit::broker_conformance!(ByHand::new);
}

mod broker_on_the_wall_clock {
    use super::{Arc, Broker, MemoryStore};
    celeriac_testkit::broker_conformance!(|| async { Arc::new(MemoryStore::new()) as Arc<dyn Broker> });
}

mod schedule {
    use super::ByHand;
    celeriac_testkit::schedule_conformance!(ByHand::new);
}

mod schedule_on_the_wall_clock {
    use super::{Arc, MemoryStore, ScheduleStore};
    celeriac_testkit::schedule_conformance!(|| async { Arc::new(MemoryStore::new()) as Arc<dyn ScheduleStore> });
}
