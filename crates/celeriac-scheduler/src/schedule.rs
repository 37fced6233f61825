//! A schedule: a value that tells when it comes next, and its one text.

use std::fmt;
use std::iter::FusedIterator;
use std::str::FromStr;
use std::sync::Arc;

use celeriac_core::{Error, Result, Timestamp};
use jiff::civil::DateTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::calendar::Calendar;
use crate::crontab::Crontab;
use crate::error::{LONGEST_TEXT, problem};
use crate::interval::Interval;
use crate::solar::Solar;
use crate::zone::Zone;
use crate::{changes, cron, describe};

/// When something is to happen: a pure function of time, in a time zone.
///
/// Made in code by [`every`](crate::every), [`crontab`](crate::crontab), [`Crontab`](crate::Crontab), [`cron`](crate::cron), [`solar`](crate::solar) and
/// [`once`](crate::once), or read from its text. It is a plain value: cheap to clone, and equal to another if both have the same text.
///
/// # Text
/// One of these, and the zone in brackets unless it is UTC. A schedule has one text ([`Display`](fmt::Display), serde): `*/15` is written so however the
/// minutes were given. What is read may be written differently.
///
/// | text | |
/// |---|---|
/// | `every 1h30m`, `every 1d relative [Europe/Berlin]` | units `d`, `h`, `m`, `s`, `ms` |
/// | `crontab */15 9-17 * * mon-fri [Europe/Berlin]` | minute, hour, day of month, month, day of week |
/// | `cron 0 30 9 LW * *`, `cron @daily` | five to seven fields |
/// | `solar sunset 52.52 13.405` | event, latitude, longitude |
/// | `once 2026-11-22T06:57:14+00:00` | without an offset: the time in the zone |
///
/// # Clock changes
/// Where the clock is put forward, times are skipped; where it is put back, times are repeated. A crontab or cron string that leaves out no hour of the
/// day goes by real time: it comes whenever the clock shows one of its times, twice if they are repeated, and is silent where they are
/// skipped. Any other comes once for each of its times: at the first one of two, and at the moment the clock is put forward, once, for
/// all that are skipped.
///
/// # Examples
/// ```
/// use celeriac_scheduler::Schedule;
///
/// let schedule: Schedule = "crontab 30 2 * * * [Europe/Berlin]".parse()?;
/// // The clock is put forward from 02:00 to 03:00.
/// assert_eq!(schedule.next_after("2026-03-28T12:00:00Z".parse()?), Some("2026-03-29T03:00:00+02:00".parse()?));
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    kind: Kind,
    zone: Zone,
}

/// Crontabs and cron strings are kept as their one line, and as the times that it stands for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Every(Interval),
    Crontab(Arc<str>, Arc<Calendar>),
    Cron(Arc<str>, Arc<Calendar>),
    Solar(Solar),
    Once(Timestamp),
}

impl Kind {
    pub(crate) fn crontab(crontab: &Crontab) -> Result<Self> {
        let bits = crontab.bits()?;
        Ok(Self::Crontab(bits.line().into(), bits.calendar()?.into()))
    }

    pub(crate) fn cron(pattern: &str) -> Result<Self> {
        let line = cron::line(pattern)?;
        let calendar = cron::calendar(&line)?;
        Ok(Self::Cron(line.into(), calendar.into()))
    }
}

impl Schedule {
    pub(crate) fn new(kind: Kind, zone: Zone) -> Self {
        Self { kind, zone }
    }

    pub(crate) fn in_zone(self, zone: Zone) -> Self {
        Self { zone, ..self }
    }

    /// The first time after `instant`, always later than it; `None` if there is none, or not before the year 10000.
    ///
    /// For an interval, `instant` is what it is counted from: the last run, or the start.
    #[must_use]
    pub fn next_after(&self, instant: Timestamp) -> Option<Timestamp> {
        match &self.kind {
            Kind::Every(interval) => interval.next(&self.zone, instant),
            Kind::Crontab(_, calendar) | Kind::Cron(_, calendar) => changes::next(calendar, &self.zone, instant),
            Kind::Solar(solar) => solar.next(instant),
            Kind::Once(at) => Some(*at).filter(|at| *at > instant),
        }
    }

    /// The first time after `instant` of a schedule that began, or last came, at `anchor`: later than both.
    ///
    /// It is [`Schedule::next_after`] the later of the two, but for a plain interval: that keeps to the grid that begins at `anchor`, however many times
    /// of it have gone by.
    #[must_use]
    pub fn next_from(&self, anchor: Timestamp, instant: Timestamp) -> Option<Timestamp> {
        match &self.kind {
            Kind::Every(interval) => interval.next_from(&self.zone, anchor, instant),
            _ => self.next_after(instant.max(anchor)),
        }
    }

    /// All times after `instant`, in order.
    #[must_use]
    pub fn upcoming(&self, instant: Timestamp) -> Upcoming<'_> {
        Upcoming { schedule: self, after: Some(instant) }
    }

    /// The name of the time zone.
    #[must_use]
    pub fn zone(&self) -> &str {
        self.zone.name()
    }

    /// What the schedule means, in English for people: `every 15 minutes from 09:00 to 17:59, Monday to Friday, Europe/Berlin`.
    #[must_use]
    pub fn describe(&self) -> String {
        describe::describe(&self.kind, &self.zone)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Every(interval) => write!(f, "every {interval}")?,
            Kind::Crontab(line, _) => write!(f, "crontab {line}")?,
            Kind::Cron(line, _) => write!(f, "cron {line}")?,
            Kind::Solar(Solar { event, latitude, longitude }) => write!(f, "solar {event} {latitude} {longitude}")?,
            Kind::Once(at) => write!(f, "once {at}")?,
        }
        if self.zone == Zone::UTC { Ok(()) } else { write!(f, " [{}]", self.zone.name()) }
    }
}

impl FromStr for Schedule {
    type Err = Error;

    /// Reads the text of a schedule.
    fn from_str(text: &str) -> Result<Self> {
        if text.len() > LONGEST_TEXT {
            return Err(problem("schedule", text, &format!("must be {LONGEST_TEXT} bytes at most")));
        }
        let (rest, zone) = match text.trim().strip_suffix(']').and_then(|text| text.rsplit_once('[')) {
            Some((rest, zone)) => (rest, Zone::named(zone.trim())?),
            None => (text, Zone::UTC),
        };
        let rest = rest.trim();
        let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let rest = rest.trim();
        let kind = match word {
            "every" => match rest.strip_suffix("relative") {
                Some(period) => Kind::Every(Interval::parse(period.trim_end(), true)?),
                None => Kind::Every(Interval::parse(rest, false)?),
            },
            "crontab" => Kind::crontab(&Crontab::parse(rest)?)?,
            "cron" => Kind::cron(rest)?,
            "solar" => Kind::Solar(parse_solar(rest)?),
            "once" => Kind::Once(parse_instant(rest, &zone)?),
            _ => {
                let expected = "must begin with `every`, `crontab`, `cron`, `solar` or `once`";
                return Err(problem("schedule", text, expected));
            }
        };
        Ok(Self::new(kind, zone))
    }
}

fn parse_solar(text: &str) -> Result<Solar> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [event, latitude, longitude] = words[..] else {
        return Err(problem("solar", text, "an event, a latitude and a longitude are needed"));
    };
    let degrees = |name, text: &str| text.parse().map_err(|_| problem(name, text, "must be a number of degrees"));
    Solar::new(event.parse()?, degrees("latitude", latitude)?, degrees("longitude", longitude)?)
}

fn parse_instant(text: &str, zone: &Zone) -> Result<Timestamp> {
    let wrong = || problem("once", text, "must be a date and time, such as `2026-11-22T06:57:14+00:00`");
    if text.parse::<jiff::Timestamp>().is_err()
        && let Ok(civil) = text.parse::<DateTime>()
    {
        return zone.first(civil).ok_or_else(wrong);
    }
    text.parse().map_err(|_| wrong())
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The times of a schedule, in order. See [`Schedule::upcoming`].
#[derive(Debug, Clone)]
pub struct Upcoming<'a> {
    schedule: &'a Schedule,
    after: Option<Timestamp>,
}

impl Iterator for Upcoming<'_> {
    type Item = Timestamp;

    fn next(&mut self) -> Option<Timestamp> {
        self.after = self.schedule.next_after(self.after?);
        self.after
    }
}

impl FusedIterator for Upcoming<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Schedule>().unwrap_err().message().to_owned()
    }

    #[test]
    fn a_schedule_has_one_text() {
        for (given, text) in [
            ("every 90m", "every 1h30m"),
            ("every  1d   relative [utc]", "every 1d relative"),
            ("crontab 0,15,30,45 9-17 * * 1-5 [europe/berlin]", "crontab */15 9-17 * * mon-fri [Europe/Berlin]"),
            ("cron 0 30 9 lw * *", "cron 0 30 9 LW * *"),
            ("cron @DAILY [Asia/Tokyo]", "cron @daily [Asia/Tokyo]"),
            ("solar sunset 52.520 -0.0", "solar sunset 52.52 0"),
            ("once 2026-11-22T12:27:14.257208+05:30", "once 2026-11-22T06:57:14.257208+00:00"),
            ("once 2026-11-22 09:00 [Europe/Berlin]", "once 2026-11-22T08:00:00+00:00 [Europe/Berlin]"),
            ("once 2026-03-29T02:30 [Europe/Berlin]", "once 2026-03-29T01:00:00+00:00 [Europe/Berlin]"),
        ] {
            let schedule: Schedule = given.parse().unwrap();
            assert_eq!(schedule.to_string(), text);
            assert_eq!(text.parse::<Schedule>().unwrap(), schedule);
            let json = serde_json::to_string(&schedule).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule);
        }
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        let begin = "must begin with `every`, `crontab`, `cron`, `solar` or `once`";
        for text in ["", " ", "* * * * *", "[UTC]", "Every 5m", "crontab* * * * *"] {
            assert_eq!(error(text), format!("schedule `{text}`: {begin}"));
        }
        assert!(error(&"a".repeat(5_000)).ends_with("a..`: must be 1000 bytes at most"));
        assert!(error("crontab * * * *").ends_with("day of month, month, day of week; there are 4"));
        assert!(error("crontab 0 0 30 2 *").starts_with("day_of_month `30`: never comes in feb"));
        assert!(error("crontab * * * * * [Mars/Olympus]").starts_with("zone `Mars/Olympus`: no such time zone"));
        assert!(error("crontab * * * * * []").starts_with("zone ``: no such time zone"));
        assert!(error("solar sunset 1").contains("a latitude and a longitude are needed"));
        assert_eq!(error("solar sunset x 1"), "latitude `x`: must be a number of degrees");
        assert!(error("solar sunset 91 1").starts_with("latitude `91`: must be"));
        assert!(error("once tomorrow").contains("must be a date and time"));
        assert!(error("once").contains("must be a date and time"));
    }

    #[test]
    fn once_comes_once() {
        let at: Timestamp = "2026-11-22T06:57:14Z".parse().unwrap();
        let once = crate::once(at).build().unwrap();
        assert_eq!(once.upcoming(at - std::time::Duration::from_micros(1)).collect::<Vec<_>>(), [at]);
        assert_eq!(once.next_after(at), None);
        assert_eq!(once.next_from(at, at - std::time::Duration::from_secs(9)), None);
    }

    #[test]
    fn a_schedule_that_ends_is_at_its_end() {
        let cron: Schedule = "cron 0 0 12 1 1 * 2026-2027".parse().unwrap();
        let times = cron.upcoming(Timestamp::from_micros(i64::MIN)).map(|time| time.to_string()).collect::<Vec<_>>();
        assert_eq!(times, ["2026-01-01T12:00:00+00:00", "2027-01-01T12:00:00+00:00"]);
        let daily: Schedule = "crontab 0 0 * * * [Pacific/Kiritimati]".parse().unwrap();
        assert_eq!(daily.next_after(Timestamp::from_micros(i64::MAX)), None);
    }
}
