//! What a slot does with one delivery, from reading it to handing it to the finisher.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use celeriac_backend::ResultBackend;
use celeriac_broker::{Broker, Completion, Receipt, Requeue, Settled, Verb};
use celeriac_core::{
    Clock, Map, Payload, Properties, ResultTuple, StoreResult, TaskFailure, TaskMeta, TaskState, Timestamp, Value,
};
use celeriac_producer::TaskOptions;
use celeriac_serializer::Serializer;
use futures_util::FutureExt as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::blocking::BlockingPool;
use crate::config::WorkerConfig;
use crate::context::{DeliveryInfo, Environment, Inner, TaskContext};
use crate::error::{Kind, TaskError, TaskResult, panic_text};
use crate::finish::{Done, End};
use crate::invocation::{self, idle};
use crate::jobs::{Job, Jobs, Work};
use crate::registry::{Handler, Running, Tasks};
use crate::request::{Refused, Request, correlation_id, guarded};
use crate::shutdown::ShutdownHandle;

/// A result from so many bytes on is large.
const LARGE: usize = 64 * 1024;
/// How many times `LARGE` bytes of large results may wait to be stored: 256 MiB in all.
pub(crate) const ROOM: usize = 4_096;

/// What the loops of one worker share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) backend: Option<Arc<dyn ResultBackend>>,
    pub(crate) blocking: BlockingPool,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: WorkerConfig,
    /// What each slot takes a copy of.
    pub(crate) environment: Environment,
    pub(crate) jobs: Jobs,
    /// Permits for large results that wait to be stored.
    pub(crate) result_room: Arc<Semaphore>,
    pub(crate) shutdown: ShutdownHandle,
    pub(crate) tasks: Tasks,
    /// How many tasks have ended, ever.
    pub(crate) ended: AtomicU64,
    /// How many tasks were fetched and have not ended.
    pub(crate) in_hand: AtomicUsize,
    /// When the worker was made.
    pub(crate) started: Instant,
    /// When `in_hand` fell to 0 the last time, in nanoseconds from then.
    pub(crate) idle_since: AtomicU64,
    /// How many tasks with a later ETA are held in memory.
    pub(crate) held: AtomicUsize,
    /// Told when `in_hand` falls to `low_water`, or `held` falls.
    pub(crate) room: Notify,
    /// The number in hand at which the fetching loop, if it waits, has room again.
    pub(crate) low_water: AtomicUsize,
}

impl Shared {
    /// Counts jobs out of hand, and tells the fetching loop if that makes the room it waits for.
    pub(crate) fn out_of_hand(&self, count: usize) {
        // ORDERING: sequentially consistent with `low_water` in `room`: either this sees the mark, or that sees the count.
        let left = self.in_hand.fetch_sub(count, Ordering::SeqCst).saturating_sub(count);
        if left == 0 {
            let passed = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.idle_since.store(passed, Ordering::Relaxed);
        }
        if left <= self.low_water.load(Ordering::SeqCst) {
            self.room.notify_one();
        }
    }

    /// Since when there has been nothing in hand, if there is nothing.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let since = || self.started + Duration::from_nanos(self.idle_since.load(Ordering::Relaxed));
        (self.in_hand.load(Ordering::Relaxed) == 0).then(since)
    }

    /// Takes jobs until there are no more.
    pub(crate) async fn slot(self: Arc<Self>, finish: mpsc::Sender<Done>) {
        // Kept from task to task.
        let (environment, mut running) = (Arc::new(self.environment.clone()), idle());
        while let Some(job) = self.jobs.pop().await {
            // Also when the slot is dropped in the middle of a task.
            let _ended = InHand(&self);
            // A task's own panic is its outcome; any other must not cost the slot. The receipt is dropped, and the message goes back.
            let begun = catch_unwind(AssertUnwindSafe(|| self.begin(job.work, &environment)));
            let outcome = match begun {
                Ok(Ok((ran, receipt))) => {
                    let process = self.process(ran, receipt, &mut running, &finish);
                    AssertUnwindSafe(process).catch_unwind().await
                }
                Ok(Err(over)) => Ok(over),
                Err(panic) => Err(panic),
            };
            match outcome {
                Ok(Some(mut done)) => {
                    done.room = self.room_for(done.bytes()).await;
                    if finish.send(done).await.is_err() {
                        return;
                    }
                }
                Ok(None) => {}
                Err(panic) => {
                    tracing::error!(
                        panic = panic_text(panic.as_ref()),
                        "the worker broke down over a message; it goes back"
                    );
                }
            }
        }
    }

    /// Waits until there is room for a large result beside those that are not stored yet. Small ones are bounded by their number.
    async fn room_for(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes < LARGE {
            return None;
        }
        let units = u32::try_from((bytes / LARGE).min(ROOM)).ok()?;
        Arc::clone(&self.result_room).acquire_many_owned(units).await.ok()
    }

    /// Runs a task, after or before its message is acknowledged.
    async fn process(
        &self,
        ran: Ran<'_>,
        receipt: Receipt,
        running: &mut Running,
        finish: &mpsc::Sender<Done>,
    ) -> Option<Done> {
        if ran.handler.options.acks_late.unwrap_or(self.config.acks_late) {
            return self.run(&ran, running, Some(receipt)).await;
        }
        // The task runs once or not at all: it may not start before its message is gone, nor if the message is another's by now.
        match receipt.settle(Verb::Ack).await {
            Ok(Settled::Done) => {}
            Ok(Settled::Lost) => return None,
            Err(error) => {
                tracing::warn!(id = %ran.context.id(), %error, "could not be acknowledged before its start; it will be delivered again");
                return None;
            }
        }
        let mut unfinished = Unfinished { shared: self, ran, finish: Some(finish) };
        let done = self.run(&unfinished.ran, running, None).await;
        unfinished.finish = None;
        done
    }

    /// Reads a message and looks whether its task is to run now. If not, then with what becomes of the message, if that is known already.
    fn begin<'a>(
        self: &'a Arc<Self>,
        work: Work,
        environment: &Arc<Environment>,
    ) -> Result<(Ran<'a>, Receipt), Option<Done>> {
        let (request, delivery, receipt) = match work {
            Work::Due(due) => *due,
            Work::Fresh(delivery) => {
                let info = DeliveryInfo {
                    queue: delivery.queue.clone(),
                    exchange: delivery.exchange.clone(),
                    routing_key: delivery.routing_key.clone(),
                    redelivered: delivery.redelivered,
                    delivery_count: delivery.delivery_count,
                };
                let (message, receipt) = delivery.split();
                match Request::read(message, &self.config) {
                    Ok(request) => (request, info, receipt),
                    Err(refused) => return Err(Some(self.refuse(receipt, &info, *refused))),
                }
            }
        };
        let headers = &request.headers;
        let handler = self.tasks.find(&headers.task);
        let options = handler.map(|handler| &handler.options);
        // Most tasks have neither, and need no clock.
        let [eta, expires] = [&headers.eta, &headers.expires].map(|time| time.as_ref().map(|time| time.instant()));
        if let Some(expires) = expires
            && expires <= self.clock.now()
        {
            tracing::debug!(id = %headers.id, task = %headers.task, "expired");
            let failure = TaskFailure::new("celery.exceptions", "TaskRevokedError", "expired");
            let stored = !self.ignored(&request, options);
            let end =
                stored.then_some(Ended { state: TaskState::Revoked, outcome: Err(&failure), children: Vec::new() });
            let result = end.and_then(|end| self.record(&request, &delivery, end, options));
            return Err(Some(Done::new(Some(receipt), End::Ack).with_result(result)));
        }
        if let Some(eta) = eta
            && eta > self.clock.now()
        {
            return Err(self.later(eta, request, delivery, receipt));
        }
        let Some(handler) = handler else {
            let failure = TaskFailure::new("celery.exceptions", "NotRegistered", headers.task.as_str());
            tracing::warn!(id = %headers.id, task = %headers.task, "not registered; rejected");
            let end = Ended { state: TaskState::Failure, outcome: Err(&failure), children: Vec::new() };
            let result = self.record(&request, &delivery, end, None);
            return Err(Some(Done::new(Some(receipt), End::Reject(Requeue::No)).with_result(result)));
        };
        let context = TaskContext::new(Inner {
            ignored: self.ignored(&request, options),
            request,
            delivery,
            environment: Arc::clone(environment),
            expires: handler.options.result_expires.or(self.config.result_expires),
            updated: AtomicBool::new(false),
            children: Mutex::default(),
        });
        Ok((Ran { context, handler }, receipt))
    }

    /// Whether the result of a task is left out.
    fn ignored(&self, request: &Request, options: Option<&TaskOptions>) -> bool {
        let said = match request.headers.ignore_result {
            // COMPAT: Python sends `false` for every task it knows, and lets its worker's task have the last word.
            Some(false) if request.headers.lang == "py" => None,
            said => said,
        };
        said.or(options.and_then(|options| options.ignore_result)).unwrap_or(self.config.ignore_result)
    }

    async fn run(&self, ran: &Ran<'_>, running: &mut Running, receipt: Option<Receipt>) -> Option<Done> {
        let Ran { context, handler } = ran;
        if handler.options.track_started.unwrap_or(self.config.track_started) {
            let detail: Map =
                [("pid", Value::from(u64::from(std::process::id()))), ("hostname", Value::from(context.worker()))]
                    .into_iter()
                    .collect();
            context.update(TaskState::Started, &Value::Map(detail));
        }
        tracing::debug!(id = %context.id(), task = %context.name(), "started");
        let outcome = invocation::run(handler, context, running, &self.blocking).await;
        context.forget_update();
        // A blocking task that was told to stop has not failed: its receipt is dropped, and it runs again elsewhere.
        if outcome.is_err() && receipt.is_some() && self.shutdown.cold.is_cancelled() {
            return None;
        }
        Some(self.outcome(ran, receipt, outcome))
    }

    fn outcome(&self, ran: &Ran<'_>, receipt: Option<Receipt>, outcome: TaskResult<Bytes>) -> Done {
        let outcome = match outcome {
            Ok(data) if data.len() > self.config.max_result_bytes => Err(TaskFailure::new(
                "celeriac",
                "ResultTooLarge",
                format!("the result has {} bytes, the limit is {}", data.len(), self.config.max_result_bytes),
            )
            .into()),
            other => other,
        };
        let (id, task) = (ran.context.id(), ran.context.name());
        match outcome {
            Ok(data) => {
                tracing::debug!(%id, %task, "succeeded");
                let done = Done::new(receipt, End::Ack);
                if ran.context.is_ignored() {
                    return done;
                }
                let payload = Payload { content_type: self.environment.result_format.content_type(), data };
                let children = ran.context.take_children();
                let end = Ended { state: TaskState::Success, outcome: Ok(payload), children };
                done.with_result(self.record_ran(ran, end))
            }
            Err(TaskError(Kind::Failure(failure))) => {
                // Its text may hold arguments.
                tracing::debug!(%id, %task, exception = failure.exc_type, "failed");
                let result = self.failed(&failure, ran);
                Done::new(receipt, End::Ack).with_result(result)
            }
            Err(TaskError(Kind::Reject { reason, requeue: Requeue::No })) => {
                tracing::debug!(%id, %task, "rejected");
                let mut failure = TaskFailure::new("celery.exceptions", "Reject", reason);
                failure.exc_message.push(Value::Bool(false));
                let result = self.failed(&failure, ran);
                Done::new(receipt, End::Reject(Requeue::No)).with_result(result)
            }
            Err(TaskError(Kind::Reject { reason, requeue: Requeue::Yes })) => {
                tracing::debug!(%id, %task, "handed back");
                if receipt.is_some() {
                    return Done::new(receipt, End::Reject(Requeue::Yes));
                }
                // There is no message any more that could go back: whoever waits must learn of it.
                let mut failure = TaskFailure::new("celery.exceptions", "Reject", reason);
                failure.exc_message.push(Value::Bool(true));
                Done::new(None, End::Ack).with_result(self.failed(&failure, ran))
            }
            Err(TaskError(Kind::Ignore)) => Done::new(receipt, End::Ack),
        }
    }

    fn failed(&self, failure: &TaskFailure, ran: &Ran<'_>) -> Option<Box<Completion>> {
        if ran.context.is_ignored() && !self.config.store_errors_even_if_ignored {
            return None;
        }
        let children = ran.context.take_children();
        let end = Ended { state: TaskState::Failure, outcome: Err(failure), children };
        self.record_ran(ran, end)
    }

    fn record_ran(&self, ran: &Ran<'_>, end: Ended<'_>) -> Option<Box<Completion>> {
        self.record(ran.context.request(), ran.context.delivery(), end, Some(&ran.handler.options))
    }

    /// Hands a task with a later ETA to the broker; holds it here if the broker cannot keep it.
    fn later(self: &Arc<Self>, eta: Timestamp, request: Request, info: DeliveryInfo, receipt: Receipt) -> Option<Done> {
        if self.broker.capabilities().delay {
            return Some(Done::new(Some(receipt), End::Park(eta)));
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            // CANCEL SAFETY: both are cancel safe; when the worker stops the receipt is dropped, which hands the message back.
            tokio::select! {
                () = tokio::time::sleep(eta.since(shared.clock.now())) => {
                    shared.in_hand.fetch_add(1, Ordering::Relaxed);
                    let work = Work::Due(Box::new((request, info, receipt)));
                    shared.jobs.push([Job { work, since: Instant::now() }]);
                    shared.jobs.due.notify_one();
                }
                () = shared.shutdown.warm.cancelled() => {}
            }
            shared.held.fetch_sub(1, Ordering::Relaxed);
            shared.room.notify_one();
        });
        None
    }

    /// Rejects a message that cannot be run; the failure is stored if it is known for which task.
    fn refuse(&self, receipt: Receipt, info: &DeliveryInfo, refused: Refused) -> Done {
        let Refused { id, properties, error } = refused;
        tracing::warn!(queue = %info.queue, id = id.as_deref().unwrap_or("?"), exception = error.failure().map(|failure| failure.exc_type.as_str()), "unreadable message rejected");
        let result = id.zip(error.failure()).and_then(|(id, failure)| {
            self.backend.as_ref()?;
            let mut meta = TaskMeta::new(id, TaskState::Failure);
            meta.result = failure_payload(self.environment.result_format.as_ref(), failure);
            meta.date_done = Some(self.clock.now());
            Some(self.store_result(meta, &properties, None))
        });
        Done::new(Some(receipt), End::Reject(Requeue::No)).with_result(result)
    }

    /// The final record of a task; `None` if there is nowhere to store it.
    fn record(
        &self,
        request: &Request,
        info: &DeliveryInfo,
        end: Ended<'_>,
        options: Option<&TaskOptions>,
    ) -> Option<Box<Completion>> {
        self.backend.as_ref()?;
        let headers = &request.headers;
        let mut meta = TaskMeta::new(headers.id.clone(), end.state);
        match end.outcome {
            Ok(payload) => meta.result = Some(payload),
            Err(failure) => {
                meta.result = failure_payload(self.environment.result_format.as_ref(), failure);
                meta.traceback.clone_from(&failure.traceback);
            }
        }
        meta.date_done = Some(self.clock.now());
        meta.group_id = headers.group.clone();
        meta.parent_id = headers.parent_id.clone();
        meta.children = Some(end.children);
        if self.config.result_extended {
            let (args, kwargs) = request.values(&self.config.serializers).unwrap_or_default();
            meta.extended = [
                ("name", Value::from(headers.task.as_str())),
                ("args", args),
                ("kwargs", kwargs),
                ("worker", Value::from(self.config.name.as_str())),
                ("retries", Value::from(i64::from(headers.retries))),
                ("queue", Value::from(info.routing_key.as_str())),
            ]
            .into_iter()
            .collect();
            // COMPAT: celery stores each stamp under its own name, beside the others.
            if let Some(names) = headers.stamped_headers.as_ref().filter(|names| !names.is_empty()) {
                let listed = names.iter().map(|name| Value::from(name.as_str())).collect();
                meta.extended.insert("stamped_headers", Value::List(listed));
                for name in names {
                    if let Some(stamp) = headers.stamps.get(name) {
                        meta.extended.insert(name.as_str(), stamp.clone());
                    }
                }
            }
        }
        Some(self.store_result(meta, &request.properties, options))
    }

    fn store_result(&self, meta: TaskMeta, properties: &Properties, options: Option<&TaskOptions>) -> Box<Completion> {
        let correlation_id = correlation_id(properties, &meta.task_id);
        let mut store = StoreResult::new(meta);
        store.expires = options.and_then(|options| options.result_expires).or(self.config.result_expires);
        store.reply_to = properties.reply_to.clone();
        store.correlation_id = Some(correlation_id);
        Box::new(Completion::new().result(store))
    }
}

/// How a task ended.
struct Ended<'a> {
    state: TaskState,
    outcome: Result<Payload, &'a TaskFailure>,
    /// The tasks it sent.
    children: Vec<ResultTuple>,
}

/// A task whose message is gone already. Dropped before it has ended, by a cold shutdown, it leaves a failure behind: nobody else runs it, and
/// whoever waits must learn of it.
struct Unfinished<'a> {
    shared: &'a Shared,
    ran: Ran<'a>,
    /// `None` once it has ended.
    finish: Option<&'a mpsc::Sender<Done>>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let Some(finish) = self.finish else { return };
        if self.ran.context.is_ignored() {
            return;
        }
        // COMPAT: celery's class for a task whose worker ended under it.
        let text = "the worker stopped before the task had ended";
        let failure = TaskFailure::new("billiard.exceptions", "WorkerLostError", text);
        let end = Ended { state: TaskState::Failure, outcome: Err(&failure), children: Vec::new() };
        let result = self.shared.record_ran(&self.ran, end);
        if finish.try_send(Done::new(None, End::Ack).with_result(result)).is_err() {
            tracing::error!(id = %self.ran.context.id(), "a task was dropped, and that could not be stored");
        }
    }
}

/// A task that runs or ran.
struct Ran<'a> {
    context: TaskContext,
    handler: &'a Handler,
}

/// Counts a job out of hand, however it ends.
struct InHand<'a>(&'a Shared);

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
        self.0.out_of_hand(1);
    }
}

/// The exception object in the format of results. An exception whose arguments cannot be written is stored without them.
pub(crate) fn failure_payload(format: &dyn Serializer, failure: &TaskFailure) -> Option<Payload> {
    let write = |failure: &TaskFailure| {
        let mut data = Vec::new();
        guarded(|| format.encode_value(&failure.to_value(), &mut data)).ok().map(|()| data)
    };
    let data = write(failure).or_else(|| {
        let mut bare = failure.clone();
        bare.exc_message = vec![Value::from(failure.message())];
        write(&bare)
    })?;
    Some(Payload { content_type: format.content_type(), data: data.into() })
}
