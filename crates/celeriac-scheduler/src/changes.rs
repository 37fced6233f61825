//! When the times of a calendar come in a zone, and what becomes of them where its clock is changed.
//!
//! A calendar that is *hourly*, that is, leaves out no hour of the day, goes by real time: a time comes whenever the clock shows it, twice if the clock
//! is put back, not at all if it is put forward. One that names its hours goes by the wall: each of its times comes once, a repeated one the first time,
//! a skipped one at the moment when the clock is put forward.

use celeriac_core::Timestamp;
use jiff::civil::DateTime;
use jiff::{RoundMode, SignedDuration, Unit};

use crate::calendar::Calendar;
use crate::zone::{Found, Zone};

/// The first time of `calendar` after `after`, by the clock of `zone`.
pub(crate) fn next(calendar: &Calendar, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
    let shown = zone.civil(after);
    let mut from = next_second(shown)?;
    if let Some(repetition) = zone.repetition(after, shown) {
        let within = |from| calendar.at_or_after(from).filter(|time| *time < repetition.end);
        if calendar.is_hourly() {
            if !repetition.is_second {
                if let Some(time) = within(from) {
                    return repetition.first(time);
                }
                from = repetition.start;
            }
            if let Some(time) = within(from) {
                return repetition.second(time);
            }
        }
        // Of what is repeated, all has been.
        if calendar.is_hourly() || repetition.is_second {
            from = from.max(repetition.end);
        }
    }
    loop {
        let time = calendar.at_or_after(from)?;
        let at = match zone.find(time)? {
            Found::At(at) => at,
            Found::Skipped { resumes, .. } if calendar.is_hourly() => {
                from = resumes;
                continue;
            }
            Found::Skipped { change, .. } => change,
        };
        if at > after {
            return Some(at);
        }
        // Not with the rules of any zone that we know.
        from = next_second(time)?;
    }
}

/// The first whole second after `time`.
fn next_second(time: DateTime) -> Option<DateTime> {
    let whole = time.round(jiff::civil::DateTimeRound::new().smallest(Unit::Second).mode(RoundMode::Trunc)).ok()?;
    whole.checked_add(SignedDuration::from_secs(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crontab::Crontab;

    fn times(line: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
        let calendar =
            Crontab::parse(line).and_then(|crontab| crontab.bits()).and_then(|bits| bits.calendar()).unwrap();
        let zone = Zone::named(zone).unwrap();
        let (from, until): (Timestamp, Timestamp) = (from.parse().unwrap(), until.parse().unwrap());
        let times = std::iter::successors(next(&calendar, &zone, from), |last| next(&calendar, &zone, *last));
        times
            .take_while(|time| *time < until)
            .map(|time| format!("{}{}", zone.civil(time).time(), zone.offset(time)))
            .collect()
    }

    fn spring(line: &str) -> Vec<String> {
        times(line, "Europe/Berlin", "2026-03-29T00:59:59+01:00", "2026-03-29T04:59:59+02:00")
    }

    fn autumn(line: &str) -> Vec<String> {
        times(line, "Europe/Berlin", "2026-10-25T00:59:59+02:00", "2026-10-25T04:00:00+01:00")
    }

    #[test]
    fn a_skipped_time_comes_when_the_clock_is_put_forward() {
        assert_eq!(spring("30 2 * * *"), ["03:00:00+02"]);
        assert_eq!(spring("0,30 2,3 * * *"), ["03:00:00+02", "03:30:00+02"]);
        assert_eq!(spring("30 2 * * sun"), ["03:00:00+02"]);
        assert_eq!(spring("*/20 2 * * *"), ["03:00:00+02"]);
    }

    #[test]
    fn a_schedule_of_every_hour_is_silent_while_times_are_skipped() {
        assert_eq!(spring("30 * * * *"), ["01:30:00+01", "03:30:00+02", "04:30:00+02"]);
        assert_eq!(spring("0 * * * *"), ["01:00:00+01", "03:00:00+02", "04:00:00+02"]);
    }

    #[test]
    fn a_repeated_time_comes_the_first_time() {
        assert_eq!(autumn("30 2 * * *"), ["02:30:00+02"]);
        assert_eq!(autumn("0,30 2,3 * * *"), ["02:00:00+02", "02:30:00+02", "03:00:00+01", "03:30:00+01"]);
    }

    #[test]
    fn a_schedule_of_every_hour_comes_whenever_the_clock_shows_it() {
        assert_eq!(autumn("30 * * * *"), ["01:30:00+02", "02:30:00+02", "02:30:00+01", "03:30:00+01"]);
        let minutes = times("* * * * *", "Europe/Berlin", "2026-10-25T01:59:59+02:00", "2026-10-25T03:00:00+01:00");
        assert_eq!(minutes.len(), 120);
        // The day ends between two passes, in the second one it is the day before once more.
        let last = times("59 * 17 2 *", "America/Sao_Paulo", "2018-02-17T22:00:00-02:00", "2018-02-18T12:00:00-03:00");
        assert_eq!(last, ["22:59:00-02", "23:59:00-02", "23:59:00-03"]);
    }

    #[test]
    fn a_day_that_was_left_out_comes_at_its_end() {
        let (from, until) = ("2011-12-29T12:00:00-10:00", "2011-12-31T12:00:00+14:00");
        assert_eq!(times("0 9 30 12 *", "Pacific/Apia", from, until), ["00:00:00+14"]);
        assert_eq!(times("0 * 30 12 *", "Pacific/Apia", from, until), [""; 0]);
    }
}
