//! Schedules in code: what is written down, and checked when it is built.

use std::time::Duration;

use celeriac_core::{Result, Timestamp};

use crate::crontab::Crontab;
use crate::error::problem;
use crate::interval::Interval;
use crate::schedule::{Kind, Schedule};
use crate::solar::{Solar, SolarEvent};
use crate::zone::Zone;

/// Every so often: whole milliseconds, up to a century. What it is counted from is said at [`Schedule::next_after`] and [`Schedule::next_from`].
///
/// # Examples
/// ```
/// use celeriac_scheduler::{Units as _, every};
///
/// assert_eq!(every(90.minutes()).build()?.to_string(), "every 1h30m");
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[must_use]
pub fn every(period: Duration) -> ScheduleBuilder {
    ScheduleBuilder::new(Draft::Every(period))
}

/// Celery's [`Crontab`] from one line in the usual order: minute, hour, day of month, month, day of week. All fields must match.
///
/// # Examples
/// ```
/// use celeriac_scheduler::crontab;
///
/// let office = crontab("*/15 9-17 * * mon-fri").tz("Europe/Berlin").build()?;
/// assert_eq!(office.describe(), "every 15 minutes from 09:00 to 17:59, Monday to Friday, Europe/Berlin");
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[must_use]
pub fn crontab(line: impl Into<String>) -> ScheduleBuilder {
    ScheduleBuilder::new(Draft::CrontabLine(line.into()))
}

/// A cron string in the manner of cron and Quartz, read by the library [croner](https://docs.rs/croner): `[second] minute hour day month weekday [year]`, with `L`
/// (last), `W` (the weekday nearest), `#` (the nth), or a name such as `@daily`.
///
/// As in cron, and unlike a [`Crontab`], one of the two day fields is enough if neither is `*`; a `+` before the weekday asks for both. Weekdays are 0
/// to 7, Sunday being both.
///
/// # Examples
/// ```
/// use celeriac_scheduler::cron;
///
/// let last_weekday = cron("0 30 9 LW * *").tz("Europe/Berlin").build()?;
/// let next = last_weekday.next_after("2026-05-01T00:00:00Z".parse()?);
/// assert_eq!(next, Some("2026-05-29T09:30:00+02:00".parse()?));
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[must_use]
pub fn cron(pattern: impl Into<String>) -> ScheduleBuilder {
    ScheduleBuilder::new(Draft::Cron(pattern.into()))
}

/// An event of the sun, at a place in degrees: north and east are positive. Days on which it does not happen are passed over.
///
/// # Examples
/// ```
/// use celeriac_scheduler::{SolarEvent, solar};
///
/// let berlin = solar(SolarEvent::Sunset, 52.52, 13.405).build()?;
/// assert_eq!(berlin.next_after("2026-06-21T12:00:00Z".parse()?), Some("2026-06-21T19:33:14Z".parse()?));
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[must_use]
pub fn solar(event: SolarEvent, latitude: f64, longitude: f64) -> ScheduleBuilder {
    ScheduleBuilder::new(Draft::Solar { event, latitude, longitude })
}

/// Once, at that instant.
#[must_use]
pub fn once(at: Timestamp) -> ScheduleBuilder {
    ScheduleBuilder::new(Draft::Once(at))
}

/// A schedule as it is written down. Nothing is checked until it is built.
///
/// What takes a schedule may take `impl Into<ScheduleBuilder>`: this, a [`Crontab`], a [`Schedule`] or the text of one.
#[derive(Debug, Clone)]
pub struct ScheduleBuilder {
    draft: Draft,
    relative: bool,
    zone: Option<String>,
}

#[derive(Debug, Clone)]
enum Draft {
    Every(Duration),
    Crontab(Crontab),
    CrontabLine(String),
    Cron(String),
    Solar { event: SolarEvent, latitude: f64, longitude: f64 },
    Once(Timestamp),
    Made(Schedule),
    Text(String),
}

impl ScheduleBuilder {
    fn new(draft: Draft) -> Self {
        Self { draft, relative: false, zone: None }
    }

    /// In the time zone of that name in the tz database, such as `Europe/Berlin`. UTC by default.
    #[must_use]
    pub fn tz(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Celery's `relative`: an interval ends when the clock of the zone shows a full unit: midnight if it is a day or longer, else a full hour,
    /// minute or second, the last one within the interval. So every ten minutes past a full minute, every day at midnight.
    #[must_use]
    pub fn relative(mut self) -> Self {
        self.relative = true;
        self
    }

    /// The schedule.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming the field that is wrong, and what is allowed: a field of a crontab, a zone that does
    /// not exist, a latitude out of range, days that never come.
    pub fn build(self) -> Result<Schedule> {
        let zone = self.zone.as_deref().map(Zone::named).transpose()?;
        if self.relative && !matches!(self.draft, Draft::Every(_)) {
            return Err(problem("schedule", "relative", "only an interval can be relative"));
        }
        let kind = match self.draft {
            Draft::Every(period) => Kind::Every(Interval::new(period, self.relative)?),
            Draft::Crontab(crontab) => Kind::crontab(&crontab)?,
            Draft::CrontabLine(line) => Kind::crontab(&Crontab::parse(&line)?)?,
            Draft::Cron(pattern) => Kind::cron(&pattern)?,
            Draft::Solar { event, latitude, longitude } => Kind::Solar(Solar::new(event, latitude, longitude)?),
            Draft::Once(at) => Kind::Once(at),
            Draft::Made(schedule) => return Ok(moved(schedule, zone)),
            Draft::Text(text) => return Ok(moved(text.parse()?, zone)),
        };
        Ok(Schedule::new(kind, zone.unwrap_or(Zone::UTC)))
    }
}

fn moved(schedule: Schedule, zone: Option<Zone>) -> Schedule {
    match zone {
        Some(zone) => schedule.in_zone(zone),
        None => schedule,
    }
}

/// The text of a [`Schedule`].
impl From<&str> for ScheduleBuilder {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// The text of a [`Schedule`].
impl From<String> for ScheduleBuilder {
    fn from(text: String) -> Self {
        Self::new(Draft::Text(text))
    }
}

impl From<Crontab> for ScheduleBuilder {
    fn from(crontab: Crontab) -> Self {
        Self::new(Draft::Crontab(crontab))
    }
}

impl From<Schedule> for ScheduleBuilder {
    fn from(schedule: Schedule) -> Self {
        Self::new(Draft::Made(schedule))
    }
}

/// Time spans in words: `30.minutes()`.
pub trait Units {
    /// So many milliseconds.
    #[must_use]
    fn milliseconds(self) -> Duration;
    /// So many seconds.
    #[must_use]
    fn seconds(self) -> Duration;
    /// So many minutes.
    #[must_use]
    fn minutes(self) -> Duration;
    /// So many hours.
    #[must_use]
    fn hours(self) -> Duration;
    /// So many days of 24 hours.
    #[must_use]
    fn days(self) -> Duration;
}

/// What is too long is as long as can be.
impl Units for u64 {
    fn milliseconds(self) -> Duration {
        Duration::from_millis(self)
    }

    fn seconds(self) -> Duration {
        Duration::from_secs(self)
    }

    fn minutes(self) -> Duration {
        Duration::from_secs(self.saturating_mul(60))
    }

    fn hours(self) -> Duration {
        Duration::from_secs(self.saturating_mul(3_600))
    }

    fn days(self) -> Duration {
        Duration::from_secs(self.saturating_mul(86_400))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_checked_before_a_schedule_is_built() {
        let builders = [
            (crontab("61 * * * *"), "minute `61`: must be 0 to 59"),
            (
                crontab("* * * * *").tz("Europe/Berln"),
                "zone `Europe/Berln`: no such time zone; did you mean `Europe/Berlin`?",
            ),
            (crontab("* * * * *").relative(), "schedule `relative`: only an interval can be relative"),
            (
                cron("0 0 * *"),
                "cron `0 0 * *`: five to seven fields are needed: [second] minute hour day month weekday [year]; there are 4",
            ),
            (every(Duration::ZERO), "interval `0ns`: must be longer than nothing"),
            (every(u64::MAX.days()), "interval `18446744073709551615s`: must be 36525 days, a century, at most"),
            (solar(SolarEvent::Sunset, 100.0, 0.0), "latitude `100`: must be -90 to 90 degrees"),
            (Crontab::new().hour([9, 24]).into(), "hour `24`: must be 0 to 23"),
            (
                Crontab::new().day_of_month(31).month_of_year("feb,apr").into(),
                "day_of_month `31`: never comes in feb,apr",
            ),
        ];
        for (builder, told) in builders {
            let error = builder.build().unwrap_err();
            assert_eq!((error.kind(), error.message()), (celeriac_core::ErrorKind::Config, told));
        }
    }

    #[test]
    fn builders_and_texts_make_the_same_schedules() {
        let at: Timestamp = "2026-11-22T06:57:14Z".parse().unwrap();
        for (builder, text) in [
            (every(90.seconds()), "every 1m30s"),
            (every(1.hours()).relative().tz("Asia/Tokyo"), "every 1h relative [Asia/Tokyo]"),
            (crontab("*/15 9-17 * * 1-5"), "crontab */15 9-17 * * mon-fri"),
            (
                Crontab::new().minute(0).hour(vec![4]).day_of_week("sat").tz("Asia/Tokyo"),
                "crontab 0 4 * * sat [Asia/Tokyo]",
            ),
            (cron("@weekly"), "cron @weekly"),
            (solar(SolarEvent::DuskCivil, 1.0, -2.5), "solar dusk_civil 1 -2.5"),
            (once(at), "once 2026-11-22T06:57:14Z"),
        ] {
            let schedule: Schedule = text.parse().unwrap();
            assert_eq!(builder.build().unwrap(), schedule);
            assert_eq!(ScheduleBuilder::from(schedule.clone()).build().unwrap(), schedule);
            assert_eq!(ScheduleBuilder::from(text).build().unwrap(), schedule);
        }
    }

    #[test]
    fn a_schedule_can_be_moved_to_another_zone() {
        let made = crontab("0 4 * * *").tz("Asia/Tokyo").build().unwrap();
        let moved = ScheduleBuilder::from(made).tz("Europe/Berlin").build().unwrap();
        assert_eq!(moved.to_string(), "crontab 0 4 * * * [Europe/Berlin]");
    }
}
