//! Events of the sun at a place: when it crosses the meridian, or a height above the horizon.
//!
//! Time is cut where the sun stands highest and lowest. Between two such moments it only rises or only sinks, so it crosses a height once or not at all.
//! Each cut is found from its number alone, whatever time one searches from: an event is the same for every search.

mod position;

use std::fmt;
use std::str::FromStr;

use celeriac_core::{Error, Result, Timestamp};

use crate::error::problem;
use position::Sun;

/// An event of the sun, by Celery's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SolarEvent {
    /// The sun's centre rises above 18° below the horizon: the first light.
    DawnAstronomical,
    /// The sun's centre rises above 12° below the horizon.
    DawnNautical,
    /// The sun's centre rises above 6° below the horizon.
    DawnCivil,
    /// The sun's upper edge appears.
    Sunrise,
    /// The sun crosses the meridian, at its highest.
    SolarNoon,
    /// The sun's upper edge disappears.
    Sunset,
    /// The sun's centre sinks below 6° below the horizon.
    DuskCivil,
    /// The sun's centre sinks below 12° below the horizon.
    DuskNautical,
    /// The sun's centre sinks below 18° below the horizon: the last light.
    DuskAstronomical,
}

/// What an event is, in terms of the sun's height.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Crossing {
    Noon,
    Rising(Height),
    Sinking(Height),
}

/// In degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Height {
    Centre(f64),
    UpperEdge(f64),
}

impl SolarEvent {
    /// All of them, in the order of a day.
    pub const ALL: [Self; 9] = [
        Self::DawnAstronomical,
        Self::DawnNautical,
        Self::DawnCivil,
        Self::Sunrise,
        Self::SolarNoon,
        Self::Sunset,
        Self::DuskCivil,
        Self::DuskNautical,
        Self::DuskAstronomical,
    ];

    /// Celery's name, such as `dawn_civil`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DawnAstronomical => "dawn_astronomical",
            Self::DawnNautical => "dawn_nautical",
            Self::DawnCivil => "dawn_civil",
            Self::Sunrise => "sunrise",
            Self::SolarNoon => "solar_noon",
            Self::Sunset => "sunset",
            Self::DuskCivil => "dusk_civil",
            Self::DuskNautical => "dusk_nautical",
            Self::DuskAstronomical => "dusk_astronomical",
        }
    }

    /// COMPAT: the heights of `celery/schedules.py::solar` (celery 5.7). The horizon of 34' below is what the air bends.
    const fn crossing(self) -> Crossing {
        const HORIZON: f64 = -34.0 / 60.0;
        match self {
            Self::DawnAstronomical => Crossing::Rising(Height::Centre(-18.0)),
            Self::DawnNautical => Crossing::Rising(Height::Centre(-12.0)),
            Self::DawnCivil => Crossing::Rising(Height::Centre(-6.0)),
            Self::Sunrise => Crossing::Rising(Height::UpperEdge(HORIZON)),
            Self::SolarNoon => Crossing::Noon,
            Self::Sunset => Crossing::Sinking(Height::UpperEdge(HORIZON)),
            Self::DuskCivil => Crossing::Sinking(Height::Centre(-6.0)),
            Self::DuskNautical => Crossing::Sinking(Height::Centre(-12.0)),
            Self::DuskAstronomical => Crossing::Sinking(Height::Centre(-18.0)),
        }
    }
}

impl fmt::Display for SolarEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SolarEvent {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == text).ok_or_else(|| {
            let all = Self::ALL.map(|event| format!("`{event}`")).join(", ");
            problem("solar event", text, &format!("must be one of {all}"))
        })
    }
}

/// An event at a place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Solar {
    pub(crate) event: SolarEvent,
    /// In degrees, north is positive.
    pub(crate) latitude: f64,
    /// In degrees, east is positive.
    pub(crate) longitude: f64,
}

/// Days, counted from the noon in Greenwich that began the year 2000.
type Days = f64;

const MICROS_PER_DAY: f64 = 86_400e6;
/// 2000-01-01T12:00:00Z.
const EPOCH_MICROS: i64 = 946_728_000_000_000;

/// Every event comes once in a year at least, at the poles too.
const SEARCHED_DAYS: i64 = 400;

impl Solar {
    pub(crate) fn new(event: SolarEvent, latitude: f64, longitude: f64) -> Result<Self> {
        for (name, degrees, most) in [("latitude", latitude, 90.0), ("longitude", longitude, 180.0)] {
            if !(-most..=most).contains(&degrees) {
                return Err(problem(name, &degrees.to_string(), &format!("must be -{most} to {most} degrees")));
            }
        }
        // There is one zero, so that there is one text for it.
        Ok(Self { event, latitude: latitude + 0.0, longitude: longitude + 0.0 })
    }

    /// The first such event after `after`, to the second.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let cut = self.cut_before(after);
        let crossing = self.event.crossing();
        let height = match crossing {
            Crossing::Noon => {
                let noons = (cut..=cut + 5).filter(|cut| cut % 2 == 0);
                return noons.map(|noon| instant(self.cut(noon))).find(|at| *at > after);
            }
            Crossing::Rising(height) | Crossing::Sinking(height) => height,
        };
        let rises = matches!(crossing, Crossing::Rising(_));
        // Above the height sought, below it if the event is a sinking.
        let above = |days: Days| {
            let sun = Sun::at(days);
            let seen = sun.altitude(days, self.latitude, self.longitude);
            let above = match height {
                Height::Centre(sought) => seen - sought,
                Height::UpperEdge(sought) => seen + sun.radius() - sought,
            };
            if rises { above } else { -above }
        };
        let mut from = self.cut(cut);
        let mut from_above = above(from);
        for cut in cut + 1..=cut + 2 * SEARCHED_DAYS {
            let to = self.cut(cut);
            let to_above = above(to);
            if from_above < 0.0 && to_above >= 0.0 {
                let at = instant(root(above, (from, from_above), (to, to_above)));
                if at > after {
                    return Some(at);
                }
            }
            (from, from_above) = (to, to_above);
        }
        None
    }

    /// A cut that is before `at`, and two at most behind it.
    fn cut_before(&self, at: Timestamp) -> i64 {
        let days = days(at) + self.longitude / 360.0;
        #[expect(clippy::cast_possible_truncation, reason = "a few million")]
        let cut = (days * 2.0).floor() as i64;
        cut - 1
    }

    /// When the sun stands highest, for the even numbers, and lowest, for the odd ones. Half a day lies between two of them, more or less.
    fn cut(&self, cut: i64) -> Days {
        #[expect(clippy::cast_precision_loss, reason = "a few million")]
        let half_days = cut as f64;
        let mut days = half_days / 2.0 - self.longitude / 360.0;
        let sought = if cut % 2 == 0 { 0.0 } else { 180.0 };
        // The sun is early or late by a few minutes at most; each round takes the rest down to a hundredth.
        for _ in 0..4 {
            days += half_turn(sought - Sun::at(days).hour_angle(days, self.longitude)) / 360.0;
        }
        days
    }
}

/// Where `f` is zero, given where it is below zero and where it is not: by false position (Illinois), to a hundredth of a second.
fn root(f: impl Fn(Days) -> f64, below: (Days, f64), above: (Days, f64)) -> Days {
    const CLOSE: Days = 1e-7;
    let (mut low, mut high) = (below, above);
    let mut last_was_low = None;
    for _ in 0..60 {
        if (high.0 - low.0).abs() < CLOSE || high.1 == 0.0 {
            break;
        }
        let at = (low.0 * high.1 - high.0 * low.1) / (high.1 - low.1);
        let value = f(at);
        let is_low = value < 0.0;
        let (moved, kept) = if is_low { (&mut low, &mut high) } else { (&mut high, &mut low) };
        let came = (moved.0 - at).abs();
        *moved = (at, value);
        if came < CLOSE {
            return at;
        }
        // An end that stays weighs half the next time, so that it moves too.
        if last_was_low == Some(is_low) {
            kept.1 /= 2.0;
        }
        last_was_low = Some(is_low);
    }
    high.0
}

/// Within a half turn, in degrees.
fn half_turn(degrees: f64) -> f64 {
    (degrees + 180.0).rem_euclid(360.0) - 180.0
}

fn days(at: Timestamp) -> Days {
    #[expect(clippy::cast_precision_loss, reason = "to a few microseconds")]
    let micros = at.as_micros().saturating_sub(EPOCH_MICROS) as f64;
    micros / MICROS_PER_DAY
}

/// To the nearest second: more is not known of the horizon.
fn instant(days: Days) -> Timestamp {
    #[expect(clippy::cast_possible_truncation, reason = "rounded; out of range it is clamped")]
    let seconds = (days * 86_400.0).round() as i64;
    Timestamp::from_micros(seconds.saturating_mul(1_000_000).saturating_add(EPOCH_MICROS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn times(event: SolarEvent, latitude: f64, longitude: f64, from: &str, until: &str) -> Vec<Timestamp> {
        let solar = Solar::new(event, latitude, longitude).unwrap();
        let times = std::iter::successors(solar.next(at(from)), |last| solar.next(*last));
        times.take_while(|time| *time < at(until)).collect()
    }

    #[test]
    fn each_event_comes_when_ephem_says() {
        // ephem 4.2.1, as Celery 5.7 asks it; cut off below the second.
        for (event, latitude, longitude, after, expected) in [
            (SolarEvent::Sunset, 52.52, 13.405, "2026-06-21T12:00:00Z", "2026-06-21T19:33:14Z"),
            (SolarEvent::DawnAstronomical, 49.346, -40.499, "2037-06-25T03:17:45Z", "2037-07-06T02:48:45Z"),
            (SolarEvent::DawnNautical, 78.855, 126.969, "1991-12-20T11:38:00Z", "1991-12-31T03:29:04Z"),
            (SolarEvent::DawnCivil, 73.301, -163.067, "2047-07-12T15:59:09Z", "2047-08-25T11:04:04Z"),
            (SolarEvent::Sunrise, 77.313, -61.442, "2034-02-08T15:49:00Z", "2034-02-12T16:12:10Z"),
            (SolarEvent::DuskCivil, -74.323, 100.732, "2047-01-19T02:35:59Z", "2047-02-23T17:23:31Z"),
        ] {
            let ours = Solar::new(event, latitude, longitude).unwrap().next(at(after)).unwrap();
            let apart = ours.since(at(expected)).max(at(expected).since(ours));
            // A height that is only just reached, and is crossed slowly.
            assert!(apart.as_secs() <= 15, "{event}: {ours}");
        }
    }

    #[test]
    fn the_sun_sets_every_day_where_it_does() {
        let days = times(SolarEvent::Sunset, 48.2, 16.4, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        assert_eq!(days.len(), 365);
        let noons = times(SolarEvent::SolarNoon, 48.2, 180.0, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        assert_eq!(noons.len(), 365);
    }

    #[test]
    fn polar_days_and_nights_are_passed_over() {
        // Longyearbyen: no sunrise from late October to mid February, none from mid April to late August.
        let rises = times(SolarEvent::Sunrise, 78.22, 15.65, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        assert!((110..140).contains(&rises.len()), "{}", rises.len());
        assert!(rises[0] > at("2026-02-10T00:00:00Z") && rises[0] < at("2026-02-20T00:00:00Z"));
    }

    #[test]
    fn at_the_poles_each_event_comes_once_a_year() {
        for latitude in [90.0, -90.0, 89.9999] {
            for event in SolarEvent::ALL {
                let times = times(event, latitude, 0.0, "2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z");
                let expected = if event == SolarEvent::SolarNoon { 3_652 } else { 10 };
                assert_eq!(times.len(), expected, "{event} at {latitude}");
            }
        }
    }

    #[test]
    fn far_times_are_searched_no_longer_than_near_ones() {
        for micros in [i64::MIN, i64::MAX, 0] {
            for event in SolarEvent::ALL {
                let next = Solar::new(event, 70.0, -180.0).unwrap().next(Timestamp::from_micros(micros));
                assert_eq!(next.is_none(), micros == i64::MAX, "{event}");
            }
        }
    }

    #[test]
    fn a_place_off_the_earth_is_refused() {
        for (latitude, longitude, told) in [
            (90.5, 0.0, "latitude `90.5`: must be -90 to 90 degrees"),
            (f64::NAN, 0.0, "latitude `NaN`: must be -90 to 90 degrees"),
            (0.0, -180.1, "longitude `-180.1`: must be -180 to 180 degrees"),
            (0.0, f64::INFINITY, "longitude `inf`: must be -180 to 180 degrees"),
        ] {
            let error = Solar::new(SolarEvent::Sunset, latitude, longitude).unwrap_err();
            assert_eq!(error.message(), told);
        }
        let error = "moonrise".parse::<SolarEvent>().unwrap_err();
        assert!(error.message().starts_with("solar event `moonrise`: must be one of `dawn_astronomical`, "), "{error}");
    }
}
