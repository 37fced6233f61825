//! Instants, the clock they come from, and the ISO 8601 texts in which Celery sends them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// An instant in UTC, in whole microseconds since 1970: as fine as Celery sends it.
///
/// # Examples
/// ```
/// use celeriac_core::Timestamp;
///
/// let eta: Timestamp = "2026-11-22T12:27:14.257208+05:30".parse()?;
/// assert_eq!(eta.to_string(), "2026-11-22T06:57:14.257208+00:00");
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// 9999-12-30T22:00:00Z, the last instant that has a civil date in every zone. Later ones are clamped to it.
const MAX_MICROS: i64 = 253_402_207_200_000_000;
/// -9999-01-02T01:59:59Z.
const MIN_MICROS: i64 = -377_705_023_201_000_000;

impl Timestamp {
    /// The instant `micros` microseconds after 1970-01-01T00:00:00Z, clamped to the years -9999 to 9999.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        if micros > MAX_MICROS {
            Self(MAX_MICROS)
        } else if micros < MIN_MICROS {
            Self(MIN_MICROS)
        } else {
            Self(micros)
        }
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The wall clock's instant. Code that decides by time takes a [`Clock`] instead.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The time from `earlier` to `self`; zero if `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_add(micros))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_sub(micros))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(0) + after,
            Err(before) => Self(0) - before.duration(),
        }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let distance = Duration::from_micros(time.0.unsigned_abs());
        if time.0 < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
    }
}

/// Python's `isoformat()` in UTC: microseconds left out when zero, offset `+00:00`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_microsecond(self.0).map_err(|_| fmt::Error)?;
        let civil = jiff::tz::Offset::UTC.to_datetime(time);
        let (date, clock) = (civil.date(), civil.time());
        write!(f, "{:04}-{:02}-{:02}T", date.year(), date.month(), date.day())?;
        write!(f, "{:02}:{:02}:{:02}", clock.hour(), clock.minute(), clock.second())?;
        let micros = self.0.rem_euclid(1_000_000);
        if micros != 0 {
            write!(f, ".{micros:06}")?;
        }
        f.write_str("+00:00")
    }
}

/// Reads every form Celery's reader takes: see [`WireTime`].
impl FromStr for Timestamp {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            Error::malformed("parse time", format!("`{shown}` is not an ISO 8601 date and time"))
        })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let text = shorten_fraction(text.trim())?;
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp::from_micros(instant.as_microsecond()));
    }
    // COMPAT: celery reads a time without offset as UTC (celery/utils/time.py::maybe_make_aware).
    let civil: civil::DateTime = text.parse().ok()?;
    let instant = jiff::tz::Offset::UTC.to_timestamp(civil).ok()?;
    Some(Timestamp::from_micros(instant.as_microsecond()))
}

/// Python accepts fractions of any length, jiff up to nine digits; six are kept anyway.
fn shorten_fraction(text: &str) -> Option<String> {
    if text.len() > 128 {
        return None;
    }
    let mut short = String::with_capacity(text.len());
    // None: no fraction yet, or past it. Some(n): n digits of it are read.
    let mut digits: Option<usize> = None;
    let mut seen = false;
    for letter in text.chars() {
        match (digits, letter) {
            (None, '.' | ',') if !seen => {
                (digits, seen) = (Some(0), true);
                short.push('.');
            }
            (Some(count), '0'..='9') => {
                if count < 9 {
                    short.push(letter);
                }
                digits = Some(count + 1);
            }
            _ => {
                digits = None;
                short.push(letter);
            }
        }
    }
    Some(short)
}

/// An instant as it came over the wire: the text is kept, so that it goes on unchanged.
///
/// Reads what Celery's reader takes: offset `Z`, `+HH:MM` or `+HHMM`; `T` or a space; basic form; fractions of any length
/// after `.` or `,`; a date alone. A text without offset means UTC.
///
/// # Wire format
/// `eta` and `expires` of protocol 2, `docs/internals/protocol.rst` (celery 5.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireTime {
    instant: Timestamp,
    text: Arc<str>,
}

impl WireTime {
    /// The instant that the text means.
    #[must_use]
    pub fn instant(&self) -> Timestamp {
        self.instant
    }

    /// The text as it came, or Python's `isoformat()` in UTC if made here.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl From<Timestamp> for WireTime {
    fn from(instant: Timestamp) -> Self {
        Self { instant, text: instant.to_string().into() }
    }
}

impl FromStr for WireTime {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Ok(Self { instant: text.parse()?, text: text.into() })
    }
}

/// Where the time comes from: injected everywhere, so that tests own it.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

/// The machine's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_micros()
    }

    #[test]
    fn every_form_that_celery_reads_means_the_same_instant() {
        let expected = micros("2026-11-22T06:57:14+00:00");
        for form in [
            "2026-11-22T06:57:14Z",
            "2026-11-22T12:27:14+05:30",
            "2026-11-22T12:27:14+0530",
            "2026-11-22 06:57:14",
            "2026-11-22T06:57:14",
            "20261122T065714Z",
            "2026-11-22T06:57:14.000000000000+00:00",
            "2026-11-22T06:57:14,000Z",
        ] {
            assert_eq!(micros(form), expected, "{form}");
        }
        assert_eq!(micros("2026-11-22"), micros("2026-11-22T00:00:00Z"));
    }

    #[test]
    fn microseconds_are_kept_and_left_out_when_zero() {
        assert_eq!(Timestamp::from_micros(1_500_000).to_string(), "1970-01-01T00:00:01.500000+00:00");
        assert_eq!(Timestamp::from_micros(1_000_000).to_string(), "1970-01-01T00:00:01+00:00");
        assert_eq!(Timestamp::from_micros(-500_000).to_string(), "1969-12-31T23:59:59.500000+00:00");
    }

    #[test]
    fn the_text_of_a_wire_time_goes_on_unchanged() {
        let time: WireTime = "2026-11-22T12:27:14.257208+05:30".parse().unwrap();
        assert_eq!(time.as_str(), "2026-11-22T12:27:14.257208+05:30");
    }

    #[test]
    fn nonsense_is_an_error_and_far_times_are_clamped() {
        for bad in ["", "tomorrow", "2026-13-01T00:00:00Z", &"9".repeat(500)] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
        let far = Timestamp::from_micros(i64::MAX);
        assert_eq!(far + Duration::MAX, far);
        assert!(far.to_string().starts_with("9999-"));
    }
}
