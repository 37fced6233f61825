//! Schedules as pure functions of time: intervals, Celery's crontabs, cron strings, events of the sun, single instants; each in a time zone.
//!
//! Part of [celeriac](https://docs.rs/celeriac); most users want that crate. Take this one alone to ask when something is due: nothing here
//! knows of tasks, reads a clock or waits.
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
mod cron;
mod crontab;
mod describe;
mod error;
mod field;
mod interval;
mod schedule;
mod solar;
mod zone;

pub use builder::{ScheduleBuilder, Units, cron, crontab, every, once, solar};
pub use crontab::{CronField, Crontab};
pub use schedule::{Schedule, Upcoming};
pub use solar::SolarEvent;
