//! `Entry`: what is to be sent, when, and what becomes of ticks that were missed.

use std::time::Duration;

use celeriac_core::{EntryName, Error, Result, Signature};
use serde::{Deserialize, Serialize};

use crate::schedule::Schedule;

/// The longest jitter.
const LONGEST_JITTER: Duration = Duration::from_secs(86_400);

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

/// One entry of the schedule.
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
#[derive(Debug, Clone, PartialEq)]
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
    /// Ticks that are late by more than this are not sent, whatever [`Entry::catch_up`] says. Default no limit.
    pub deadline: Option<Duration>,
    /// Each tick is sent up to this much later than it is due: how much, is derived from the entry and the time. A day at most. It should be
    /// shorter than the time between two ticks: those that become ready at once count as missed, save the last. Default zero.
    pub jitter: Duration,
    /// A tick is skipped while the task of the tick before is unfinished, but for no longer than this after that was sent: a result may get lost.
    /// Default: ticks are sent in any case.
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
        let problem = if self.jitter > LONGEST_JITTER {
            "jitter: must be a day at most"
        } else if self.deadline == Some(Duration::ZERO) {
            "deadline: no tick is sent at its very instant"
        } else if self.no_overlap == Some(Duration::ZERO) {
            "no_overlap: must be longer than nothing"
        } else {
            return Ok(());
        };
        Err(Error::config("schedule", format!("entry `{}`: {problem}", self.name)))
    }
}
