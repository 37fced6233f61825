//! The tasks that a worker knows, by name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use celeriac_core::{Error, Result, TaskName};
use celeriac_producer::TaskOptions;
use tokio_util::sync::ReusableBoxFuture;

use crate::context::TaskContext;
use crate::error::TaskResult;
use crate::task::Task;

/// A run of a task, to its serialised result. The box is used again for the next.
pub(crate) type Running = ReusableBoxFuture<'static, TaskResult<Bytes>>;

type Begin = fn(&mut Running, TaskContext);

/// A task with its types erased.
#[derive(Clone)]
pub struct Handler {
    pub(crate) name: TaskName,
    pub(crate) blocking: bool,
    pub(crate) options: TaskOptions,
    /// Puts a run of the task into the box.
    pub(crate) begin: Begin,
}

impl Handler {
    /// Erases the types of `T`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) if its name is empty or too long.
    pub fn of<T: Task>() -> Result<Self> {
        Ok(Self { name: TaskName::new(T::NAME)?, blocking: T::BLOCKING, options: T::options(), begin: begin::<T> })
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("name", &self.name).field("blocking", &self.blocking).finish_non_exhaustive()
    }
}

fn begin<T: Task>(running: &mut Running, cx: TaskContext) {
    running.set(async move {
        let output = T::run(&cx, cx.arguments()?).await?;
        cx.encode(&output)
    });
}

/// The tasks that a worker knows, by name. `tasks![..]` makes it.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    handlers: HashMap<TaskName, Arc<Handler>>,
    error: Option<String>,
}

impl Tasks {
    /// No tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the task `T`. A name that is taken is told when the worker is built.
    #[must_use]
    pub fn with<T: Task>(mut self) -> Self {
        match Handler::of::<T>() {
            Ok(handler) => self.add(Arc::new(handler)),
            Err(error) => {
                self.error.get_or_insert_with(|| error.message().to_owned());
            }
        }
        self
    }

    /// Adds all of `others`.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        for handler in others.handlers.into_values() {
            self.add(handler);
        }
        self.error = self.error.or(others.error);
        self
    }

    fn add(&mut self, handler: Arc<Handler>) {
        let name = handler.name.clone();
        if self.handlers.insert(name.clone(), handler).is_some() {
            self.error
                .get_or_insert_with(|| format!("task `{name}` is registered twice; give one of them another `name`"));
        }
    }

    /// The names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&TaskName> {
        let mut names: Vec<_> = self.handlers.keys().collect();
        names.sort();
        names
    }

    /// The options that the task of that name is defined with, if it is known.
    #[must_use]
    pub fn options(&self, name: &str) -> Option<&TaskOptions> {
        self.handlers.get(name).map(|handler| &handler.options)
    }

    /// The formats that the tasks' own options name.
    #[must_use]
    pub fn serializers(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .handlers
            .values()
            .filter_map(|handler| handler.options.serializer.as_deref().map(str::to_owned))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Tells what went wrong while they were added.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming the task that is registered twice.
    pub fn check(&self) -> Result<()> {
        self.error.as_ref().map_or(Ok(()), |error| Err(Error::config("register tasks", error.clone())))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Handler> {
        self.handlers.get(name).map(AsRef::as_ref)
    }
}
