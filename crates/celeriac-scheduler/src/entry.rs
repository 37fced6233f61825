//! `Entry`: what is to be sent, when, and what becomes of ticks that were missed.

use std::fmt;
use std::time::Duration;

use celeriac_core::{EntryName, Error, Result, Signature};
use serde::{Deserialize, Serialize};

use crate::schedule::Schedule;

/// The longest jitter.
const LONGEST_JITTER: Duration = Duration::from_secs(86_400);

/// Stores keep whole milliseconds: anything shorter would be read as nothing.
const SHORTEST: Duration = Duration::from_millis(1);

/// What becomes of ticks whose time went by while nobody could send them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CatchUp {
    /// They are not sent; only the latest is, if it is late by a minute at most.
    Skip,
    /// The latest of them is sent. As Celery's beat does after it was away.
    #[default]
    Once,
    /// Each is sent, in order.
    All,
}

/// One entry of the schedule. What its task is called with is not shown by `Debug`: it may be secret.
///
/// # Examples
/// ```
/// use celeriac_core::{EntryName, Signature};
/// use celeriac_scheduler::{CatchUp, Entry, Units as _, crontab};
///
/// let nightly = crontab("30 2 * * *").tz("Europe/Berlin").build()?;
/// let cleanup = Signature::named("shop.cleanup").arg("carts").option("queue", "housekeeping");
/// let entry = Entry::new(EntryName::from_static("cleanup"), nightly, cleanup)
///     .catch_up(CatchUp::Once)
///     .deadline(6.hours())
///     .no_overlap(1.days());
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// The name: no two entries of a store have the same.
    pub name: EntryName,
    /// When it is due.
    pub schedule: Schedule,
    /// What is sent: task, arguments, and options by Celery's names (`queue`, `expires`, `priority` and so on).
    pub task: Signature,
    /// Whether it is sent at all. What becomes due while it is not is never sent. Default yes.
    pub enabled: bool,
    /// What becomes of ticks that were missed. Default [`CatchUp::Once`].
    pub catch_up: CatchUp,
    /// Ticks that are late by more than this are not sent, whatever [`Entry::catch_up`] says. A millisecond at least. Default no limit.
    pub deadline: Option<Duration>,
    /// Each tick is sent up to this much later than it is due: how much, is derived from the entry and the time. A day at most, and a millisecond at
    /// least if it is not zero. It should be shorter than the time between two ticks: those that become ready at once count as missed, save the last.
    /// Default zero.
    pub jitter: Duration,
    /// A tick is skipped while the task of the tick before is unfinished, but for no longer than this after that was sent: a result may get lost.
    /// A millisecond at least. Default: ticks are sent in any case.
    pub no_overlap: Option<Duration>,
    /// Whose code [declares](crate::Entries::declare) it: an app's name. Default nobody's: it was added by hand.
    pub owner: Option<String>,
}

impl Entry {
    /// An entry with everything else at its default.
    #[must_use]
    pub fn new(name: EntryName, schedule: Schedule, task: Signature) -> Self {
        Self {
            name,
            schedule,
            task,
            enabled: true,
            catch_up: CatchUp::default(),
            deadline: None,
            jitter: Duration::ZERO,
            no_overlap: None,
            owner: None,
        }
    }

    /// Sets whether it is sent at all.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Sets what becomes of ticks that were missed.
    #[must_use]
    pub fn catch_up(mut self, catch_up: CatchUp) -> Self {
        self.catch_up = catch_up;
        self
    }

    /// Sets how late a tick may be sent.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Spreads ticks over this much time.
    #[must_use]
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// Skips ticks while the task of the one before is unfinished, for this long at most.
    #[must_use]
    pub fn no_overlap(mut self, at_most: Duration) -> Self {
        self.no_overlap = Some(at_most);
        self
    }

    /// Tells what cannot be. Whatever writes an entry does so too.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming the entry and the field.
    pub fn check(&self) -> Result<()> {
        let is_too_short = |limit: Option<Duration>| limit.is_some_and(|limit| limit < SHORTEST);
        let problem = if self.jitter > LONGEST_JITTER {
            "jitter: must be a day at most"
        } else if !self.jitter.is_zero() && self.jitter < SHORTEST {
            "jitter: must be none, or a millisecond at least"
        } else if is_too_short(self.deadline) {
            "deadline: must be a millisecond at least"
        } else if is_too_short(self.no_overlap) {
            "no_overlap: must be a millisecond at least"
        } else {
            return Ok(());
        };
        Err(Error::config("schedule", format!("entry `{}`: {problem}", self.name)))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, schedule, task, enabled, catch_up, deadline, jitter, no_overlap, owner } = self;
        f.debug_struct("Entry")
            .field("name", name)
            .field("schedule", schedule)
            .field("task", &task.task)
            .field("enabled", enabled)
            .field("catch_up", catch_up)
            .field("deadline", deadline)
            .field("jitter", jitter)
            .field("no_overlap", no_overlap)
            .field("owner", owner)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::{Units as _, every};

    fn entry(task: Signature) -> Entry {
        Entry::new(EntryName::from_static("cleanup"), every(1.hours()).build().unwrap(), task)
    }

    #[test]
    fn what_the_task_is_called_with_is_not_shown() {
        let call = Signature::named("shop.cleanup").arg("hunter2").kwarg("password", "hunter3");
        let shown = format!("{:?}", entry(call));
        assert!(shown.contains("shop.cleanup") && shown.contains("cleanup"), "{shown}");
        assert!(!shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn limits_that_a_store_would_read_as_nothing_are_told_by_entry_and_field() {
        let entry = || entry(Signature::named("shop.cleanup"));
        let shortest = Duration::from_millis(1);
        entry().deadline(shortest).jitter(shortest).no_overlap(shortest).check().unwrap();
        entry().jitter(Duration::ZERO).check().unwrap();
        let short = shortest - Duration::from_nanos(1);
        for (entry, field) in [
            (entry().deadline(short), "deadline"),
            (entry().deadline(Duration::ZERO), "deadline"),
            (entry().no_overlap(short), "no_overlap"),
            (entry().no_overlap(Duration::ZERO), "no_overlap"),
            (entry().jitter(short), "jitter"),
        ] {
            let error = entry.check().unwrap_err();
            assert!(error.message().starts_with(&format!("entry `cleanup`: {field}: must be ")), "{error}");
        }
    }
}
