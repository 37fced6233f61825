//! What a running task knows of itself, and what it may use.

use std::any::{Any, TypeId, type_name};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use celeriac_core::{
    Error, ExchangeName, Map, Payload, QueueName, Result, ResultTuple, RoutingKey, StoreResult, TaskFailure,
    TaskHeaders, TaskId, TaskMeta, TaskName, TaskState, Value,
};
use celeriac_producer::{AsyncResult, IntoCall, Lineage, Producer};
use celeriac_serializer::{Serializer, Serializers};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::arguments::Arguments;
use crate::error::{TaskError, TaskResult};
use crate::request::Request;
use crate::updates::UpdateSink;

/// The largest buffer that is kept for the next result of its thread, in bytes.
const SCRATCH_LIMIT: usize = 64 * 1024;

thread_local! {
    /// What results are written into: so each is allocated once, in its own size. Taken out meanwhile, because to write one runs foreign code.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// How the message came.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryInfo {
    pub(crate) queue: QueueName,
    pub(crate) exchange: ExchangeName,
    pub(crate) routing_key: RoutingKey,
    pub(crate) redelivered: bool,
    pub(crate) delivery_count: Option<u32>,
}

/// What a running task knows of itself: a parameter of type `&TaskContext` gets it. Cheap to clone.
#[derive(Clone)]
pub struct TaskContext {
    inner: Arc<Inner>,
}

/// What all tasks of a worker may use. Each slot has one of its own, so that slots do not count its users against each other.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    /// The worker's name.
    pub(crate) worker: Arc<str>,
    pub(crate) producer: Producer,
    pub(crate) extensions: Arc<Extensions>,
    /// What arguments are read by.
    pub(crate) serializers: Serializers,
    pub(crate) result_format: Arc<dyn Serializer>,
    pub(crate) updates: Option<Arc<UpdateSink>>,
    pub(crate) cancelled: CancellationToken,
}

pub(crate) struct Inner {
    pub(crate) request: Request,
    pub(crate) delivery: DeliveryInfo,
    pub(crate) environment: Arc<Environment>,
    /// How long records are kept.
    pub(crate) expires: Option<Duration>,
    /// Whether the result is left out, and updates with it.
    pub(crate) ignored: bool,
    /// Whether an update was sent. ORDERING: the task's end comes after what the task did.
    pub(crate) updated: AtomicBool,
    pub(crate) children: Mutex<Vec<ResultTuple>>,
}

impl TaskContext {
    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn request(&self) -> &Request {
        &self.inner.request
    }

    pub(crate) fn delivery(&self) -> &DeliveryInfo {
        &self.inner.delivery
    }

    pub(crate) fn is_ignored(&self) -> bool {
        self.inner.ignored
    }

    /// The arguments, for the task to take.
    pub(crate) fn arguments(&self) -> TaskResult<Arguments<'_>> {
        self.inner.request.arguments(&self.inner.environment.serializers)
    }

    /// The result, serialised; nothing if it is left out.
    pub(crate) fn encode<T: Serialize>(&self, output: &T) -> TaskResult<Bytes> {
        if self.inner.ignored {
            return Ok(Bytes::new());
        }
        let mut data = SCRATCH.take();
        let written = self.inner.environment.result_format.encode(&output, &mut data);
        let result = written.map(|()| Bytes::copy_from_slice(&data)).map_err(|error| {
            // COMPAT: celery stores a result that cannot be written as EncodeError.
            TaskError::from(TaskFailure::new("kombu.exceptions", "EncodeError", error.report()))
        });
        if data.capacity() <= SCRATCH_LIMIT {
            data.clear();
            SCRATCH.set(data);
        }
        result
    }

    /// The task's id.
    #[must_use]
    pub fn id(&self) -> &TaskId {
        &self.inner.request.headers.id
    }

    /// The task's name.
    #[must_use]
    pub fn name(&self) -> &TaskName {
        &self.inner.request.headers.task
    }

    /// How many times it was retried.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.inner.request.headers.retries
    }

    /// All headers of the message, those of the sender's own in `extra`.
    #[must_use]
    pub fn headers(&self) -> &TaskHeaders {
        &self.inner.request.headers
    }

    /// The first task of the workflow: this one, if it was sent from outside.
    #[must_use]
    pub fn root_id(&self) -> &TaskId {
        self.inner.request.headers.root_id.as_ref().unwrap_or(&self.inner.request.headers.id)
    }

    /// The task that sent this one.
    #[must_use]
    pub fn parent_id(&self) -> Option<&TaskId> {
        self.inner.request.headers.parent_id.as_ref()
    }

    /// The queue it was taken from.
    #[must_use]
    pub fn queue(&self) -> &QueueName {
        &self.inner.delivery.queue
    }

    /// The exchange it was published to.
    #[must_use]
    pub fn exchange(&self) -> &ExchangeName {
        &self.inner.delivery.exchange
    }

    /// The routing key it was published with.
    #[must_use]
    pub fn routing_key(&self) -> &RoutingKey {
        &self.inner.delivery.routing_key
    }

    /// Whether it may have been delivered, and perhaps run, before.
    #[must_use]
    pub fn redelivered(&self) -> bool {
        self.inner.delivery.redelivered
    }

    /// How many times it has been delivered, this one included; `None` if the broker does not count.
    #[must_use]
    pub fn delivery_count(&self) -> Option<u32> {
        self.inner.delivery.delivery_count
    }

    /// The name of the worker that runs it.
    #[must_use]
    pub fn worker(&self) -> &str {
        &self.inner.environment.worker
    }

    /// Where its result goes, on backends that send results as messages.
    #[must_use]
    pub fn reply_to(&self) -> Option<&RoutingKey> {
        self.inner.request.properties.reply_to.as_ref()
    }

    /// Whether the task is told to stop, because its worker shuts down cold. An async task is dropped then; a blocking one should look now
    /// and then, and return.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.inner.environment.cancelled.is_cancelled()
    }

    /// Tells how far the task is. Whoever watches its result sees state `PROGRESS` with `current` and `total`, as is usual in Celery.
    ///
    /// Returns at once: updates are written behind the task's back, and those that a newer one overtakes are left out. Does nothing if the
    /// result is ignored.
    pub fn progress(&self, current: u64, total: u64) {
        let detail: Map = [("current", Value::from(current)), ("total", Value::from(total))].into_iter().collect();
        self.update(TaskState::PROGRESS, &Value::Map(detail));
    }

    /// Sets a state of the task's own, with what it says. Celery's `update_state`. Else as [`TaskContext::progress`].
    ///
    /// # Errors
    /// If `meta` cannot be written, or `state` is one that only the worker sets.
    pub fn update_state(&self, state: &str, meta: &impl Serialize) -> Result<()> {
        let state = TaskState::from(state);
        if !matches!(state, TaskState::Custom(_)) {
            return Err(Error::config("update state", format!("state `{state}` is set by the worker alone")));
        }
        self.update(state, &celeriac_core::value::to_value(meta)?);
        Ok(())
    }

    pub(crate) fn update(&self, state: TaskState, detail: &Value) {
        let Environment { updates, result_format, .. } = &*self.inner.environment;
        let Some(updates) = updates.as_ref().filter(|_| !self.inner.ignored) else { return };
        let mut data = Vec::new();
        match result_format.encode_value(detail, &mut data) {
            Ok(()) => {
                let payload = Payload { content_type: result_format.content_type(), data: data.into() };
                let meta = TaskMeta::new(self.id().clone(), state).with_result(payload);
                self.inner.updated.store(true, Ordering::Relaxed);
                updates.put(self.store(meta));
            }
            Err(error) => tracing::warn!(id = %self.id(), %error, "an update of a task's state could not be written"),
        }
    }

    /// A record of this task on its way to the backend.
    pub(crate) fn store(&self, mut meta: TaskMeta) -> StoreResult {
        meta.group_id = self.inner.request.headers.group.clone();
        meta.parent_id = self.inner.request.headers.parent_id.clone();
        let mut store = StoreResult::new(meta);
        // Also a record of a task that never ends in order must not stay for ever.
        store.expires = self.inner.expires;
        store.reply_to = self.inner.request.properties.reply_to.clone();
        store.correlation_id = Some(self.inner.request.correlation_id());
        store
    }

    /// Drops the update that was not written yet, because the task has ended.
    pub(crate) fn forget_update(&self) {
        if self.inner.updated.load(Ordering::Relaxed)
            && let Some(updates) = &self.inner.environment.updates
        {
            updates.forget(self.id());
        }
    }

    /// Sends a task from this one: it becomes its child, and part of the same workflow.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub async fn send<C: IntoCall>(&self, call: C) -> Result<AsyncResult<C::Output>> {
        let lineage = Lineage { root_id: self.root_id().clone(), parent_id: self.id().clone() };
        let sent = self.inner.environment.producer.send_from(Some(&lineage), call).await?;
        self.inner.children.lock().unwrap_or_else(PoisonError::into_inner).push(ResultTuple::task(sent.id()));
        Ok(sent)
    }

    /// The shared state of type `T`, if there is one.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(&self) -> Option<State<T>> {
        self.inner.environment.extensions.get()
    }

    pub(crate) fn take_children(&self) -> Vec<ResultTuple> {
        std::mem::take(&mut self.inner.children.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext").field("id", self.id()).field("name", self.name()).finish_non_exhaustive()
    }
}

/// Shared state, by type: databases, clients, settings.
#[derive(Default, Clone)]
pub struct Extensions(BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl Extensions {
    /// Adds a value; another of the same type replaces it.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Arc::new(value));
    }

    fn get<T: Send + Sync + 'static>(&self) -> Option<State<T>> {
        self.0.get(&TypeId::of::<T>()).and_then(|value| Arc::clone(value).downcast().ok()).map(State)
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extensions({})", self.0.len())
    }
}

/// The app's shared state of type `T`: a parameter of type `State<T>` gets it, as in axum.
pub struct State<T>(pub Arc<T>);

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for State<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a task's parameter can be taken from the context by.
#[diagnostic::on_unimplemented(message = "`{Self}` cannot be taken from a task's context")]
pub trait FromContext: Sized {
    /// Takes it.
    ///
    /// # Errors
    /// If the context has none; the task then fails.
    fn from_context(cx: &TaskContext) -> TaskResult<Self>;
}

impl<T: Send + Sync + 'static> FromContext for State<T> {
    fn from_context(cx: &TaskContext) -> TaskResult<Self> {
        cx.state().ok_or_else(|| {
            TaskError::new(format!(
                "there is no state of type `{}`; add it with `App::builder(..).state(..)`",
                type_name::<T>()
            ))
        })
    }
}
