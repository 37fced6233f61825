//! How a task ends when it does not succeed.

use std::error::Error as StdError;
use std::fmt;

use celeriac_broker::Requeue;
use celeriac_core::error::report;
use celeriac_core::{Error, ErrorKind, TaskFailure};

/// What a fallible task returns.
pub type TaskResult<T, E = TaskError> = std::result::Result<T, E>;

/// How a task ends when it does not succeed: it failed, it refuses its message, or it wants no state kept.
///
/// Every error type turns into one by `?`: the failure then bears the type's name, and the texts of the error and of its sources.
pub struct TaskError(pub(crate) Kind);

#[derive(Debug)]
pub(crate) enum Kind {
    Failure(Box<TaskFailure>),
    Reject { reason: String, requeue: Requeue },
    Ignore,
}

impl TaskError {
    /// The task failed with this text.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        TaskFailure::new("celeriac", "TaskError", message.into()).into_task_error()
    }

    /// The task refuses its message. With [`Requeue::No`] that is stored as a failure; with [`Requeue::Yes`] the message goes back.
    ///
    /// Celery's `Reject`. It needs the late acknowledgement, which is the default.
    #[must_use]
    pub fn reject(reason: impl Into<String>, requeue: Requeue) -> Self {
        Self(Kind::Reject { reason: reason.into(), requeue })
    }

    /// The task is done with, and nothing is to be stored. Celery's `Ignore`.
    #[must_use]
    pub fn ignore() -> Self {
        Self(Kind::Ignore)
    }

    /// The failure that will be stored, if one will.
    #[must_use]
    pub fn failure(&self) -> Option<&TaskFailure> {
        match &self.0 {
            Kind::Failure(failure) => Some(failure),
            Kind::Reject { .. } | Kind::Ignore => None,
        }
    }

    /// A `TypeError`, as Python raises for arguments that do not fit.
    pub(crate) fn type_error(message: String) -> Self {
        TaskFailure::new("builtins", "TypeError", message).into_task_error()
    }

    /// What could not be read from the message.
    pub(crate) fn decode(error: &Error) -> Self {
        let (module, class) = match error.kind() {
            ErrorKind::Config | ErrorKind::NotFound | ErrorKind::Unsupported => {
                ("kombu.exceptions", "ContentDisallowed")
            }
            _ => ("kombu.exceptions", "DecodeError"),
        };
        TaskFailure::new(module, class, error.report()).into_task_error()
    }

    /// A panic, with its text.
    pub(crate) fn panicked(payload: &(dyn std::any::Any + Send)) -> Self {
        TaskFailure::new("celeriac", "Panic", panic_text(payload)).into_task_error()
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Failure(failure) => failure.fmt(f),
            Kind::Reject { reason, requeue } => write!(f, "reject requeue={}: {reason}", *requeue == Requeue::Yes),
            Kind::Ignore => f.write_str("ignore"),
        }
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> From<E> for TaskError {
    fn from(error: E) -> Self {
        let (module, class) = type_of::<E>().unwrap_or(("celeriac", "TaskError"));
        let error: Box<dyn StdError + Send + Sync> = error.into();
        // Failures pass through as they are, so that a task can choose what Python sees.
        match error.downcast::<TaskFailure>() {
            Ok(failure) => Self(Kind::Failure(failure)),
            Err(error) => TaskFailure::new(module, class, report(error.as_ref())).into_task_error(),
        }
    }
}

/// The text of a panic.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

/// Module and name of an error type; `None` for those that say nothing, such as `String`.
fn type_of<E>() -> Option<(&'static str, &'static str)> {
    let name = std::any::type_name::<E>();
    let name = name.split('<').next().unwrap_or(name);
    let (module, class) = name.rsplit_once("::")?;
    let plain = module.starts_with("alloc::") || module == "anyhow" || class.is_empty();
    (!plain).then_some((module, class))
}

/// What a fallible task may return as its error: [`TaskError`], any error type, `anyhow::Error`, or a text.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a task",
    note = "use `celeriac::TaskError`, a type that implements `std::error::Error + Send + Sync + 'static`, or a text"
)]
pub trait IntoTaskError {
    /// Turns it into a task's error.
    fn into_task_error(self) -> TaskError;
}

#[diagnostic::do_not_recommend]
impl<E: Into<TaskError>> IntoTaskError for E {
    fn into_task_error(self) -> TaskError {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(error: impl IntoTaskError) -> (String, String, String) {
        let error = error.into_task_error();
        let failure = error.failure().unwrap();
        (failure.exc_module.clone().unwrap_or_default(), failure.exc_type.clone(), failure.message())
    }

    #[test]
    fn an_error_bears_its_types_name_and_its_sources() {
        let error = "x".parse::<i32>().unwrap_err();
        assert_eq!(
            class(error),
            ("core::num::error".into(), "ParseIntError".into(), "invalid digit found in string".into())
        );
        let error = Error::unavailable("send", "gone").with_source(std::io::Error::other("refused"));
        assert!(class(error).2.ends_with("gone: refused"));
    }

    #[test]
    fn a_text_is_a_plain_task_error() {
        for (module, class, message) in [class("boom"), class("boom".to_owned()), class(TaskError::new("boom"))] {
            assert_eq!((module.as_str(), class.as_str(), message.as_str()), ("celeriac", "TaskError", "boom"));
        }
    }

    #[test]
    fn a_failure_passes_through_as_it_is() {
        assert_eq!(class(TaskFailure::new("builtins", "KeyError", "k")).1, "KeyError");
    }
}
