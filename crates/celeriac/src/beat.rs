//! The beat of an app: it sends what is due, if no other does.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use celeriac_core::Result;
use celeriac_scheduler::{Scheduler, SchedulerHandle};

use crate::app::App;
use crate::dispatch::ToBroker;
use crate::signals;

/// Sets up a beat.
#[derive(Debug)]
#[must_use]
pub struct BeatSetup {
    app: App,
    lease: Option<Duration>,
}

impl BeatSetup {
    pub(crate) fn new(app: App) -> Self {
        Self { app, lease: None }
    }

    /// Sets how long a beat that leads and dies is waited for before another leads, 300 ms at least. Default: 10 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Makes the beat, to be run by hand.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a lease that is too short, and if the app has no store of schedules.
    pub fn build(self) -> Result<Beat> {
        let inner = &self.app.inner;
        let store = Arc::clone(self.app.schedule_store()?);
        let mut scheduler = Scheduler::builder(store, Arc::new(ToBroker::new(inner.producer.clone())))
            .clock(Arc::clone(&inner.clock))
            .name(&format!("{}@{}", inner.name, celeriac_producer::hostname()))
            .declaring(inner.name.clone(), inner.entries.clone());
        if let Some(lease) = self.lease {
            scheduler = scheduler.lease(lease);
        }
        Ok(Beat { scheduler: scheduler.build()? })
    }

    /// Runs the beat until SIGTERM or SIGINT, which are listened to from this call on: see [`Beat::run_until_signal`].
    ///
    /// # Errors
    /// As [`BeatSetup::build`] and [`Beat::run`].
    #[must_use = "a future does nothing unless it is awaited"]
    pub fn run(self) -> impl Future<Output = Result<()>> + Send {
        let running = self.build().map(Beat::run_until_signal);
        async move { running?.await }
    }
}

/// The beat of an app, ready to run: it writes the entries that the app declares, and sends what is due, of these and of all others in the store.
///
/// Any number may run, in one process or on many machines: one leads. What is sent, when, and what happens when the leader dies:
/// [`Scheduler`].
#[derive(Debug)]
pub struct Beat {
    scheduler: Scheduler,
}

impl Beat {
    /// What it is stopped by.
    #[must_use]
    pub fn handle(&self) -> SchedulerHandle {
        self.scheduler.handle()
    }

    /// Runs until its handle stops it.
    ///
    /// # Errors
    /// As [`Scheduler::run`]: a store or a broker that is away ends nothing.
    ///
    /// # Cancel safety
    /// As [`Scheduler::run`].
    pub async fn run(self) -> Result<()> {
        self.scheduler.run().await
    }

    /// Runs until SIGTERM or SIGINT, or until its handle stops it. Signals are listened to from this call on, not only once the future is
    /// polled; when it is called outside of a tokio runtime, once it is polled.
    ///
    /// # Errors
    /// As [`Beat::run`].
    ///
    /// # Cancel safety
    /// As [`Beat::run`].
    #[must_use = "a future does nothing unless it is awaited"]
    pub fn run_until_signal(self) -> impl Future<Output = Result<()>> + Send {
        let signal = signals::stopped();
        let stop = self.handle();
        async move {
            let mut running = std::pin::pin!(self.run());
            // CANCEL SAFETY: the beat runs on below; a signal that came is done with.
            tokio::select! {
                outcome = &mut running => return outcome,
                signal = signal => signal?,
            }
            stop.stop();
            running.await
        }
    }
}
