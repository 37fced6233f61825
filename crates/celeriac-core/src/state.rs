//! Task states, and which may follow which.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The state of a task, by Celery's names.
///
/// # Wire format
/// `status` of a stored result, `celery/states.py` (celery 5.7).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum TaskState {
    /// Nothing is stored: waiting, or unknown.
    #[default]
    Pending,
    /// A worker has it. Only seen in events.
    Received,
    /// It runs. Stored when the task tracks its start.
    Started,
    /// It ended with a result.
    Success,
    /// It ended with an error.
    Failure,
    /// It was revoked, or had expired.
    Revoked,
    /// It failed and will run again.
    Retry,
    /// A worker refused it. Only seen in events.
    Rejected,
    /// It asked for no state to be kept. Never stored.
    Ignored,
    /// A state of the task's own, such as `PROGRESS`.
    Custom(Cow<'static, str>),
}

impl TaskState {
    /// `PROGRESS`, the state that progress updates are stored under.
    pub const PROGRESS: Self = Self::Custom(Cow::Borrowed("PROGRESS"));

    /// The name as it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "PENDING",
            Self::Received => "RECEIVED",
            Self::Started => "STARTED",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Revoked => "REVOKED",
            Self::Retry => "RETRY",
            Self::Rejected => "REJECTED",
            Self::Ignored => "IGNORED",
            Self::Custom(name) => name,
        }
    }

    /// Whether the task has ended: success, failure or revoked.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
    }

    /// Whether the stored result is an error: retry, failure or revoked.
    #[must_use]
    pub fn is_exception(&self) -> bool {
        matches!(self, Self::Retry | Self::Failure | Self::Revoked)
    }

    /// Whether waiting for the result raises that error: failure or revoked.
    #[must_use]
    pub fn is_propagating(&self) -> bool {
        matches!(self, Self::Failure | Self::Revoked)
    }

    /// Celery's order of states: the higher wins when two sources disagree.
    #[must_use]
    pub fn precedence(&self) -> u8 {
        match self {
            Self::Success => 9,
            Self::Failure => 8,
            Self::Custom(_) => 7,
            Self::Revoked => 6,
            Self::Started => 5,
            Self::Received => 4,
            Self::Rejected => 3,
            Self::Retry => 2,
            Self::Pending => 1,
            Self::Ignored => 0,
        }
    }

    /// Whether a store may replace a record in this state by one in state `next`.
    ///
    /// A success is final. A failure or a revocation gives way only to another end, for a redelivered task may run again and
    /// do better; everything else moves on freely.
    #[must_use]
    pub fn may_become(&self, next: &Self) -> bool {
        match self {
            Self::Success => false,
            Self::Failure | Self::Revoked => next.is_ready(),
            _ => true,
        }
    }
}

impl From<&str> for TaskState {
    fn from(name: &str) -> Self {
        match name {
            "PENDING" => Self::Pending,
            "RECEIVED" => Self::Received,
            "STARTED" => Self::Started,
            "SUCCESS" => Self::Success,
            "FAILURE" => Self::Failure,
            "REVOKED" => Self::Revoked,
            "RETRY" => Self::Retry,
            "REJECTED" => Self::Rejected,
            "IGNORED" => Self::Ignored,
            "PROGRESS" => Self::PROGRESS,
            custom => Self::Custom(Cow::Owned(custom.to_owned())),
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for TaskState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TaskState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_is_never_overwritten() {
        for next in [TaskState::Failure, TaskState::Success, TaskState::Started, TaskState::PROGRESS] {
            assert!(!TaskState::Success.may_become(&next), "{next}");
        }
    }

    #[test]
    fn an_ended_task_does_not_go_back_to_running() {
        assert!(!TaskState::Failure.may_become(&TaskState::Started));
        assert!(!TaskState::Revoked.may_become(&TaskState::PROGRESS));
        assert!(TaskState::Failure.may_become(&TaskState::Success));
    }

    #[test]
    fn names_round_trip() {
        for name in ["PENDING", "STARTED", "SUCCESS", "FAILURE", "REVOKED", "RETRY", "PROGRESS", "MINE"] {
            assert_eq!(TaskState::from(name).as_str(), name);
        }
    }
}
