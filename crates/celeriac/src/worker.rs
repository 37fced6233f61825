//! Sets up a worker for an app.

use std::borrow::Cow;
use std::future::Future;
use std::num::NonZeroUsize;
use std::time::Duration;

use celeriac_consumer::{Prefetch, Worker, WorkerConfig};
use celeriac_core::{Error, QueueName, Result};

use crate::app::App;

/// Sets up a worker. What is not set is as the app was configured.
#[derive(Debug)]
#[must_use]
pub struct WorkerSetup {
    app: App,
    config: WorkerConfig,
    error: Option<Error>,
}

impl WorkerSetup {
    pub(crate) fn new(app: App) -> Self {
        let config = app.inner.worker.clone();
        Self { app, config, error: None }
    }

    /// Sets how many tasks run at once, at least 1. Default: the number of CPUs.
    pub fn concurrency(mut self, count: usize) -> Self {
        match NonZeroUsize::new(count) {
            Some(count) => self.config.concurrency = count,
            None => {
                self.error.get_or_insert_with(|| Error::config("build worker", "a concurrency of 0 runs no task"));
            }
        }
        self
    }

    /// Sets the queues to work on. Default: the app's default queue.
    pub fn queues<N: Into<Cow<'static, str>>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        match names.into_iter().map(QueueName::new).collect() {
            Ok(queues) => self.config.queues = queues,
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
        self
    }

    /// Sets the worker's name, as others see it. Default: `celery@<host>`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into();
        self
    }

    /// Sets how many tasks are held ready beyond those that run.
    pub fn prefetch(mut self, prefetch: Prefetch) -> Self {
        self.config.prefetch = prefetch;
        self
    }

    /// Whether messages are acknowledged after the task, for tasks that do not say. Default: yes.
    pub fn acks_late(mut self, late: bool) -> Self {
        self.config.acks_late = late;
        self
    }

    /// Whether results bear the task's name, arguments, worker, retries and queue. Default: no.
    pub fn result_extended(mut self, extended: bool) -> Self {
        self.config.result_extended = extended;
        self
    }

    /// Whether state `STARTED` is stored, for tasks that do not say. Default: no.
    pub fn track_started(mut self, track: bool) -> Self {
        self.config.track_started = track;
        self
    }

    /// Sets how long a warm shutdown waits for what runs before it turns cold. Default: for ever.
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.config.shutdown_timeout = Some(limit);
        self
    }

    /// Changes anything else.
    pub fn configure(mut self, change: impl FnOnce(&mut WorkerConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Makes the worker, to be run by hand.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming what is wrong.
    pub fn build(self) -> Result<Worker> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let inner = &self.app.inner;
        Worker::builder(inner.producer.clone(), inner.tasks.clone())
            .config(self.config)
            .extensions(inner.extensions.clone())
            .build()
    }

    /// Runs the worker until SIGTERM or SIGINT: the first stops it warm, a second one cold. They are listened to from this call on: see
    /// [`Worker::run_until_signal`].
    ///
    /// # Errors
    /// As [`WorkerSetup::build`] and [`Worker::run_until_signal`].
    #[must_use = "a future does nothing unless it is awaited"]
    pub fn run(self) -> impl Future<Output = Result<()>> + Send {
        let running = self.build().map(Worker::run_until_signal);
        async move { running?.await }
    }
}
