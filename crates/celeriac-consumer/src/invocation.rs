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
        let mut run = Run { running, over: false };
        // A task that panicked is over: nothing of it is looked at again, but what it shared with others.
        return match AssertUnwindSafe(run.running.get_pin()).catch_unwind().await {
            Ok(outcome) => {
                run.over = true;
                outcome
            }
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

/// A run under way. One that ends before its end is dropped here: before its message goes back, and another worker begins.
struct Run<'a> {
    running: &'a mut Running,
    over: bool,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.running.set(std::future::pending());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_a_run_holds_is_dropped_with_the_run_though_its_box_is_kept() {
        let (mut running, held) = (idle(), Arc::new(()));
        let guard = Arc::clone(&held);
        running.set(async move {
            let _guard = guard;
            std::future::pending().await
        });
        drop(Run { running: &mut running, over: false });
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
