//! The signals that stop a program: SIGTERM and SIGINT; Ctrl-C where there are no such signals.

use celeriac_core::{Error, Result};

/// Begins to listen, and tells of the first signal. Where no tokio runtime runs yet, it begins when it is polled.
pub(crate) fn stopped() -> impl Future<Output = Result<()>> + Send {
    let early = tokio::runtime::Handle::try_current().is_ok().then(listen);
    async move {
        let failed = |error| Error::unexpected("run beat", "signals cannot be listened to").with_source(error);
        early.unwrap_or_else(listen).map_err(failed)?.await.map_err(failed)
    }
}

#[cfg(unix)]
fn listen() -> std::io::Result<impl Future<Output = std::io::Result<()>> + Send> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        // CANCEL SAFETY: receiving a signal is cancel safe.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

#[cfg(not(unix))]
fn listen() -> std::io::Result<impl Future<Output = std::io::Result<()>> + Send> {
    Ok(tokio::signal::ctrl_c())
}
