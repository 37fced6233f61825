//! The app: one name, one broker, one result backend, the tasks and their schedule.

use std::sync::Arc;

use celeriac_backend::ResultBackend;
use celeriac_broker::Broker;
#[cfg(feature = "worker")]
use celeriac_consumer::{Extensions, Tasks, WorkerConfig};
#[cfg(feature = "beat")]
use celeriac_core::Error;
use celeriac_core::{Clock, Result, TaskId};
use celeriac_producer::{AsyncResult, IntoCall, Producer};
#[cfg(feature = "beat")]
use celeriac_schedule::ScheduleStore;
#[cfg(feature = "beat")]
use celeriac_scheduler::{Entries, Entry};

use crate::builder::AppBuilder;

/// An app: sends tasks, reads their results, and makes workers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) name: String,
    #[cfg_attr(not(any(feature = "beat", feature = "worker")), expect(dead_code, reason = "for workers and beats"))]
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) producer: Producer,
    #[cfg(feature = "beat")]
    pub(crate) schedule: Option<Arc<dyn ScheduleStore>>,
    #[cfg(feature = "beat")]
    pub(crate) entries: Vec<Entry>,
    #[cfg(feature = "worker")]
    pub(crate) extensions: Extensions,
    #[cfg(feature = "worker")]
    pub(crate) tasks: Tasks,
    #[cfg(feature = "worker")]
    pub(crate) worker: WorkerConfig,
}

impl App {
    /// Begins an app. Its name says which embedded file it uses when no broker is named: programs that share tasks share the name.
    pub fn builder(name: impl Into<String>) -> AppBuilder {
        AppBuilder::new(name.into())
    }

    /// The app's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Sends one task: `app.send(add::s(2, 3))`, or by name: `app.send(Signature::named("tasks.add").arg(2).arg(3))`.
    ///
    /// `Ok` means that the broker answers for it.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub async fn send<C: IntoCall>(&self, call: C) -> Result<AsyncResult<C::Output>> {
        self.inner.producer.send(call).await
    }

    /// Sends many tasks at once, in order. Much cheaper than one by one.
    ///
    /// # Errors
    /// As [`Producer::send_batch`].
    pub async fn send_batch<C: IntoCall>(
        &self,
        calls: impl IntoIterator<Item = C>,
    ) -> Result<Vec<AsyncResult<C::Output>>> {
        self.inner.producer.send_batch(calls).await
    }

    /// The result of a task that was sent before, perhaps by another process.
    #[must_use]
    pub fn result<R>(&self, id: TaskId) -> AsyncResult<R> {
        self.inner.producer.result(id)
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        self.inner.producer.broker()
    }

    /// The result backend, if there is one.
    #[must_use]
    pub fn backend(&self) -> Option<&Arc<dyn ResultBackend>> {
        self.inner.producer.backend()
    }

    /// The producer that sends the app's tasks.
    #[must_use]
    pub fn producer(&self) -> &Producer {
        &self.inner.producer
    }

    /// Sets up a worker for the app's tasks.
    #[cfg(feature = "worker")]
    pub fn worker(&self) -> crate::worker::WorkerSetup {
        crate::worker::WorkerSetup::new(self.clone())
    }

    /// Sets up a beat, which sends what is due by the schedule.
    #[cfg(feature = "beat")]
    pub fn beat(&self) -> crate::beat::BeatSetup {
        crate::beat::BeatSetup::new(self.clone())
    }

    /// The schedule as it is in the store: to list, add, change, pause and remove entries, whether a beat runs or not.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the app has no store of schedules.
    #[cfg(feature = "beat")]
    pub fn schedule(&self) -> Result<Entries> {
        Ok(Entries::new(Arc::clone(self.schedule_store()?)).clock(Arc::clone(&self.inner.clock)))
    }

    #[cfg(feature = "beat")]
    pub(crate) fn schedule_store(&self) -> Result<&Arc<dyn ScheduleStore>> {
        self.inner.schedule.as_ref().ok_or_else(|| {
            let message = "neither the broker nor the result backend keeps schedules; set `schedule_url`, CELERIAC_SCHEDULE_URL or \
                           `schedule_store` to a store that all who run the schedule share, such as redis://host/0";
            Error::config("schedule", message)
        })
    }

    /// Flushes and closes broker, result backend and store of schedules. Programs that only send may leave it out: what was sent is with the broker.
    ///
    /// Stop the app's workers and beats first: one that runs on keeps trying to reach the broker until it is stopped itself.
    ///
    /// # Errors
    /// If the flush failed.
    pub async fn close(&self) -> Result<()> {
        let mut closed = self.broker().close().await;
        if let Some(backend) = self.backend() {
            closed = closed.and(backend.close().await);
        }
        #[cfg(feature = "beat")]
        if let Some(schedule) = &self.inner.schedule {
            closed = closed.and(schedule.close().await);
        }
        closed
    }
}
