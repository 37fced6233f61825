//! One run of one task: arguments in, serialised result out, panics caught.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use celeriac_core::Error;
use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use crate::blocking::BlockingPool;
use crate::context::TaskContext;
use crate::error::{TaskError, TaskResult};
use crate::registry::{Handler, Running};

/// A box for runs, with nothing in it yet.
pub(crate) fn idle() -> Running {
    Running::new(std::future::pending())
}

/// Runs a task where it belongs: here, in `running`, or on a thread of the pool if it blocks.
pub(crate) async fn run(
    handler: &Handler,
    context: &TaskContext,
    running: &mut Running,
    pool: &BlockingPool,
) -> TaskResult<Bytes> {
    if !handler.blocking {
        (handler.begin)(running, context.clone());
        // A task that panicked is over: nothing of it is looked at again, but what it shared with others.
        return match AssertUnwindSafe(running.get_pin()).catch_unwind().await {
            Ok(outcome) => outcome,
            Err(panic) => Err(TaskError::panicked(panic.as_ref())),
        };
    }
    let (sender, receiver) = oneshot::channel();
    let (begin, context) = (handler.begin, context.clone());
    pool.spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut running = idle();
            begin(&mut running, context);
            running.get_pin().now_or_never()
        }));
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
        Err(_) => Err(Error::unexpected("run task", "the thread of a blocking task ended without an outcome").into()),
    }
}
