//! The worker: fetches, hands to its slots, and stops in order.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use celeriac_broker::{ConsumeOptions, Consumer, Receipt, Requeue, Verb, settle_all};
use celeriac_core::{Clock, Error, Result, SystemClock};
use celeriac_producer::Producer;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::blocking::BlockingPool;
use crate::config::WorkerConfig;
use crate::context::{Environment, Extensions};
use crate::finish::{Done, Finisher};
use crate::jobs::{Job, Jobs, Work};
use crate::prefetch::Gauge;
use crate::process::{ROOM, Shared};
use crate::registry::Tasks;
use crate::shutdown::{ShutdownHandle, Signals};

/// What was fetched ahead and has not started after this long goes back, for other workers to take.
const HOARD: Duration = Duration::from_secs(1);
/// How long a cold shutdown waits for tasks that have ended to be settled.
const COLD: Duration = Duration::from_secs(1);
/// How many ended tasks may wait to be settled before slots wait for them.
const UNSETTLED: usize = 4_096;

/// Makes a [`Worker`].
#[derive(Debug)]
#[must_use]
pub struct WorkerBuilder {
    producer: Producer,
    tasks: Tasks,
    clock: Arc<dyn Clock>,
    config: WorkerConfig,
    extensions: Extensions,
}

impl WorkerBuilder {
    /// Sets where the time comes from. Default: the wall clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how it works.
    pub fn config(mut self, config: WorkerConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the state that tasks share.
    pub fn extensions(mut self, extensions: Extensions) -> Self {
        self.extensions = extensions;
        self
    }

    /// Makes the worker.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) if a task is registered twice, no queue is named, or the result serializer
    /// does not exist.
    pub fn build(self) -> Result<Worker> {
        let Self { producer, tasks, clock, config, extensions } = self;
        tasks.check()?;
        if config.queues.is_empty() {
            return Err(Error::config("build worker", "no queue is named; a worker needs at least one"));
        }
        let result_format = Arc::clone(config.serializers.by_name(&config.result_serializer)?);
        let backend = producer.backend().cloned();
        let shutdown = ShutdownHandle::default();
        let shared = Shared {
            blocking: BlockingPool::new(config.concurrency.get()),
            broker: Arc::clone(producer.broker()),
            environment: Environment {
                worker: config.name.as_str().into(),
                producer,
                extensions: Arc::new(extensions),
                serializers: config.serializers.clone(),
                result_format,
                updates: backend.is_some().then(Arc::default),
                cancelled: shutdown.cold.clone(),
            },
            jobs: Jobs::new(),
            shutdown,
            backend,
            clock,
            config,
            result_room: Arc::new(Semaphore::new(ROOM)),
            tasks,
            ended: AtomicU64::new(0),
            in_hand: AtomicUsize::new(0),
            started: Instant::now(),
            idle_since: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            room: Notify::new(),
            low_water: AtomicUsize::new(0),
        };
        Ok(Worker { shared: Arc::new(shared), started: watch::Sender::new(false) })
    }
}

/// A worker, ready to run.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    /// Whether it consumes; dropped when it has ended.
    started: watch::Sender<bool>,
}

impl Worker {
    /// A worker for `tasks`, with the broker and the result backend of `producer`; tasks that it runs send through that too.
    pub fn builder(producer: Producer, tasks: Tasks) -> WorkerBuilder {
        WorkerBuilder {
            producer,
            tasks,
            clock: Arc::new(SystemClock),
            config: WorkerConfig::default(),
            extensions: Extensions::default(),
        }
    }

    /// A handle to stop it by.
    #[must_use]
    pub fn handle(&self) -> ShutdownHandle {
        self.shared.shutdown.clone()
    }

    /// Tells when it has begun to consume: `true` then, `false` if it ended before. Ask for it before the worker is run.
    ///
    /// From then on it gets what is sent to its queues; what was sent earlier waits for it.
    ///
    /// # Examples
    /// ```
    /// # async fn run(worker: celeriac_consumer::Worker) {
    /// let started = worker.started();
    /// let running = tokio::spawn(worker.run_until_signal());
    /// if started.await {
    ///     println!("ready");
    /// }
    /// # let _ = running;
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// Cancel safe.
    #[must_use = "a future does nothing unless it is awaited"]
    pub fn started(&self) -> impl Future<Output = bool> + Send + use<> {
        let mut started = self.started.subscribe();
        async move { started.wait_for(|started| *started).await.is_ok() }
    }

    /// Runs until SIGTERM or SIGINT, or until its handle stops it. The first stops it warm, a second one cold: see [`ShutdownHandle`].
    ///
    /// Signals are listened to from this call on, not only once the future is polled; when it is called outside of a tokio runtime, once it
    /// is polled. A signal that comes earlier ends the process, as it does any.
    ///
    /// # Errors
    /// What [`Broker::consume`](celeriac_broker::Broker::consume) returns at the start. Once it works, it goes on through every error that
    /// waiting may cure.
    #[must_use = "a future does nothing unless it is awaited"]
    pub fn run_until_signal(self) -> impl Future<Output = Result<()>> + Send {
        let early = Signals::listen_early();
        async move {
            let signals = early.unwrap_or_else(Signals::listen);
            let mut signals = signals
                .map_err(|error| Error::unexpected("run worker", "signals cannot be listened to").with_source(error))?;
            let handle = self.handle();
            // Lives in a set, so that it ends with this future.
            let mut listening = JoinSet::new();
            listening.spawn(async move {
                loop {
                    signals.next().await;
                    handle.shutdown();
                }
            });
            self.run().await
        }
    }

    /// Runs until its handle stops it.
    ///
    /// # Errors
    /// As [`Worker::run_until_signal`].
    ///
    /// # Cancel safety
    /// Dropping the future is a cold shutdown without its order: what runs is dropped, and every message is handed back.
    pub async fn run(self) -> Result<()> {
        let Self { shared, started } = self;
        // CANCEL SAFETY: a consumer that is not wanted any more is dropped.
        let consumer = tokio::select! {
            biased;
            () = shared.shutdown.warm.cancelled() => return Ok(()),
            consumer = consume(&shared) => consumer?,
        };
        started.send_replace(true);
        tracing::info!(name = %shared.config.name, queues = ?shared.config.queues, concurrency = shared.config.concurrency, "worker started");

        let (sender, receiver) = mpsc::channel::<Done>(UNSETTLED);
        let store = shared.backend.as_ref().and_then(|backend| backend.store_id());
        let finisher = Finisher {
            atomic: store.is_some() && store == shared.broker.store_id(),
            backend: shared.backend.clone(),
            failure_format: Arc::clone(&shared.environment.result_format),
            cold: shared.shutdown.cold.clone(),
        };
        // Whatever ends this future, tasks that wait for their time go back, and blocking ones are told.
        let _told = (shared.shutdown.warm.clone().drop_guard(), shared.shutdown.cold.clone().drop_guard());
        // Everything else that is spawned lives in a set, so that it ends with this future.
        let mut finishing = JoinSet::new();
        finishing.spawn(finisher.run(receiver));
        let mut writing = JoinSet::new();
        if let (Some(updates), Some(backend)) = (&shared.environment.updates, &shared.backend) {
            writing.spawn(Arc::clone(updates).write(Arc::clone(backend)));
        }
        let mut slots = JoinSet::new();
        for _ in 0..shared.config.concurrency.get() {
            slots.spawn(Arc::clone(&shared).slot(sender.clone()));
        }
        drop(sender);

        // CANCEL SAFETY: fetching is cancel safe, and joining too.
        let (consumer, failed) = tokio::select! {
            consumer = fetch(&shared, consumer) => (Some(consumer), None),
            Some(ended) = slots.join_next() => (None, Some(ended)),
            Some(ended) = finishing.join_next() => (None, Some(ended)),
        };
        if let Some(ended) = &failed {
            tracing::error!(name = %shared.config.name, ?ended, "a loop of the worker broke down");
            shared.shutdown.shutdown_cold();
        }
        // From here on no slot takes anything up.
        let waiting = shared.jobs.close();
        tracing::info!(name = %shared.config.name, handed_back = waiting.len(), "worker stops: finishing what runs");
        stop(&shared, consumer, waiting, &mut slots, &mut finishing).await;
        writing.abort_all();
        tracing::info!(name = %shared.config.name, tasks = shared.ended.load(Ordering::Relaxed), "worker stopped");
        match failed {
            None => Ok(()),
            Some(_) => {
                Err(Error::unexpected("run worker", "a loop of the worker broke down; its messages are handed back"))
            }
        }
    }
}

async fn consume(shared: &Shared) -> Result<Box<dyn Consumer>> {
    let config = &shared.config;
    // A broker that pushes must not keep slots waiting, nor have more on the way than would be taken.
    let prefetch = config.concurrency.saturating_add(config.prefetch.most());
    let options = ConsumeOptions::new(config.queues.iter().cloned()).name(config.name.clone()).prefetch(prefetch);
    shared.broker.consume(options).await
}

/// Fetches as there is room, until the shutdown. A consumer that fails is replaced.
async fn fetch(shared: &Shared, mut consumer: Box<dyn Consumer>) -> Box<dyn Consumer> {
    let mut gauge = Gauge::new(shared.config.prefetch, Instant::now());
    let mut wait = Duration::from_millis(50);
    loop {
        // CANCEL SAFETY: `recv` is cancel safe by contract, the others by nature.
        let outcome = tokio::select! {
            biased;
            () = shared.shutdown.warm.cancelled() => break,
            outcome = fetch_once(shared, &mut gauge, consumer.as_mut()) => outcome,
        };
        let Err(error) = outcome else {
            wait = Duration::from_millis(50);
            continue;
        };
        tracing::warn!(error = %error.report(), ?wait, "cannot fetch; trying again");
        // CANCEL SAFETY: a consumer that is not wanted any more is dropped.
        tokio::select! {
            () = shared.shutdown.warm.cancelled() => break,
            fresh = async {
                tokio::time::sleep(wait).await;
                consume(shared).await
            } => match fresh {
                Ok(fresh) => consumer = fresh,
                Err(error) => tracing::warn!(error = %error.report(), "cannot consume"),
            },
        }
        wait = (wait * 2).min(Duration::from_secs(10));
    }
    consumer
}

async fn fetch_once(shared: &Shared, gauge: &mut Gauge, consumer: &mut dyn Consumer) -> Result<()> {
    let limit = room(shared, gauge).await;
    // CANCEL SAFETY: `recv` is cancel safe by contract.
    let deliveries = tokio::select! {
        deliveries = consumer.recv(limit) => deliveries?,
        () = hoarded(shared) => {
            hand_back_hoard(shared, gauge).await;
            // By the old limit they would all come back at once.
            return Ok(());
        }
    };
    let since = Instant::now();
    if let Some(idle) = shared.idle_since() {
        gauge.idled(idle, since);
    }
    shared.in_hand.fetch_add(deliveries.len(), Ordering::Relaxed);
    shared.jobs.push(deliveries.into_iter().map(|delivery| Job { work: Work::Fresh(delivery), since }));
    Ok(())
}

/// Waits until there is room for more tasks, and tells for how many.
async fn room(shared: &Shared, gauge: &mut Gauge) -> NonZeroUsize {
    loop {
        // Once there is nothing to do, the time does not count.
        let until = shared.idle_since().unwrap_or_else(Instant::now);
        let prefetch = gauge.prefetch(shared.ended.load(Ordering::Relaxed), until);
        let target = shared.config.concurrency.get().saturating_add(prefetch);
        shared.low_water.store(target - prefetch / 2 - 1, Ordering::SeqCst);
        let free = target.saturating_sub(shared.in_hand.load(Ordering::SeqCst));
        // Whatever is fetched may turn out to have a later ETA, and to be held here if the broker does not keep it.
        let holdable = match shared.broker.capabilities().delay {
            true => usize::MAX,
            false => shared.config.eta_limit.saturating_sub(shared.held.load(Ordering::Relaxed)),
        };
        // Half the prefetch at a time: large batches, and slots that never run dry meanwhile.
        if free > prefetch / 2
            && let Some(limit) = NonZeroUsize::new(free.min(holdable))
        {
            return limit;
        }
        // CANCEL SAFETY: both are cancel safe; a permit of `notified` that is lost here is made up for by the next look.
        tokio::select! {
            () = shared.room.notified() => {}
            () = hoarded(shared) => hand_back_hoard(shared, gauge).await,
        }
    }
}

/// Waits until something in hand has waited for too long.
async fn hoarded(shared: &Shared) {
    loop {
        match shared.jobs.oldest() {
            Some(since) => return tokio::time::sleep_until(since + HOARD).await,
            // Only a task that was held until now adds to the jobs behind the fetching loop's back.
            None => shared.jobs.due.notified().await,
        }
    }
}

async fn hand_back_hoard(shared: &Shared, gauge: &mut Gauge) {
    if let Some(limit) = Instant::now().checked_sub(HOARD) {
        let old = shared.jobs.take_older(limit);
        if !old.is_empty() {
            gauge.handed_back(shared.ended.load(Ordering::Relaxed));
            hand_back(shared, old).await;
        }
    }
}

/// Hands back what has not started: uncounted where the broker can park it, else requeued.
async fn hand_back(shared: &Shared, jobs: Vec<Job>) {
    if jobs.is_empty() {
        return;
    }
    let count = jobs.len();
    let verb =
        if shared.broker.capabilities().delay { Verb::Park(shared.clock.now()) } else { Verb::Reject(Requeue::Yes) };
    let batch: Vec<(Receipt, Verb)> = jobs.into_iter().map(|job| (job.work.into_receipt(), verb.clone())).collect();
    if let Err(unsettled) = settle_all(batch).await {
        // Dropping the receipts hands them back too, if only when the broker gets to it.
        tracing::warn!(error = %unsettled.error, left = unsettled.rest.len(), "tasks in hand could not be handed back at once");
    }
    shared.out_of_hand(count);
}

/// Hands back what waits and lets end what runs, until the shutdown turns cold.
async fn stop(
    shared: &Shared,
    consumer: Option<Box<dyn Consumer>>,
    waiting: Vec<Job>,
    slots: &mut JoinSet<()>,
    finishing: &mut JoinSet<()>,
) {
    let limit = async {
        match shared.config.shutdown_timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let orderly = async {
        hand_back(shared, waiting).await;
        if let Some(consumer) = consumer
            && let Err(error) = consumer.cancel().await
        {
            tracing::warn!(%error, "the consumer could not be cancelled");
        }
        join(slots).await;
        // The slots have dropped their senders: the finisher ends when all they sent is settled.
        join(finishing).await;
    };
    // CANCEL SAFETY: receipts that are dropped hand their messages back; joining is cancel safe.
    tokio::select! {
        () = orderly => return,
        () = shared.shutdown.cold.cancelled() => {}
        () = limit => {
            tracing::warn!("the time for a warm shutdown is over");
            shared.shutdown.shutdown_cold();
        }
    }
    tracing::warn!(name = %shared.config.name, "worker stops cold: what runs is dropped and handed back");
    slots.shutdown().await;
    if tokio::time::timeout(COLD, join(finishing)).await.is_err() {
        tracing::warn!(name = %shared.config.name, "tasks that had ended could not be settled in time; they are handed back");
        finishing.shutdown().await;
    }
}

async fn join(set: &mut JoinSet<()>) {
    while set.join_next().await.is_some() {}
}
