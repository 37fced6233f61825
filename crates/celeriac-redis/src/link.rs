//! The command connection: one, shared by all callers, made anew whenever it is lost.
//!
//! Nothing but a caller's need makes a connection: a task dials, on the runtime of the caller who found that there is none, and
//! goes on for as long as somebody waits for it. All who need a connection meanwhile wait for the same one. A caller who gives up
//! disturbs neither the dialling nor the others.
//!
//! The driver's half of a connection lives on the runtime where the connection was made. When that runtime ends, the connection is
//! lost like any other, and the next caller's runtime takes over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use celeriac_core::{Error, Result};
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Cmd, Pipeline, PushInfo, PushKind, RedisResult, ServerError, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::endpoint::{Endpoint, Purpose};
use crate::error::{Fault, again, answer, closed, fault, reworded};
use crate::script;

/// So often a command is taken to another server because the one before was a replica.
const MOST_REPLICAS: u32 = 2;

/// A shared connection for commands that do not block. Cheap to clone; all clones share it.
#[derive(Clone)]
pub(crate) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: Arc<Endpoint>,
    closed: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<Live>,
    /// How the dialling goes, while somebody dials.
    dial: Option<watch::Receiver<Progress>>,
}

/// A connection, until it is lost. Once lost it is not used again by those who have not begun.
#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    lost: Arc<AtomicBool>,
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
    /// Connects on first use, on the runtime of the caller.
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { shared: Arc::new(Shared { endpoint, closed: CancellationToken::new(), state: Mutex::default() }) }
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
                Err(reworded(&error, error.kind(), operation, why))
            }
            Progress::Trying(None) => Err(Error::unavailable(operation, "Redis could not be reached")),
        }
    }

    /// One attempt on the present connection, which is made first if there is none, however long that takes.
    ///
    /// # Cancel safety
    /// Others are not disturbed. Whether the command was carried out is not known.
    pub(crate) async fn attempt(&self, operation: &'static str, command: &Cmd) -> Result<Value, Fault> {
        let live = self.live(operation).await.map_err(Fault::Refused)?;
        let mut value = self.send(operation, &live, command).await?;
        if forgotten(&value) {
            self.load(operation, &live).await?;
            value = self.send(operation, &live, command).await?;
        }
        match value {
            Value::ServerError(error) => Err(self.judge(operation, &live, &error, Some(command))),
            value => Ok(value),
        }
    }

    /// As [`Link::attempt`], for several commands at once, whose answers it gives: each by itself, what must be one step is a script.
    ///
    /// When any command fails, that is the outcome, whatever became of the others: [`Fault::Broken`], if that is not known of all
    /// of them.
    pub(crate) async fn attempt_pipeline(
        &self,
        operation: &'static str,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, Fault> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let live = self.live(operation).await.map_err(Fault::Refused)?;
        let values = self.send_all(operation, &live, pipeline).await?;
        let Some((at, error)) = first_error(&values) else { return Ok(values) };
        let done = values.iter().any(|value| !matches!(value, Value::ServerError(_)));
        Err(match self.judge(operation, &live, error, pipeline.cmd_iter().nth(at)) {
            Fault::Busy(error) | Fault::NotSent(error) if done => Fault::Broken(error),
            fault => fault,
        })
    }

    /// Again and again until the server has answered: for what may be repeated without harm.
    ///
    /// # Cancel safety
    /// As [`Link::attempt`].
    pub(crate) async fn query(&self, operation: &'static str, command: &Cmd) -> Result<Value> {
        let mut retry = Retry::default();
        loop {
            match self.attempt(operation, command).await {
                Ok(value) => return Ok(value),
                Err(fault) => retry.wait(self, operation, fault).await?,
            }
        }
    }

    /// As [`Link::query`], for what must not be done twice: `command` makes the command anew for each attempt, and is told whether one before
    /// may have been carried out.
    ///
    /// # Cancel safety
    /// As [`Link::attempt`].
    pub(crate) async fn once(&self, operation: &'static str, command: impl Fn(bool) -> Cmd) -> Result<Value> {
        let (mut retry, mut again) = (Retry::default(), false);
        loop {
            match self.attempt(operation, &command(again)).await {
                Ok(value) => return Ok(value),
                Err(fault) => {
                    again |= matches!(fault, Fault::Broken(_));
                    retry.wait(self, operation, fault).await?;
                }
            }
        }
    }

    /// As [`Link::query`], for several commands at once: see [`Link::attempt_pipeline`].
    pub(crate) async fn pipeline(&self, operation: &'static str, pipeline: &Pipeline) -> Result<Vec<Value>> {
        let mut retry = Retry::default();
        loop {
            match self.attempt_pipeline(operation, pipeline).await {
                Ok(values) => return Ok(values),
                Err(fault) => retry.wait(self, operation, fault).await?,
            }
        }
    }

    /// Every later call fails, and every one that waits.
    pub(crate) fn close(&self) {
        self.shared.closed.cancel();
        self.shared.lock().live = None;
    }

    /// A connection to use now: the present one, or the next.
    async fn live(&self, operation: &'static str) -> Result<Live> {
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

    async fn send(&self, operation: &'static str, live: &Live, command: &Cmd) -> Result<Value, Fault> {
        let mut connection = live.connection.clone();
        self.answered(operation, live, connection.send_packed_command(command), Some(command)).await
    }

    async fn send_all(&self, operation: &'static str, live: &Live, pipeline: &Pipeline) -> Result<Vec<Value>, Fault> {
        let mut connection = live.connection.clone();
        let sent = connection.send_packed_commands(pipeline, 0, pipeline.len());
        let mut values = self.answered(operation, live, sent, None).await?;
        let mut missing = Pipeline::new();
        let forgotten: Vec<_> = (0..values.len()).filter(|at| forgotten(&values[*at])).collect();
        if forgotten.is_empty() {
            return Ok(values);
        }
        for (at, command) in pipeline.cmd_iter().enumerate() {
            if forgotten.binary_search(&at).is_ok() {
                missing.add_command(command.clone());
            }
        }
        self.load(operation, live).await?;
        let sent = connection.send_packed_commands(&missing, 0, missing.len());
        let again = self.answered(operation, live, sent, None).await?;
        for (at, value) in forgotten.into_iter().zip(again) {
            values[at] = value;
        }
        Ok(values)
    }

    /// Gives the server every script.
    async fn load(&self, operation: &'static str, live: &Live) -> Result<(), Fault> {
        for script in script::ALL {
            let command = script.load();
            if let Value::ServerError(error) = self.send(operation, live, &command).await? {
                return Err(self.judge(operation, live, &error, Some(&command)));
            }
        }
        Ok(())
    }

    async fn answered<T>(
        &self,
        operation: &'static str,
        live: &Live,
        sent: impl Future<Output = RedisResult<T>>,
        command: Option<&Cmd>,
    ) -> Result<T, Fault> {
        // CANCEL SAFETY: the driver drops the answer to a request that nobody waits for.
        let answered = tokio::select! {
            biased;
            () = self.shared.closed.cancelled() => return Err(Fault::Refused(closed(operation))),
            answered = sent => answered,
        };
        answered.map_err(|error| self.given_up(live, fault(operation, &error, command)))
    }

    fn judge(&self, operation: &'static str, live: &Live, error: &ServerError, command: Option<&Cmd>) -> Fault {
        self.given_up(live, answer(operation, error.code(), error.details().unwrap_or_default(), command))
    }

    /// Gives the connection up, where `fault` says so.
    fn given_up(&self, live: &Live, fault: Fault) -> Fault {
        if let Fault::Broken(error) | Fault::NotSent(error) = &fault
            && !live.lost.swap(true, Ordering::Relaxed)
        {
            tracing::debug!(error = %error.report(), "a connection to Redis is given up");
        }
        fault
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
        // ORDERING: one who reads too early meets the loss on the connection itself.
        match &state.live {
            Some(live) if !live.lost.load(Ordering::Relaxed) => return Ok(Present::Live(live.clone())),
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
    fn up(&self, live: Live) -> Option<Live> {
        let mut state = self.lock();
        if self.closed.is_cancelled() {
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
            let (purpose, lost) = noticing_loss();
            // CANCEL SAFETY: a connection half made is dropped whole.
            let connected = tokio::select! {
                () = self.shared.closed.cancelled() => return,
                connected = self.shared.endpoint.connect("connect", &purpose) => connected,
            };
            let error = match connected {
                Ok(connection) => {
                    if let Some(live) = self.shared.up(Live { connection, lost }) {
                        self.end(Progress::Up(live));
                    }
                    return;
                }
                Err(error) if !error.is_retryable() => return self.end(Progress::Refused(Arc::new(error))),
                Err(error) => error,
            };
            tracing::debug!(error = %error.report(), "Redis cannot be reached");
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

/// In RESP3 the driver says at once that a connection is lost, and a caller who has not begun does not have to find out.
fn noticing_loss() -> (Purpose, Arc<AtomicBool>) {
    let lost = Arc::new(AtomicBool::new(false));
    let noticed = Arc::clone(&lost);
    let pushes = move |push: PushInfo| {
        if push.kind == PushKind::Disconnection {
            noticed.store(true, Ordering::Relaxed);
        }
    };
    (Purpose { pushes: Some(Arc::new(pushes)), ..Purpose::default() }, lost)
}

/// When to try again.
#[derive(Default)]
struct Retry {
    backoff: Backoff,
    replicas: u32,
}

impl Retry {
    /// Waits for the next attempt, if there is to be one after `fault`.
    async fn wait(&mut self, link: &Link, operation: &'static str, fault: Fault) -> Result<()> {
        match fault {
            Fault::Refused(error) => return Err(error),
            Fault::NotSent(error) if self.replicas == MOST_REPLICAS => return Err(error),
            Fault::NotSent(_) => self.replicas += 1,
            Fault::Broken(_) | Fault::Busy(_) => {}
        }
        // CANCEL SAFETY: both only wait.
        tokio::select! {
            () = link.shared.closed.cancelled() => Err(closed(operation)),
            () = self.backoff.wait() => Ok(()),
        }
    }
}

fn first_error(values: &[Value]) -> Option<(usize, &ServerError)> {
    values.iter().enumerate().find_map(|(at, value)| match value {
        Value::ServerError(error) => Some((at, error)),
        _ => None,
    })
}

fn forgotten(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

#[cfg(all(test, unix))]
mod tests;
