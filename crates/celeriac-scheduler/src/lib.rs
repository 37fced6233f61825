//! The scheduler of celeriac: when something is due, and sending it then.
//!
//! Part of [celeriac](https://docs.rs/celeriac); most users want that crate. Take this one alone for a scheduler that sends to wherever you like.
//!
//! - A [`Schedule`] is a pure function of time: intervals, Celery's crontabs, cron strings, events of the sun, single instants; each in a time zone. It
//!   knows of no tasks, reads no clock and never waits.
//! - An [`Entry`] says what is sent by a schedule, and what becomes of ticks that were missed. [`Entries`] are kept in a
//!   [`ScheduleStore`], and may be changed from any process while schedulers run.
//! - A [`Scheduler`] sends them by a [`Dispatch`]. Any number may run on one store: one leads.
//!
//! [`ScheduleStore`]: celeriac_schedule::ScheduleStore
//!
//! The tz database is looked for where the system keeps it; one is compiled in for machines that have none.
//!
//! # Examples
//! ```
//! use celeriac_scheduler::{Schedule, Units as _, crontab, every};
//!
//! let report = crontab("0 9 * * mon-fri").tz("America/New_York").build()?;
//! let friday = "2026-11-20T20:00:00Z".parse()?;
//! let next: Vec<String> = report.upcoming(friday).take(2).map(|time| time.to_string()).collect();
//! assert_eq!(next, ["2026-11-23T14:00:00+00:00", "2026-11-24T14:00:00+00:00"]);
//!
//! // Kept as a text, and read again elsewhere.
//! let kept = every(30.minutes()).build()?.to_string();
//! assert_eq!(kept.parse::<Schedule>()?, every(30.minutes()).build()?);
//! # Ok::<(), celeriac_core::Error>(())
//! ```

mod builder;
mod calendar;
mod changes;
mod control;
mod cron;
mod crontab;
mod describe;
mod dispatch;
mod due;
mod entries;
mod entry;
mod error;
mod field;
mod interval;
mod leader;
mod lease;
mod plan;
mod record;
mod schedule;
mod scheduler;
mod solar;
mod tick;
mod zone;

/// What [`Dispatch`] is implemented with; re-exported so that authors need no dependency of their own.
pub use async_trait::async_trait;

pub use builder::{ScheduleBuilder, Units, cron, crontab, every, once, solar};
pub use control::SchedulerHandle;
pub use crontab::{CronField, Crontab};
pub use dispatch::Dispatch;
pub use entries::{Entries, KnownEntry};
pub use entry::{CatchUp, Entry};
pub use schedule::{Schedule, Upcoming};
pub use scheduler::{Scheduler, SchedulerBuilder};
pub use solar::SolarEvent;
pub use tick::Tick;
