//! The progress of a task, as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use celeriac_backend::Watch;
use celeriac_core::{Result, TaskState, Value};
use celeriac_serializer::Serializers;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};

use crate::result::read_value;

/// One update of a running task.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// The state: `PROGRESS`, `STARTED`, or one of the task's own.
    pub state: TaskState,
    /// How far it is, if it said so.
    pub current: Option<u64>,
    /// How far it has to go, if it said so.
    pub total: Option<u64>,
    /// All that it said.
    pub detail: Value,
}

/// The updates of one task, as they come, until it has ended. Whoever is slow sees the newest.
///
/// # Cancel safety
/// [`Updates::next`] is cancel safe.
pub struct Updates(BoxStream<'static, Result<Progress>>);

impl std::fmt::Debug for Updates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Updates")
    }
}

impl Updates {
    pub(crate) fn new(watch: Box<dyn Watch>, serializers: Serializers) -> Self {
        let states = stream::unfold(Some((watch, serializers)), |source| async move {
            let (mut watch, serializers) = source?;
            let meta = match watch.next().await {
                Ok(meta) => meta,
                Err(error) => return Some((Err(error), None)),
            };
            if meta.state.is_ready() {
                return None;
            }
            let detail = meta.result.map_or(Ok(Value::Null), |payload| read_value(&serializers, &payload));
            let progress = detail.map(|detail| Progress {
                state: meta.state,
                current: detail.get("current").and_then(Value::as_u64),
                total: detail.get("total").and_then(Value::as_u64),
                detail,
            });
            Some((progress, Some((watch, serializers))))
        });
        Self(states.boxed())
    }

    /// The next update; `None` once the task has ended.
    pub async fn next(&mut self) -> Option<Result<Progress>> {
        self.0.next().await
    }
}

impl Stream for Updates {
    type Item = Result<Progress>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}
