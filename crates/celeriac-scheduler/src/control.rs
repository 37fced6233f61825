//! How a scheduler is told to stop, or to look at its clock.

use std::time::Duration;

use tokio::sync::watch;

/// Tells a scheduler to stop, or to look at its clock. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SchedulerHandle {
    stop: watch::Sender<bool>,
    wake: watch::Sender<()>,
}

impl Default for SchedulerHandle {
    fn default() -> Self {
        Self::new()
    }
}

impl SchedulerHandle {
    /// A handle for one scheduler.
    #[must_use]
    pub fn new() -> Self {
        Self { stop: watch::Sender::new(false), wake: watch::Sender::new(()) }
    }

    /// Stops the scheduler: what it has begun to send is sent and written down, and another may lead at once.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Makes the scheduler look at its clock again, after the time jumped. Only needed with a clock that is not the machine's.
    pub fn wake(&self) {
        self.wake.send_replace(());
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    pub(crate) async fn stopped(&self) {
        // The sender is in `self`: this cannot fail.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// What is woken by every [`SchedulerHandle::wake`] from now on.
    pub(crate) fn wakes(&self) -> watch::Receiver<()> {
        self.wake.subscribe()
    }
}

/// Pauses that grow, from a tenth of a second to five.
pub(crate) fn pause(failures: u32) -> Duration {
    (Duration::from_millis(100) * 2_u32.saturating_pow(failures.min(16))).min(Duration::from_secs(5))
}
