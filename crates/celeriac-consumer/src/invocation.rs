//! One run of one task: arguments in, serialised result out, panics caught.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use celeriac_core::Error;
use celeriac_serializer::Serializer;
use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use crate::blocking::BlockingPool;
use crate::context::TaskContext;
use crate::error::{TaskError, TaskResult};
use crate::registry::Handler;

/// A task about to run.
pub(crate) struct Invocation {
    pub(crate) handler: Arc<Handler>,
    pub(crate) context: TaskContext,
    pub(crate) result_format: Arc<dyn Serializer>,
}

impl Invocation {
    /// Runs the task where it belongs: here, or on a thread of the pool if it blocks.
    pub(crate) async fn run(self, pool: &BlockingPool) -> TaskResult<Vec<u8>> {
        if !self.handler.blocking {
            // A task that panicked is over: nothing of it is looked at again, but what it shared with others.
            return match AssertUnwindSafe(self.call()).catch_unwind().await {
                Ok(outcome) => outcome,
                Err(panic) => Err(TaskError::panicked(panic.as_ref())),
            };
        }
        let (sender, receiver) = oneshot::channel();
        pool.spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| self.call().now_or_never()));
            let outcome = match outcome {
                Ok(Some(outcome)) => outcome,
                Ok(None) => Err(TaskError::new("a blocking task was not ready at its first poll")),
                Err(panic) => Err(TaskError::panicked(panic.as_ref())),
            };
            // Nobody waits any more after a cold shutdown.
            drop(sender.send(outcome));
        })?;
        match receiver.await {
            Ok(outcome) => outcome,
            Err(_) => {
                Err(Error::unexpected("run task", "the thread of a blocking task ended without an outcome").into())
            }
        }
    }

    async fn call(&self) -> TaskResult<Vec<u8>> {
        let arguments = self.context.request().arguments()?;
        (self.handler.run)(&self.context, arguments, self.result_format.as_ref()).await
    }
}
