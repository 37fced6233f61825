//! The app: one name, one broker, one result backend, and the tasks.

use std::sync::Arc;

use celeriac_backend::ResultBackend;
use celeriac_broker::Broker;
#[cfg(feature = "worker")]
use celeriac_consumer::{Extensions, Tasks, WorkerConfig};
use celeriac_core::{Result, TaskId};
use celeriac_producer::{AsyncResult, IntoCall, Producer};

use crate::builder::AppBuilder;

/// An app: sends tasks, reads their results, and makes workers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) producer: Producer,
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

    /// Flushes and closes broker and result backend. Programs that only send may leave it out: what was sent is with the broker.
    ///
    /// Stop the app's workers first: one that runs on keeps trying to reach the broker until it is stopped itself.
    ///
    /// # Errors
    /// If the flush failed.
    pub async fn close(&self) -> Result<()> {
        let closed = self.broker().close().await;
        if let Some(backend) = self.backend() {
            backend.close().await?;
        }
        closed
    }
}
