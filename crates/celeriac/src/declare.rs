//! The entries that an app declares, and what cannot be of them.

use std::borrow::Cow;

#[cfg(feature = "worker")]
use celeriac_consumer::Tasks;
#[cfg(feature = "worker")]
use celeriac_core::QueueName;
use celeriac_core::{EntryName, Error, Result};
use celeriac_producer::{IntoCall, Producer};
use celeriac_scheduler::{Entries, Entry, ScheduleBuilder};

/// What the app's own workers know, and where they take it from by its configuration: what a worker is told beside that is not known yet.
#[cfg(feature = "worker")]
pub(crate) struct Own<'a> {
    pub(crate) tasks: &'a Tasks,
    pub(crate) queues: &'a [QueueName],
}

/// An error by entry and field.
fn problem(entry: &str, field: &str, message: &str) -> Error {
    Error::config("schedule", format!("entry `{entry}`: {field}: {message}"))
}

/// The entry that is declared by these.
pub(crate) fn entry<C: IntoCall>(name: Cow<'static, str>, schedule: ScheduleBuilder, call: C) -> Result<Entry> {
    let wrong = |field| {
        let name = name.clone();
        move |error: Error| problem(&name, field, error.message())
    };
    let schedule = schedule.build().map_err(wrong("schedule"))?;
    let task = call.into_call().into_signature().map_err(wrong("task"))?;
    Ok(Entry::new(EntryName::new(name.clone()).map_err(wrong("name"))?, schedule, task))
}

/// Tells what cannot be of the entries that an app declares.
pub(crate) fn check(entries: &[Entry], producer: &Producer, #[cfg(feature = "worker")] own: &Own<'_>) -> Result<()> {
    Entries::check(entries)?;
    for entry in entries {
        let wrong = |field, message: &str| Err(problem(&entry.name, field, message));
        if entry.task.options.contains_key("task_id") {
            return wrong("task", "option `task_id`: each tick has an id of its own");
        }
        let queue = match producer.prepare(entry.task.clone()) {
            Ok(message) => message.destination.routing_key,
            Err(error) => return wrong("task", error.message()),
        };
        #[cfg(feature = "worker")]
        if let Some(message) = own.refuse(&entry.task.task, &queue) {
            return wrong("task", &message);
        }
        #[cfg(not(feature = "worker"))]
        drop(queue);
        if entry.no_overlap.is_some() {
            if producer.backend().is_none() {
                return wrong("no_overlap", "there is no result backend that tells whether a task is finished");
            }
            let ignored = entry.task.options.get("ignore_result").and_then(|ignore| ignore.as_bool());
            #[cfg(feature = "worker")]
            let ignored = ignored.or(own.tasks.options(&entry.task.task).and_then(|options| options.ignore_result));
            if ignored == Some(true) {
                return wrong("no_overlap", "the task ignores its result, so nothing tells whether it is finished");
            }
        }
    }
    Ok(())
}

#[cfg(feature = "worker")]
impl Own<'_> {
    /// Why the app's own workers, which would get the task, could only refuse it.
    fn refuse(&self, task: &str, queue: &str) -> Option<String> {
        let known = self.tasks.names();
        let is_theirs = self.queues.iter().any(|own| own.as_str() == queue);
        if known.is_empty() || !is_theirs || known.iter().any(|name| name.as_str() == task) {
            return None;
        }
        // A third of its letters may be wrong.
        let near = known
            .iter()
            .map(|name| (strsim::osa_distance(name, task), name))
            .min()
            .filter(|(distance, _)| distance * 3 <= task.chars().count());
        let meant = near.map_or_else(String::new, |(_, name)| format!("; did you mean `{name}`?"));
        Some(format!(
            "`{task}` is no task of this app, whose own workers take from queue `{queue}` by its configuration (`queues`){meant}"
        ))
    }
}
