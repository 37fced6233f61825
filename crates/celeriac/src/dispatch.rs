//! Where an app's ticks go: to its broker, as Celery's beat sends them.

use celeriac_broker::Outgoing;
use celeriac_core::{Error, ErrorKind, Result, StoreId, TaskId};
use celeriac_producer::{IntoCall as _, Producer};
use celeriac_scheduler::{Dispatch, Tick, async_trait};
use tokio::time::{Instant, timeout_at};

/// What Celery's beat marks its messages by.
const BY_BEAT: &str = "celery_beat_task";

#[derive(Debug)]
pub(crate) struct ToBroker {
    producer: Producer,
}

impl ToBroker {
    pub(crate) fn new(producer: Producer) -> Self {
        Self { producer }
    }

    /// # Wire format
    /// `celery/beat.py::Scheduler.apply_async` (celery 5.7): an ordinary message, with a header of its own. The id is that of the tick.
    fn message(&self, tick: &Tick) -> Result<Outgoing> {
        let call = tick.entry.task.clone().into_call().task_id(tick.id.to_string()).header(BY_BEAT, true);
        self.producer.prepare(call)
    }
}

#[async_trait]
impl Dispatch for ToBroker {
    async fn send(&self, ticks: &[Tick]) -> Vec<Result<()>> {
        let mut batch = Vec::new();
        let mut results: Vec<Result<()>> =
            ticks.iter().map(|tick| self.message(tick).map(|message| batch.push(message))).collect();
        if let Err(error) = self.producer.publish(batch.clone()).await {
            let mut errors: Vec<Result<()>> = Vec::new();
            if error.is_retryable() || batch.len() < 2 {
                errors.extend(batch.iter().map(|_| Err(again(&error))));
            } else {
                // One of them can never be published, and the others are not to suffer from it.
                let deadline = Instant::now() + self.producer.config().publish_timeout;
                for message in batch {
                    let late = |_| Error::new(ErrorKind::Timeout, "send", "the time to send the ticks was over");
                    let published = timeout_at(deadline, self.producer.publish(vec![message])).await.map_err(late);
                    errors.push(published.and_then(|published| published));
                }
            }
            let mut errors = errors.into_iter();
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = errors.next().unwrap_or(Ok(()));
            }
        }
        results
    }

    fn store_id(&self) -> Option<StoreId> {
        self.producer.broker().store_id()
    }

    fn messages(&self, tick: &Tick) -> Result<Vec<Outgoing>> {
        Ok(vec![self.message(tick)?])
    }

    /// What has no record counts as unfinished: it may wait still. An entry's limit ends that where the record is lost.
    async fn unfinished(&self, ids: &[TaskId]) -> Result<Vec<bool>> {
        let Some(backend) = self.producer.backend() else {
            return Err(Error::config("schedule", "there is no result backend that tells whether a task is finished"));
        };
        let limit = self.producer.config().publish_timeout;
        let late = |_| Error::new(ErrorKind::Timeout, "schedule", "the result backend did not answer in time");
        let records = tokio::time::timeout(limit, backend.fetch(ids)).await.map_err(late)??;
        Ok(records.into_iter().map(|record| record.is_none_or(|record| !record.state.is_ready())).collect())
    }
}

/// The same error once more.
fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.operation(), error.report())
}
