//! The worker of an app: sets it up, and runs it, with a beat beside it if so wished.

use std::borrow::Cow;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use celeriac_consumer::{Prefetch, ShutdownHandle, WorkerConfig};
use celeriac_core::{Error, QueueName, Result};

use crate::app::App;
#[cfg(feature = "beat")]
use crate::beat::Beat;

/// Sets up a worker. What is not set is as the app was configured.
#[derive(Debug)]
#[must_use]
pub struct WorkerSetup {
    app: App,
    config: WorkerConfig,
    #[cfg(feature = "beat")]
    beat: bool,
    error: Option<Error>,
}

impl WorkerSetup {
    pub(crate) fn new(app: App) -> Self {
        let config = app.inner.worker.clone();
        Self {
            app,
            config,
            #[cfg(feature = "beat")]
            beat: false,
            error: None,
        }
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

    /// Runs a [beat](App::beat) beside the worker. Any number of workers may: one of their beats leads.
    ///
    /// It stops as soon as the worker is told to, while that finishes what runs, and has handed on the lead when the worker ends. A store or a broker
    /// that is away ends nothing. What waiting cannot cure, such as an entry that another app declares too, ends the worker, warm, with that error: a
    /// fleet that works on but sends nothing when it is due would be noticed too late.
    #[cfg(feature = "beat")]
    pub fn with_beat(mut self) -> Self {
        self.beat = true;
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
        let worker = celeriac_consumer::Worker::builder(inner.producer.clone(), inner.tasks.clone())
            .clock(Arc::clone(&inner.clock))
            .config(self.config)
            .extensions(inner.extensions.clone())
            .build()?;
        Ok(Worker {
            worker,
            #[cfg(feature = "beat")]
            beat: self.beat.then(|| self.app.beat().build()).transpose()?,
        })
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

/// The worker of an app, ready to run: a [`celeriac_consumer::Worker`], and the beat beside it if it has one.
#[derive(Debug)]
pub struct Worker {
    worker: celeriac_consumer::Worker,
    #[cfg(feature = "beat")]
    beat: Option<Beat>,
}

impl Worker {
    /// A handle to stop it by.
    #[must_use]
    pub fn handle(&self) -> ShutdownHandle {
        self.worker.handle()
    }

    /// Tells when it has begun to consume: see [`celeriac_consumer::Worker::started`].
    #[must_use = "a future does nothing unless it is awaited"]
    pub fn started(&self) -> impl Future<Output = bool> + Send + use<> {
        self.worker.started()
    }

    /// Runs until SIGTERM or SIGINT, or until its handle stops it: see [`celeriac_consumer::Worker::run_until_signal`].
    ///
    /// # Errors
    /// As [`celeriac_consumer::Worker::run_until_signal`]; what ends its beat.
    #[must_use = "a future does nothing unless it is awaited"]
    pub fn run_until_signal(self) -> impl Future<Output = Result<()>> + Send {
        #[cfg(feature = "beat")]
        {
            beside(self.beat, self.worker.handle(), self.worker.run_until_signal())
        }
        #[cfg(not(feature = "beat"))]
        self.worker.run_until_signal()
    }

    /// Runs until its handle stops it: see [`celeriac_consumer::Worker::run`].
    ///
    /// # Errors
    /// As [`Worker::run_until_signal`].
    ///
    /// # Cancel safety
    /// As [`celeriac_consumer::Worker::run`].
    pub async fn run(self) -> Result<()> {
        #[cfg(feature = "beat")]
        {
            beside(self.beat, self.worker.handle(), self.worker.run()).await
        }
        #[cfg(not(feature = "beat"))]
        self.worker.run().await
    }
}

/// How long a beat may take to hand on the lead once its worker has ended. One that cannot leads until its lease ends.
#[cfg(feature = "beat")]
const HAND_ON: Duration = Duration::from_secs(5);

/// Runs the worker with the beat beside it: whichever ends, or is told to, stops the other.
#[cfg(feature = "beat")]
async fn beside(
    beat: Option<Beat>,
    stop: ShutdownHandle,
    working: impl Future<Output = Result<()>> + Send,
) -> Result<()> {
    let Some(beat) = beat else { return working.await };
    let stop_beat = beat.handle();
    // In a task of its own, so that neither waits for the other's turn; in a set, so that it ends with this future.
    let mut beating = tokio::task::JoinSet::new();
    beating.spawn(beat.run());
    let mut working = std::pin::pin!(working);
    let (mut worked, mut beaten) = (None, None);
    // CANCEL SAFETY: the worker runs on below; joining is cancel safe, and waiting for the shutdown too.
    tokio::select! {
        biased;
        outcome = &mut working => worked = Some(outcome),
        // It ends by itself only if it failed.
        outcome = beating.join_next() => beaten = outcome,
        () = stop.requested() => {}
    }
    stop_beat.stop();
    stop.request();
    let worked = match worked {
        Some(worked) => worked,
        // CANCEL SAFETY: as above. The worker comes first: as it ends it cancels what a cold shutdown would.
        None => tokio::select! {
            biased;
            worked = &mut working => worked,
            () = stop.requested_cold() => {
                // Nothing is lost: another leads when the lease has ended.
                beating.abort_all();
                working.await
            }
        },
    };
    if beaten.is_none() {
        beaten = tokio::time::timeout(HAND_ON, beating.join_next()).await.ok().flatten();
    }
    worked.and(match beaten {
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) if !error.is_cancelled() => {
            Err(Error::unexpected("run beat", "the beat broke down").with_source(error))
        }
        Some(Err(_)) | None => Ok(()),
    })
}
