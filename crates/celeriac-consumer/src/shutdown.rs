//! How a worker is told to stop.

use tokio_util::sync::CancellationToken;

/// Tells a worker to stop. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ShutdownHandle {
    /// Fetch no more, hand back what has not started, finish what runs.
    pub(crate) warm: CancellationToken,
    /// Do not wait for what runs either.
    pub(crate) cold: CancellationToken,
}

impl ShutdownHandle {
    /// Stops the worker warm: what runs is finished, what does not is handed back. Called again, it stops it cold, as a second signal does.
    pub fn shutdown(&self) {
        if self.warm.is_cancelled() {
            self.cold.cancel();
        }
        self.warm.cancel();
    }

    /// Stops the worker warm, unless it stops already.
    pub fn request(&self) {
        self.warm.cancel();
    }

    /// Waits until it is told to stop.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn requested(&self) {
        self.warm.cancelled().await;
    }

    /// Waits until it is told to stop cold.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn requested_cold(&self) {
        self.cold.cancelled().await;
    }

    /// Stops the worker cold: async tasks that run are dropped, blocking ones are told ([`TaskContext::is_cancelled`]) and left behind, and all
    /// their messages are handed back.
    ///
    /// [`TaskContext::is_cancelled`]: crate::TaskContext::is_cancelled
    pub fn shutdown_cold(&self) {
        self.cold.cancel();
        self.warm.cancel();
    }
}

/// Waits for the next signal to stop: SIGTERM or SIGINT; Ctrl-C where there are no such signals.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Listens from now on, so that no signal is missed between two waits.
    pub(crate) fn listen() -> std::io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// As [`Signals::listen`], or `None` where there is no tokio runtime to listen on yet.
    pub(crate) fn listen_early() -> Option<std::io::Result<Self>> {
        tokio::runtime::Handle::try_current().is_ok().then(Self::listen)
    }

    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        // CANCEL SAFETY: receiving a signal is cancel safe.
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
