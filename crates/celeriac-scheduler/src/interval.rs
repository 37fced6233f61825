//! Intervals: plain ones, and Celery's `relative` ones, which are rounded to the unit.

use std::fmt;
use std::time::Duration;

use celeriac_core::{Result, Timestamp};
use jiff::SignedDuration;
use jiff::civil::{DateTime, DateTimeRound};
use jiff::{RoundMode, Unit as Rounding};

use crate::error::problem;
use crate::zone::{self, Found, Zone};

/// A century.
const LONGEST: Duration = Duration::from_secs(36_525 * DAY);
const DAY: u64 = 24 * HOUR;
const HOUR: u64 = 60 * MINUTE;
const MINUTE: u64 = 60;

/// The units of an interval's text, the longest first.
const UNITS: [(&str, &str, Duration); 5] = [
    ("d", "day", Duration::from_secs(DAY)),
    ("h", "hour", Duration::from_secs(HOUR)),
    ("m", "minute", Duration::from_secs(MINUTE)),
    ("s", "second", Duration::from_secs(1)),
    ("ms", "millisecond", Duration::from_millis(1)),
];

/// A time span, in whole milliseconds, and whether it ends where the clock shows a full unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval {
    period: Duration,
    pub(crate) relative: bool,
}

impl Interval {
    pub(crate) fn new(period: Duration, relative: bool) -> Result<Self> {
        let wrong = |what: &str| Err(problem("interval", &format!("{period:?}"), what));
        if period.is_zero() {
            return wrong("must be longer than nothing");
        }
        if period > LONGEST {
            return wrong("must be 36525 days, a century, at most");
        }
        if !period.subsec_nanos().is_multiple_of(1_000_000) {
            return wrong("must be whole milliseconds");
        }
        Ok(Self { period, relative })
    }

    /// Reads `1h30m`; blanks may stand between.
    pub(crate) fn parse(text: &str, relative: bool) -> Result<Self> {
        let wrong =
            || problem("interval", text, "must be numbers with a unit each: `d`, `h`, `m`, `s` or `ms`, as in `1h30m`");
        let mut period = Duration::ZERO;
        let mut rest = text;
        let mut units = UNITS.iter();
        while !rest.is_empty() {
            let (number, after) = rest.split_at(rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?);
            let (unit, after) =
                after.split_at(after.find(|letter: char| !letter.is_alphabetic()).unwrap_or(after.len()));
            // Each unit once, the longest first.
            let (_, _, length) = units.find(|(short, ..)| *short == unit).ok_or_else(wrong)?;
            // What is no number that fits is too long, too.
            let number = if number.is_empty() { None } else { Some(number.parse().unwrap_or(u32::MAX)) };
            period = period.saturating_add(length.saturating_mul(number.ok_or_else(wrong)?));
            rest = after.trim_start();
        }
        if text.is_empty() {
            return Err(wrong());
        }
        Self::new(period, relative)
    }

    pub(crate) fn next(&self, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
        if self.relative { self.next_full(zone, after) } else { exactly(after, self.period) }
    }

    /// The first end of an interval after `after`, when one begins at `anchor`, and each where the one before ends.
    pub(crate) fn next_from(&self, zone: &Zone, anchor: Timestamp, after: Timestamp) -> Option<Timestamp> {
        if self.relative || after <= anchor {
            return self.next(zone, after.max(anchor));
        }
        let period = self.period.as_micros();
        let behind = after.since(anchor).as_micros() / period * period;
        exactly(anchor, Duration::from_micros(u64::try_from(behind).ok()?) + self.period)
    }

    /// COMPAT: `celery/utils/time.py::remaining` with `relative` (celery 5.7). Intervals of days are counted by the calendar, and end at
    /// midnight. Shorter ones end when the clock shows a full hour, minute or second, at the latest such time within the interval.
    fn next_full(&self, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
        let unit = match self.period.as_secs() {
            DAY.. => {
                let end = zone.civil(after).checked_add(SignedDuration::try_from(self.period).ok()?).ok()?;
                return zone.first(whole(end, Rounding::Day)?).filter(|at| *at > after);
            }
            HOUR.. => Rounding::Hour,
            MINUTE.. => Rounding::Minute,
            _ => Rounding::Second,
        };
        let end = exactly(after, self.period)?;
        let mut at = end;
        while at > after {
            let full = zone::instant(whole(zone.civil(at), unit)?, zone.offset(at))?;
            match zone.change_until(at) {
                Some(change) if full < change => at = change - Duration::from_micros(1),
                _ if full > after => return Some(full),
                _ => break,
            }
        }
        // The clock was put forward over it, or the interval is shorter than its unit.
        let mut from = zone.civil(end);
        loop {
            match zone.find(following(from, unit)?)? {
                Found::At(at) => return Some(at),
                Found::Skipped { resumes, .. } => from = resumes.checked_sub(SignedDuration::from_nanos(1)).ok()?,
            }
        }
    }

    /// `30 minutes`, `1 hour 30 minutes`.
    pub(crate) fn spoken(&self) -> String {
        let parts = self.parts().map(|(count, _, long)| format!("{count} {long}{}", if count == 1 { "" } else { "s" }));
        parts.collect::<Vec<_>>().join(" ")
    }

    /// The unit that relative ends are rounded to.
    pub(crate) fn full_unit(&self) -> &'static str {
        UNITS[..3].iter().find(|(_, _, length)| self.period >= *length).map_or("second", |(_, long, _)| long)
    }

    /// The count of each unit that is there.
    fn parts(&self) -> impl Iterator<Item = (u128, &'static str, &'static str)> {
        let mut rest = self.period.as_millis();
        UNITS.into_iter().filter_map(move |(short, long, length)| {
            let count = rest / length.as_millis();
            rest %= length.as_millis();
            (count > 0).then_some((count, short, long))
        })
    }
}

/// `1h30m`.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().try_for_each(|(count, short, _)| write!(f, "{count}{short}"))?;
        f.write_str(if self.relative { " relative" } else { "" })
    }
}

/// `None` past the end of time.
fn exactly(from: Timestamp, period: Duration) -> Option<Timestamp> {
    let at = from + period;
    (at.since(from) == period).then_some(at)
}

fn whole(time: DateTime, unit: Rounding) -> Option<DateTime> {
    time.round(DateTimeRound::new().smallest(unit).mode(RoundMode::Trunc)).ok()
}

/// The first whole `unit` after `time`.
fn following(time: DateTime, unit: Rounding) -> Option<DateTime> {
    let length = match unit {
        Rounding::Hour => HOUR,
        Rounding::Minute => MINUTE,
        _ => 1,
    };
    whole(time, unit)?.checked_add(SignedDuration::from_secs(i64::try_from(length).ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn relative(text: &str, zone: &str, after: &str) -> Timestamp {
        let interval = Interval::parse(text, true).unwrap();
        interval.next(&Zone::named(zone).unwrap(), at(after)).unwrap()
    }

    #[test]
    fn a_text_is_read_and_written() {
        for (given, text) in [
            ("30m", "30m"),
            ("90m", "1h30m"),
            ("86400s", "1d"),
            ("1d 2h 3m 4s 5ms", "1d2h3m4s5ms"),
            ("1500ms", "1s500ms"),
            ("36525d", "36525d"),
        ] {
            assert_eq!(Interval::parse(given, false).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_time_span_is_refused() {
        for text in ["", "5", "m", "5x", "-5m", "1.5h", "1m1h", "1h1h", "5 m", "m5", "1h,1m", "١m"] {
            let error = Interval::parse(text, false).unwrap_err();
            assert!(error.message().contains("must be numbers with a unit each"), "{text}: {error}");
        }
        assert_eq!(Interval::parse("0s", false).unwrap_err().message(), "interval `0ns`: must be longer than nothing");
        for text in ["36525d1ms", "99999999999999999999999d", "4294967295d4294967295h"] {
            let error = Interval::parse(text, false).unwrap_err();
            assert!(error.message().ends_with("must be 36525 days, a century, at most"), "{error}");
        }
        let error = Interval::new(Duration::from_micros(1_500), false).unwrap_err();
        assert_eq!(error.message(), "interval `1.5ms`: must be whole milliseconds");
        assert!(Interval::new(Duration::MAX, false).is_err());
    }

    #[test]
    fn a_plain_interval_keeps_to_the_grid_of_its_anchor() {
        let interval = Interval::parse("7m", false).unwrap();
        let anchor = at("2026-01-01T00:00:30Z");
        assert_eq!(interval.next(&Zone::UTC, anchor), Some(at("2026-01-01T00:07:30Z")));
        for (after, next) in [
            ("2025-01-01T00:00:00Z", "2026-01-01T00:07:30Z"),
            ("2026-01-01T00:00:30Z", "2026-01-01T00:07:30Z"),
            ("2026-01-01T00:07:29Z", "2026-01-01T00:07:30Z"),
            ("2026-01-01T00:07:30Z", "2026-01-01T00:14:30Z"),
            ("2026-01-02T00:00:00Z", "2026-01-02T00:02:30Z"),
        ] {
            assert_eq!(interval.next_from(&Zone::UTC, anchor, at(after)), Some(at(next)), "{after}");
        }
    }

    #[test]
    fn an_interval_ends_with_time() {
        let last = Timestamp::from_micros(i64::MAX);
        let interval = Interval::parse("1d", false).unwrap();
        assert_eq!(interval.next(&Zone::UTC, last), None);
        assert_eq!(interval.next_from(&Zone::UTC, Timestamp::from_micros(i64::MIN), last), None);
        assert_eq!(Interval::parse("1d", true).unwrap().next(&Zone::UTC, last), None);
        assert_eq!(Interval::parse("1h", true).unwrap().next(&Zone::UTC, last), None);
    }

    #[test]
    fn a_relative_interval_ends_at_a_full_unit() {
        assert_eq!(relative("1h", "UTC", "2026-05-05T10:20:30Z"), at("2026-05-05T11:00:00Z"));
        assert_eq!(relative("1h", "UTC", "2026-05-05T11:00:00Z"), at("2026-05-05T12:00:00Z"));
        assert_eq!(relative("5h", "UTC", "2026-05-05T10:20:30Z"), at("2026-05-05T15:00:00Z"));
        assert_eq!(relative("10m", "UTC", "2026-05-05T10:20:30Z"), at("2026-05-05T10:30:00Z"));
        assert_eq!(relative("10s", "UTC", "2026-05-05T10:20:30.5Z"), at("2026-05-05T10:20:40Z"));
        assert_eq!(relative("100ms", "UTC", "2026-05-05T10:20:30.5Z"), at("2026-05-05T10:20:31Z"));
        // A full hour in Kathmandu is a quarter past in UTC.
        assert_eq!(relative("1h", "Asia/Kathmandu", "2026-05-05T10:20:00Z"), at("2026-05-05T11:15:00Z"));
    }

    #[test]
    fn relative_days_are_counted_by_the_calendar() {
        assert_eq!(relative("1d", "Europe/Berlin", "2026-03-28T12:00:00+01:00"), at("2026-03-29T00:00:00+01:00"));
        assert_eq!(relative("1d", "Europe/Berlin", "2026-03-29T00:00:00+01:00"), at("2026-03-30T00:00:00+02:00"));
        // Midnight is skipped in Havana.
        assert_eq!(relative("1d", "America/Havana", "2026-03-07T12:00:00-05:00"), at("2026-03-08T01:00:00-04:00"));
    }

    #[test]
    fn relative_hours_follow_the_clock_through_its_changes() {
        // 02:00 comes twice.
        assert_eq!(relative("1h", "Europe/Berlin", "2026-10-25T02:10:00+02:00"), at("2026-10-25T02:00:00+01:00"));
        assert_eq!(relative("1h", "Europe/Berlin", "2026-10-25T02:00:00+01:00"), at("2026-10-25T03:00:00+01:00"));
        // From 02:00 on it is 02:30, and no full hour came within the hour.
        let lord_howe = relative("1h", "Australia/Lord_Howe", "2026-10-04T01:10:00+10:30");
        assert_eq!(lord_howe, at("2026-10-04T03:00:00+11:00"));
    }
}
