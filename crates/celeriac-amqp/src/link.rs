//! A connection, shared by all who use it, made anew whenever it is lost.
//!
//! Nothing but a caller's need makes a connection: a task dials, on the runtime of the caller who found that there is none, and goes on for as
//! long as somebody waits for it. All who need a connection meanwhile wait for the same one.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_core::{Error, Result};
use futures_util::{Stream, StreamExt as _};
use lapin::protocol::AMQPErrorKind;
use lapin::{Channel, Connection, Event};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::endpoint::Endpoint;
use crate::error::{Fault, again, closed, fault};

/// How long the server may take to answer that a connection is closed.
const FAREWELL: Duration = Duration::from_secs(5);

/// A connection that is made on first use, and again when it was lost. Cheap to clone; all clones share it.
#[derive(Clone)]
pub(crate) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: Arc<Endpoint>,
    /// What it is for: shown in the server's own tools.
    purpose: &'static str,
    closed: CancellationToken,
    made: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<Live>,
    /// How the dialling goes, while somebody dials.
    dial: Option<watch::Receiver<Progress>>,
}

/// A connection, until it is lost.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) connection: Arc<Connection>,
    /// Cancelled once the connection is lost: its channels are gone, and what was unsettled on them is others'.
    pub(crate) lost: CancellationToken,
    /// Counts the connections of this link.
    pub(crate) number: u64,
    /// Why the server takes no messages for now, if so.
    blocked: watch::Receiver<Option<String>>,
    /// Some of the numbers that its channels may have are spent.
    spent: Arc<AtomicBool>,
}

impl Live {
    /// A new channel.
    ///
    /// The driver never again opens a channel of the number of one that the server closed: it answers what that one was closed for. Such a
    /// number is passed over. When there are no others left, the connection is given up, to be made anew.
    ///
    /// # Errors
    /// As a fault of the driver tells, see [`fault`]; never [`Fault::Closed`].
    pub(crate) async fn channel(&self, operation: &'static str) -> Result<Channel, Fault> {
        for _ in 0..=self.connection.configuration().channel_max() {
            // CANCEL SAFETY: a channel that nobody waits for any more is closed.
            let error = tokio::select! {
                biased;
                opened = self.connection.create_channel() => match opened {
                    Ok(channel) => return Ok(channel),
                    Err(error) => error,
                },
                () = self.lost.cancelled() => return Err(lost(operation)),
            };
            if is_of_a_channel(&error) {
                // ORDERING: it only ever becomes true, and nothing else hangs on it.
                self.spent.store(true, Ordering::Relaxed);
            } else if matches!(error.kind(), lapin::ErrorKind::ChannelsLimitReached)
                && self.spent.load(Ordering::Relaxed)
            {
                break;
            } else {
                return Err(fault(operation, &error));
            }
        }
        self.give_up();
        Err(lost(operation))
    }

    /// Ends the connection.
    fn give_up(&self) {
        if !self.lost.is_cancelled() {
            tracing::debug!("a connection to RabbitMQ has no channels left; it is made anew");
            self.lost.cancel();
            let live = self.clone();
            tokio::spawn(async move { live.farewell().await });
        }
    }

    /// Closes the connection; whoever waits for something on it learns that it is lost.
    async fn farewell(&self) {
        // CANCEL SAFETY: what was asked goes out all the same.
        let _ = timeout(FAREWELL, async {
            tokio::select! {
                biased;
                // The server may be gone already; and if it goes just now, the driver may leave the question open.
                _ = self.connection.close(200, "closed".into()) => {}
                // The driver sends nothing meanwhile.
                () = self.until_blocked() => {}
            }
        })
        .await;
        self.lost.cancel();
    }

    /// What the driver answers on this connection. When that is lost, the driver may leave open what it was asked.
    ///
    /// # Errors
    /// As a fault of the driver tells, see [`fault`].
    pub(crate) async fn answered<T>(
        &self,
        operation: &'static str,
        asked: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, Fault> {
        // CANCEL SAFETY: what nobody waits for any more is gone with the connection.
        tokio::select! {
            biased;
            answer = asked => answer.map_err(|error| fault(operation, &error)),
            () = self.lost.cancelled() => Err(lost(operation)),
        }
    }

    /// Why the server reads nothing from this connection for now: it is short of memory or disk, and the connection has published.
    pub(crate) fn blocked(&self) -> Option<String> {
        self.blocked.borrow().clone()
    }

    /// Waits until the server does not read from this connection; for ever, if it is lost before.
    pub(crate) async fn until_blocked(&self) {
        if self.blocked.clone().wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the server reads from this connection, or the connection is lost.
    pub(crate) async fn until_unblocked(&self) {
        let mut blocked = self.blocked.clone();
        // CANCEL SAFETY: both only wait.
        tokio::select! {
            _ = blocked.wait_for(Option::is_none) => {}
            () = self.lost.cancelled() => {}
        }
    }
}

/// What was asked may or may not have been done.
pub(crate) fn lost(operation: &'static str) -> Fault {
    Fault::Broken(Error::unavailable(operation, "the connection to RabbitMQ was lost"))
}

#[derive(Clone)]
enum Progress {
    /// Not yet; and the reason of the last failure.
    Trying(Option<Arc<Error>>),
    Up(Live),
    /// It would fail in the same way again.
    Refused(Arc<Error>),
}

impl Link {
    pub(crate) fn new(endpoint: Arc<Endpoint>, purpose: &'static str) -> Self {
        let shared = Shared {
            endpoint,
            purpose,
            closed: CancellationToken::new(),
            made: AtomicU64::new(0),
            state: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Waits until there is a connection, for as long as `startup_timeout` says but for one attempt at least. For opening a store.
    ///
    /// # Errors
    /// What is wrong with the configuration, at once; or the last reason why no server could be reached.
    pub(crate) async fn connected(&self, operation: &'static str) -> Result<()> {
        let mut dial = match self.shared.present(operation)? {
            Present::Live(_) => return Ok(()),
            Present::Dial(dial) => dial,
        };
        let waited = async {
            let ended = dial.wait_for(|progress| !matches!(progress, Progress::Trying(_)));
            if tokio::time::timeout(self.shared.endpoint.config().startup_timeout, ended).await.is_err() {
                let _ = dial.wait_for(|progress| !matches!(progress, Progress::Trying(None))).await;
            }
            dial.borrow().clone()
        };
        // CANCEL SAFETY: both only wait.
        let progress = tokio::select! {
            () = self.shared.closed.cancelled() => return Err(closed(operation)),
            progress = waited => progress,
        };
        match progress {
            Progress::Up(_) => Ok(()),
            Progress::Refused(error) => Err(again(&error, operation)),
            Progress::Trying(_) if self.shared.closed.is_cancelled() => Err(closed(operation)),
            Progress::Trying(Some(error)) => {
                let why = format!("{}, though it was tried for as long as `startup_timeout` says", error.message());
                let source = std::error::Error::source(&*error).map(ToString::to_string);
                let error = Error::new(error.kind(), operation, why);
                Err(if let Some(source) = source { error.with_source(source) } else { error })
            }
            Progress::Trying(None) => Err(Error::unavailable(operation, "RabbitMQ could not be reached")),
        }
    }

    /// A connection to use now: the present one, or the next, however long that takes.
    ///
    /// # Errors
    /// `Unavailable` once the link is closed; else what would fail in the same way again, such as a password.
    ///
    /// # Cancel safety
    /// Others are not disturbed.
    pub(crate) async fn live(&self, operation: &'static str) -> Result<Live> {
        loop {
            let mut dial = match self.shared.present(operation)? {
                Present::Live(live) => return Ok(live),
                Present::Dial(dial) => dial,
            };
            // CANCEL SAFETY: both only wait.
            let ended = tokio::select! {
                () = self.shared.closed.cancelled() => return Err(closed(operation)),
                ended = dial.wait_for(|progress| !matches!(progress, Progress::Trying(_))) => ended.map(|progress| progress.clone()),
            };
            match ended {
                Ok(Progress::Up(live)) => return Ok(live),
                Ok(Progress::Refused(error)) => return Err(again(&error, operation)),
                // It ended with its runtime; this one's takes over.
                Ok(Progress::Trying(_)) | Err(_) => {}
            }
        }
    }

    /// The error of a call that took too long: `what`, and why, if the reason is to be seen.
    pub(crate) fn late(&self, operation: &'static str, what: &str) -> Error {
        let Some(trouble) = self.trouble(operation) else { return Error::unavailable(operation, what.to_owned()) };
        let why = format!("{what}: {}", trouble.message());
        let late = Error::unavailable(operation, why);
        match std::error::Error::source(&trouble) {
            Some(source) => late.with_source(source.to_string()),
            None => late,
        }
    }

    /// Why calls take long, if the reason is to be seen.
    pub(crate) fn trouble(&self, operation: &'static str) -> Option<Error> {
        let state = self.shared.lock();
        if let Some(reason) = state.live.as_ref().and_then(Live::blocked) {
            let why = format!("RabbitMQ takes no messages for now (`connection.blocked`), because it is {reason}");
            return Some(Error::unavailable(operation, why));
        }
        let failed = state.dial.as_ref().and_then(|dial| match &*dial.borrow() {
            Progress::Trying(Some(error)) => Some(error.report()),
            _ => None,
        });
        failed.map(|error| Error::unavailable(operation, "there is no connection").with_source(error))
    }

    /// Every later call fails, and every one that waits. Closes the connection.
    pub(crate) async fn close(&self) {
        self.shared.closed.cancel();
        let live = self.shared.lock().live.take();
        if let Some(live) = live {
            live.farewell().await;
        }
    }

    /// Waits until the link is closed.
    pub(crate) async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }
}

enum Present {
    Live(Live),
    Dial(watch::Receiver<Progress>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(self: &Arc<Self>, operation: &'static str) -> Result<Present> {
        let mut state = self.lock();
        if self.closed.is_cancelled() {
            return Err(closed(operation));
        }
        match &state.live {
            Some(live) if !live.lost.is_cancelled() && live.connection.status().connected() => {
                return Ok(Present::Live(live.clone()));
            }
            _ => state.live = None,
        }
        if let Some(dial) = &state.dial {
            return Ok(Present::Dial(dial.clone()));
        }
        let (progress, dial) = watch::channel(Progress::Trying(None));
        state.dial = Some(dial.clone());
        // A runtime that is going down drops it at once, and that takes the lock.
        drop(state);
        tokio::spawn(Dialling { shared: Arc::clone(self), progress }.run());
        Ok(Present::Dial(dial))
    }

    /// Takes in a connection that has come up. `None` if this was closed meanwhile; so is the connection then.
    fn up(&self, connection: Connection) -> Option<Live> {
        // ORDERING: only that no number comes twice matters.
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let (blocking, blocked) = watch::channel(None);
        let lost = CancellationToken::new();
        // From now on no event is missed.
        tokio::spawn(notice(connection.events_listener(), lost.clone(), blocking));
        let live = Live { connection: Arc::new(connection), lost, number, blocked, spent: Arc::default() };
        let mut state = self.lock();
        if self.closed.is_cancelled() {
            drop(state);
            tokio::spawn(async move { live.farewell().await });
            return None;
        }
        state.live = Some(live.clone());
        Some(live)
    }
}

/// Makes a connection, for as long as somebody waits for it.
struct Dialling {
    shared: Arc<Shared>,
    progress: watch::Sender<Progress>,
}

impl Dialling {
    async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            // CANCEL SAFETY: a connection half made is dropped whole.
            let connected = tokio::select! {
                () = self.shared.closed.cancelled() => return,
                connected = self.shared.endpoint.connect("connect", self.shared.purpose) => connected,
            };
            let error = match connected {
                Ok(connection) => {
                    if let Some(live) = self.shared.up(connection) {
                        self.end(Progress::Up(live));
                    }
                    return;
                }
                Err(error) if !error.is_retryable() => return self.end(Progress::Refused(Arc::new(error))),
                Err(error) => error,
            };
            tracing::debug!(error = %error.report(), "RabbitMQ cannot be reached");
            self.progress.send_replace(Progress::Trying(Some(Arc::new(error))));
            if self.abandoned() {
                return;
            }
            // CANCEL SAFETY: both only wait.
            tokio::select! {
                () = self.shared.closed.cancelled() => return,
                () = backoff.wait() => {}
            }
        }
    }

    /// Tells those who wait, once nobody can begin to wait any more.
    fn end(&self, outcome: Progress) {
        self.shared.lock().dial = None;
        self.progress.send_replace(outcome);
    }

    /// Ends the dialling if nobody waits for it: the one receiver is that of the state.
    fn abandoned(&self) -> bool {
        let mut state = self.shared.lock();
        let abandoned = self.progress.receiver_count() <= 1;
        if abandoned {
            state.dial = None;
        }
        abandoned
    }
}

impl Drop for Dialling {
    /// Also when the runtime goes down: somebody else has to dial then.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.dial.as_ref().is_some_and(|dial| dial.same_channel(&self.progress.subscribe())) {
            state.dial = None;
        }
    }
}

fn is_of_a_channel(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(said) if matches!(said.kind(), AMQPErrorKind::Soft(_)))
}

/// Waits until the connection is lost or closed, and tells; and meanwhile when the server does not read from it.
async fn notice(
    events: impl Stream<Item = Event> + Send,
    lost: CancellationToken,
    blocking: watch::Sender<Option<String>>,
) {
    let mut events = pin!(events);
    let _told = lost.drop_guard();
    while let Some(event) = events.next().await {
        match event {
            // The driver tells also of channels that the server closed. Those end alone.
            Event::Error(error) if is_of_a_channel(&error) => {}
            Event::Error(error) => {
                tracing::debug!(%error, "a connection to RabbitMQ is lost");
                return;
            }
            Event::ConnectionBlocked(reason) => {
                tracing::warn!(reason, "RabbitMQ takes no messages for now");
                blocking.send_replace(Some(reason));
            }
            Event::ConnectionUnblocked => {
                tracing::info!("RabbitMQ takes messages again");
                blocking.send_replace(None);
            }
            _ => {}
        }
    }
}

#[cfg(all(test, unix))]
mod tests;
