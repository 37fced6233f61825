//! `AsyncResult`: the result of a task that was sent.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backend::{ResultBackend, Watch};
use celeriac_core::{Error, ErrorKind, Payload, Result, TaskFailure, TaskId, TaskMeta, TaskState, Value};
use celeriac_serializer::{SerializerExt as _, Serializers};
use serde::de::DeserializeOwned;

use crate::producer::Producer;
use crate::progress::Updates;

/// Why there is no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum ResultError {
    /// The task failed.
    Failure(TaskFailure),
    /// The task was revoked, or had expired.
    Revoked(TaskFailure),
    /// The result could not be read, or did not come in time.
    Backend(Error),
}

impl ResultError {
    /// Whether the time to wait was over before the task ended. It may still run.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Backend(error) if error.kind() == ErrorKind::Timeout)
    }

    /// How the task failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&TaskFailure> {
        match self {
            Self::Failure(failure) | Self::Revoked(failure) => Some(failure),
            Self::Backend(_) => None,
        }
    }
}

impl fmt::Display for ResultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failure(failure) => write!(f, "the task failed: {failure}"),
            Self::Revoked(failure) => write!(f, "the task was revoked: {failure}"),
            Self::Backend(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl std::error::Error for ResultError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failure(_) | Self::Revoked(_) => None,
            Self::Backend(error) => error.source(),
        }
    }
}

impl From<Error> for ResultError {
    fn from(error: Error) -> Self {
        Self::Backend(error)
    }
}

/// The result of a task, there already or still to come. Cheap to clone; dropping it cancels nothing.
pub struct AsyncResult<R> {
    id: TaskId,
    producer: Producer,
    ignored: bool,
    output: PhantomData<fn() -> R>,
}

impl<R> Clone for AsyncResult<R> {
    fn clone(&self) -> Self {
        Self::new(self.id.clone(), self.producer.clone(), self.ignored)
    }
}

impl<R> fmt::Debug for AsyncResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<R> AsyncResult<R> {
    pub(crate) fn new(id: TaskId, producer: Producer, ignored: bool) -> Self {
        Self { id, producer, ignored, output: PhantomData }
    }

    fn serializers(&self) -> &Serializers {
        &self.producer.config().serializers
    }

    /// The task's id.
    #[must_use]
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    /// The same result, read as another type.
    #[must_use]
    pub fn cast<T>(&self) -> AsyncResult<T> {
        AsyncResult::new(self.id.clone(), self.producer.clone(), self.ignored)
    }

    /// The record of the task; `None` while nothing is stored.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] without a result backend; what [`ResultBackend::fetch`] returns.
    pub async fn meta(&self) -> Result<Option<TaskMeta>> {
        let mut records = self.backend()?.fetch(std::slice::from_ref(&self.id)).await?;
        Ok(records.pop().flatten())
    }

    /// The task's state: `PENDING` while nothing is stored, also for an id that nobody ever sent.
    ///
    /// # Errors
    /// As [`AsyncResult::meta`].
    pub async fn state(&self) -> Result<TaskState> {
        Ok(self.meta().await?.map_or(TaskState::Pending, |meta| meta.state))
    }

    /// How the task failed; `None` if it did not, or not yet.
    ///
    /// # Errors
    /// As [`AsyncResult::meta`].
    pub async fn failure(&self) -> Result<Option<TaskFailure>> {
        match self.meta().await? {
            Some(meta) if meta.state.is_exception() => Ok(Some(self.read_failure(meta)?)),
            _ => Ok(None),
        }
    }

    /// Forgets the result: its record is deleted.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] without a result backend; what [`ResultBackend::forget`] returns.
    pub async fn forget(&self) -> Result<()> {
        self.backend()?.forget(std::slice::from_ref(&self.id)).await
    }

    /// Waits until the task has ended. Nothing is polled.
    ///
    /// A result that is never stored never comes, and the sender cannot always know: the worker may define the task with `ignore_result`
    /// where it was sent by name, or be configured to ignore results; the task may end with `TaskError::ignore()`; the id may be nobody's.
    /// Wait with [`AsyncResult::get_timeout`] where that may be.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] without a result backend; [`ErrorKind::Unsupported`] if the task was sent to ignore its result.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wait(&self) -> Result<TaskMeta> {
        let mut watch = self.watch().await?;
        loop {
            let meta = watch.next().await?;
            if meta.state.is_ready() {
                return Ok(meta);
            }
        }
    }

    /// The progress of the task, as it comes, until it has ended.
    ///
    /// # Errors
    /// As [`AsyncResult::wait`].
    pub async fn updates(&self) -> Result<Updates> {
        Ok(Updates::new(self.watch().await?, self.serializers().clone()))
    }

    async fn watch(&self) -> Result<Box<dyn Watch>> {
        if self.ignored {
            return Err(Error::unsupported("wait", format!("task `{}` was sent to ignore its result", self.id)));
        }
        self.backend()?.watch(&self.id).await
    }

    fn backend(&self) -> Result<&Arc<dyn ResultBackend>> {
        self.producer
            .backend()
            .ok_or_else(|| Error::config("read result", "there is no result backend to read results from"))
    }

    fn read_failure(&self, meta: TaskMeta) -> Result<TaskFailure> {
        let value = match &meta.result {
            Some(payload) => read_value(self.serializers(), payload)?,
            None => Value::Null,
        };
        let mut failure = TaskFailure::from_value(value);
        failure.traceback = meta.traceback;
        Ok(failure)
    }
}

impl<R: DeserializeOwned> AsyncResult<R> {
    /// Waits for the task to end, as long as it takes, and returns its result. It waits for ever if no result is ever stored: when that is,
    /// [`AsyncResult::wait`] tells.
    ///
    /// # Errors
    /// [`ResultError::Failure`] and [`ResultError::Revoked`] as the task ended; [`ResultError::Backend`] if there is no result backend, it
    /// cannot be reached, or the result is not of type `R`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn get(&self) -> Result<R, ResultError> {
        let meta = self.wait().await?;
        match meta.state {
            TaskState::Success => Ok(self.read(meta.result)?),
            TaskState::Revoked => Err(ResultError::Revoked(self.read_failure(meta)?)),
            _ => Err(ResultError::Failure(self.read_failure(meta)?)),
        }
    }

    /// As [`AsyncResult::get`], but waits no longer than `limit`.
    ///
    /// # Errors
    /// As [`AsyncResult::get`], and one that [`ResultError::is_timeout`] when the time is over.
    pub async fn get_timeout(&self, limit: Duration) -> Result<R, ResultError> {
        match tokio::time::timeout(limit, self.get()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ResultError::Backend(Error::new(
                ErrorKind::Timeout,
                "get result",
                format!("task `{}` did not end within {limit:?}", self.id),
            ))),
        }
    }

    fn read(&self, payload: Option<Payload>) -> Result<R> {
        let Some(payload) = payload else {
            return Value::Null.deserialize_into();
        };
        let format = self.serializers().for_content_type(Some(payload.content_type.as_str()))?;
        format.from_bytes(&payload.data).map_err(|error| {
            Error::new(
                error.kind(),
                "get result",
                format!("the result of task `{}` is no `{}`: {}", self.id, std::any::type_name::<R>(), error.message()),
            )
        })
    }
}

pub(crate) fn read_value(serializers: &Serializers, payload: &Payload) -> Result<Value> {
    serializers.for_content_type(Some(payload.content_type.as_str()))?.decode_value(&payload.data)
}
