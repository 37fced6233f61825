//! What a running task knows of itself, and what it may use.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use celeriac_core::{
    CorrelationId, Error, ExchangeName, Map, Payload, QueueName, Result, ResultTuple, RoutingKey, StoreResult,
    TaskHeaders, TaskId, TaskMeta, TaskName, TaskState, Value,
};
use celeriac_producer::{AsyncResult, IntoCall, Lineage, Producer};
use celeriac_serializer::Serializer;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::{TaskError, TaskResult};
use crate::request::Request;
use crate::updates::UpdateSink;

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

pub(crate) struct Inner {
    pub(crate) request: Request,
    pub(crate) delivery: DeliveryInfo,
    pub(crate) correlation_id: CorrelationId,
    pub(crate) worker: Arc<str>,
    pub(crate) producer: Producer,
    pub(crate) extensions: Arc<Extensions>,
    pub(crate) result_format: Arc<dyn Serializer>,
    /// Where updates go; `None` when the result is ignored.
    pub(crate) updates: Option<Arc<UpdateSink>>,
    pub(crate) cancelled: CancellationToken,
    /// How long records are kept.
    pub(crate) expires: Option<Duration>,
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
        &self.inner.worker
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
        self.inner.cancelled.is_cancelled()
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
        let Some(updates) = &self.inner.updates else { return };
        let mut data = Vec::new();
        match self.inner.result_format.encode_value(detail, &mut data) {
            Ok(()) => {
                let payload = Payload { content_type: self.inner.result_format.content_type(), data: data.into() };
                let meta = TaskMeta::new(self.id().clone(), state).with_result(payload);
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
        store.correlation_id = Some(self.inner.correlation_id.clone());
        store
    }

    /// Sends a task from this one: it becomes its child, and part of the same workflow.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub async fn send<C: IntoCall>(&self, call: C) -> Result<AsyncResult<C::Output>> {
        let lineage = Lineage { root_id: self.root_id().clone(), parent_id: self.id().clone() };
        let sent = self.inner.producer.send_from(Some(&lineage), call).await?;
        self.inner.children.lock().unwrap_or_else(PoisonError::into_inner).push(ResultTuple::task(sent.id()));
        Ok(sent)
    }

    /// The shared state of type `T`, if there is one.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(&self) -> Option<State<T>> {
        self.inner.extensions.get()
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
pub struct Extensions(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

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
