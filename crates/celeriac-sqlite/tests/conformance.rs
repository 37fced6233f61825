//! The conformance suites, on a database of its own for each behaviour.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use celeriac_backend::ResultBackend;
use celeriac_broker::Broker;
use celeriac_schedule::ScheduleStore;
use celeriac_sqlite::{SqliteConfig, SqliteStore};
use celeriac_testkit::backend::BackendHarness;
use celeriac_testkit::broker::BrokerHarness;
use celeriac_testkit::schedule::ScheduleHarness;
use tempfile::TempDir;

struct Harness {
    directory: TempDir,
    latest: Mutex<Option<SqliteStore>>,
}

impl Harness {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory is made"), latest: Mutex::default() }
    }

    async fn store(&self) -> SqliteStore {
        let path = self.directory.path().join("jobs.db");
        SqliteStore::open(SqliteConfig::new(path)).await.expect("the store opens")
    }
}

#[async_trait]
impl BrokerHarness for Harness {
    async fn open(&self) -> Arc<dyn Broker> {
        let store = self.store().await;
        let broker = store.broker();
        *self.latest.lock().expect("no behaviour panics with it") = Some(store);
        broker
    }

    async fn reopen(&self) -> Option<Arc<dyn Broker>> {
        Some(self.store().await.broker())
    }

    async fn backend(&self) -> Option<Arc<dyn ResultBackend>> {
        let latest = self.latest.lock().expect("no behaviour panics with it");
        latest.as_ref().map(SqliteStore::backend)
    }
}

#[async_trait]
impl BackendHarness for Harness {
    async fn open(&self) -> Arc<dyn ResultBackend> {
        self.store().await.backend()
    }

    async fn reopen(&self) -> Option<Arc<dyn ResultBackend>> {
        Some(self.store().await.backend())
    }
}

#[async_trait]
impl ScheduleHarness for Harness {
    async fn open(&self) -> Arc<dyn ScheduleStore> {
        self.store().await.schedule()
    }

    async fn reopen(&self) -> Option<Arc<dyn ScheduleStore>> {
        Some(self.store().await.schedule())
    }

    async fn broker(&self) -> Option<Arc<dyn Broker>> {
        Some(self.store().await.broker())
    }
}

mod backend {
    use super::Harness;

    celeriac_testkit::backend_conformance!(Harness::new);
}

mod broker {
    use super::Harness;

    celeriac_testkit::broker_conformance!(Harness::new);
}

mod schedule {
    use super::Harness;

    celeriac_testkit::schedule_conformance!(Harness::new);
}
