//! The `Task` trait: a definition that a worker can run.

use std::future::Future;

use celeriac_producer::Define;

use crate::arguments::Arguments;
use crate::context::TaskContext;
use crate::error::TaskResult;

/// A task that a worker can run. `#[celeriac::task]` writes it; by hand it is written as on the crate's page.
pub trait Task: Define {
    /// Whether it blocks its thread. Blocking tasks run on threads of the worker's own, and their future must be ready at its first poll.
    const BLOCKING: bool;

    /// Decodes the arguments and runs the task.
    fn run<'a>(cx: &'a TaskContext, args: Arguments<'a>) -> impl Future<Output = TaskResult<Self::Output>> + Send + 'a;
}
