//! Time zones by name, and where their clocks change.

use std::sync::OnceLock;

use celeriac_core::{Error, Result, Timestamp};
use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::{self, AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

use crate::error::problem;

/// A time zone of the tz database.
#[derive(Debug, Clone)]
pub(crate) struct Zone(TimeZone);

/// Zones are told apart by name, here as in a store.
impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

/// How a civil time is found in a zone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Found {
    /// The clock shows it then. If it does so twice, this is the first time.
    At(Timestamp),
    /// The clock never shows it: it is put forward over it.
    Skipped {
        /// When the clock is put forward.
        change: Timestamp,
        /// What it shows then.
        resumes: DateTime,
    },
}

/// A stretch of civil time that the clock goes through twice, because it is put back at the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repetition {
    /// The first civil time in it.
    pub(crate) start: DateTime,
    /// The first civil time after it.
    pub(crate) end: DateTime,
    /// Whether the clock goes through it for the second time.
    pub(crate) is_second: bool,
    before: Offset,
    after: Offset,
}

impl Repetition {
    /// When the clock shows `civil` for the first time.
    pub(crate) fn first(&self, civil: DateTime) -> Option<Timestamp> {
        instant(civil, self.before)
    }

    /// When the clock shows `civil` for the second time.
    pub(crate) fn second(&self, civil: DateTime) -> Option<Timestamp> {
        instant(civil, self.after)
    }
}

impl Zone {
    pub(crate) const UTC: Self = Self(TimeZone::UTC);

    /// Finds the zone of that name, in upper or lower case.
    ///
    /// The system's database is asked first, because it is kept up to date; then the one that is compiled in, because the system's may be missing or
    /// lack old names.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let zone = tz::db().get(name).or_else(|_| bundled().get(name)).map_err(|_| unknown(name))?;
        match zone.iana_name() {
            // Files of the system's database, which mean something else on each machine.
            None | Some("localtime" | "posixrules") => Err(unknown(name)),
            Some(_) => Ok(Self(zone)),
        }
    }

    /// The name as the database spells it.
    pub(crate) fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// How far the clock is from UTC.
    pub(crate) fn offset(&self, at: Timestamp) -> Offset {
        self.0.to_offset(inner(at))
    }

    /// What the clock shows.
    pub(crate) fn civil(&self, at: Timestamp) -> DateTime {
        civil(at, self.offset(at))
    }

    /// When the clock shows `civil`; `None` outside of the range of times.
    pub(crate) fn find(&self, civil_time: DateTime) -> Option<Found> {
        match self.0.to_ambiguous_timestamp(civil_time).offset() {
            AmbiguousOffset::Unambiguous { offset } => instant(civil_time, offset).map(Found::At),
            AmbiguousOffset::Fold { before, .. } => instant(civil_time, before).map(Found::At),
            AmbiguousOffset::Gap { before, after } => {
                // Counted as before the change, a time that is skipped lies behind it.
                let change = self.change_until(instant(civil_time, before)?)?;
                Some(Found::Skipped { change, resumes: civil(change, after) })
            }
        }
    }

    /// When the clock first shows `civil`, or jumps over it.
    pub(crate) fn first(&self, civil: DateTime) -> Option<Timestamp> {
        self.find(civil).map(|found| match found {
            Found::At(at) | Found::Skipped { change: at, .. } => at,
        })
    }

    /// The repetition that the clock goes through at `at`, when it shows `civil_time`.
    pub(crate) fn repetition(&self, at: Timestamp, civil_time: DateTime) -> Option<Repetition> {
        let AmbiguousOffset::Fold { before, after } = self.0.to_ambiguous_timestamp(civil_time).offset() else {
            return None;
        };
        let is_second = self.offset(at) == after;
        let change = self.change_until(instant(civil_time, after)?)?;
        Some(Repetition { start: civil(change, after), end: civil(change, before), is_second, before, after })
    }

    /// When the clock was last changed, at `at` or before.
    pub(crate) fn change_until(&self, at: Timestamp) -> Option<Timestamp> {
        const INSTANT: SignedDuration = SignedDuration::from_nanos(1);
        let changes = self.0.preceding(inner(at).checked_add(INSTANT).ok()?);
        // There are changes of the name alone.
        let mut real = changes.filter(|change| {
            change.timestamp().checked_sub(INSTANT).is_ok_and(|before| self.0.to_offset(before) != change.offset())
        });
        real.next().map(|change| outer(change.timestamp()))
    }
}

/// When a clock that is `offset` from UTC shows `civil`.
pub(crate) fn instant(civil: DateTime, offset: Offset) -> Option<Timestamp> {
    offset.to_timestamp(civil).ok().map(outer)
}

/// What a clock shows that is `offset` from UTC.
pub(crate) fn civil(at: Timestamp, offset: Offset) -> DateTime {
    offset.to_datetime(inner(at))
}

/// A [`Timestamp`] is always within jiff's range.
fn inner(at: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(at.as_micros()).unwrap_or(jiff::Timestamp::MAX)
}

fn outer(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from_micros(at.as_microsecond())
}

fn bundled() -> &'static TimeZoneDatabase {
    static BUNDLED: OnceLock<TimeZoneDatabase> = OnceLock::new();
    BUNDLED.get_or_init(TimeZoneDatabase::bundled)
}

fn unknown(name: &str) -> Error {
    match nearest(name) {
        Some(nearest) => problem("zone", name, &format!("no such time zone; did you mean `{nearest}`?")),
        None => problem("zone", name, "no such time zone; names are like `Europe/Berlin` or `UTC`"),
    }
}

/// The name of a zone that is written almost like `name`, or ends with it.
fn nearest(name: &str) -> Option<String> {
    let wanted = name.to_lowercase().replace(' ', "_");
    if !(2..=64).contains(&wanted.len()) {
        return None;
    }
    let distance = |known: &str| {
        let known = known.to_lowercase();
        let city = known.rsplit('/').next().unwrap_or_default();
        // A city alone is a worse guess than a whole name as far away.
        (2 * strsim::osa_distance(&known, &wanted)).min(2 * strsim::osa_distance(city, &wanted) + 1)
    };
    // A third of the letters may be wrong.
    let limit = 2 * wanted.len().div_ceil(3);
    let known = bundled().available().map(|known| known.as_str().to_owned());
    known.map(|known| (distance(&known), known)).filter(|(far, _)| *far <= limit).min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use jiff::civil::datetime;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_zone_is_found_in_any_case_and_told_by_its_own_name() {
        assert_eq!(Zone::named("europe/BERLIN").unwrap().name(), "Europe/Berlin");
        assert_eq!(Zone::named("utc").unwrap(), Zone::UTC);
        // An old name, which some systems keep in a package of its own.
        assert_eq!(Zone::named("US/Pacific").unwrap().name(), "US/Pacific");
    }

    #[test]
    fn zones_are_known_without_the_systems_database() {
        for name in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "US/Eastern"] {
            assert!(bundled().get(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn an_unknown_zone_is_named_with_the_nearest_spelling() {
        for (name, meant) in [
            ("Europe/Berln", "Europe/Berlin"),
            ("Berlin", "Europe/Berlin"),
            ("America/NewYork", "America/New_York"),
            ("new york", "America/New_York"),
            ("Asia/Calcuta", "Asia/Calcutta"),
        ] {
            let error = Zone::named(name).unwrap_err();
            assert_eq!(error.message(), format!("zone `{name}`: no such time zone; did you mean `{meant}`?"));
        }
        for name in [
            "",
            "x",
            "localtime",
            "PosixRules",
            "../zoneinfo/UTC",
            "no zone at all is called like this",
            "Etc/Unknown",
            &"z".repeat(10_000),
        ] {
            let error = Zone::named(name).unwrap_err();
            assert!(error.message().contains("no such time zone"), "{error}");
            assert!(error.message().len() < 200, "{error}");
        }
    }

    #[test]
    fn a_skipped_time_is_found_where_the_clock_is_put_forward() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let found = berlin.find(datetime(2026, 3, 29, 2, 30, 0, 0)).unwrap();
        let resumes = datetime(2026, 3, 29, 3, 0, 0, 0);
        assert_eq!(found, Found::Skipped { change: at("2026-03-29T01:00:00Z"), resumes });
        // Samoa left out a whole day.
        let apia = Zone::named("Pacific/Apia").unwrap();
        let found = apia.find(datetime(2011, 12, 30, 12, 0, 0, 0)).unwrap();
        let resumes = datetime(2011, 12, 31, 0, 0, 0, 0);
        assert_eq!(found, Found::Skipped { change: at("2011-12-30T10:00:00Z"), resumes });
    }

    #[test]
    fn a_repetition_knows_both_of_its_times() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let civil = datetime(2026, 10, 25, 2, 30, 0, 0);
        for (instant, is_second) in [(at("2026-10-25T00:30:00Z"), false), (at("2026-10-25T01:30:00Z"), true)] {
            let found = berlin.repetition(instant, civil).unwrap();
            assert_eq!(found.is_second, is_second);
            assert_eq!(found.start, datetime(2026, 10, 25, 2, 0, 0, 0));
            assert_eq!(found.end, datetime(2026, 10, 25, 3, 0, 0, 0));
            assert_eq!(found.first(civil), Some(at("2026-10-25T00:30:00Z")));
            assert_eq!(found.second(civil), Some(at("2026-10-25T01:30:00Z")));
        }
        assert!(berlin.repetition(at("2026-10-25T02:00:00Z"), datetime(2026, 10, 25, 3, 0, 0, 0)).is_none());
    }
}
