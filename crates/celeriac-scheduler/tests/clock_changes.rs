//! A year in forty time zones: the rule for clock changes, against a look at every minute.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use celeriac_core::Timestamp;
use celeriac_scheduler::{Crontab, Schedule};
use fastrand::Rng;
use jiff::SignedDuration;
use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;

/// Zones, each with a year; most of them change their clocks in it.
const YEARS: [(&str, i16); 40] = [
    ("UTC", 2026),
    ("Europe/Berlin", 2026),
    ("Europe/London", 2026),
    ("Europe/Dublin", 2026),
    ("Europe/Lisbon", 2026),
    ("Europe/Kyiv", 2026),
    ("Europe/Chisinau", 2026),
    ("Europe/Istanbul", 2016),
    ("Europe/Moscow", 2014),
    ("Europe/Volgograd", 2018),
    ("Atlantic/Azores", 2026),
    ("Africa/Casablanca", 2026),
    ("Africa/Cairo", 2026),
    ("Africa/Khartoum", 2017),
    ("Africa/Monrovia", 1979),
    ("Asia/Beirut", 2026),
    ("Asia/Jerusalem", 2026),
    ("Asia/Gaza", 2026),
    ("Asia/Tehran", 2022),
    ("Asia/Kathmandu", 1986),
    ("Asia/Kolkata", 2026),
    ("Asia/Pyongyang", 2018),
    ("Asia/Tokyo", 2026),
    ("Asia/Yerevan", 2011),
    ("Australia/Sydney", 2026),
    ("Australia/Adelaide", 2026),
    ("Australia/Lord_Howe", 2026),
    ("Pacific/Auckland", 2026),
    ("Pacific/Chatham", 2026),
    ("Pacific/Apia", 2011),
    ("Pacific/Kwajalein", 1993),
    ("Pacific/Norfolk", 2015),
    ("America/New_York", 2026),
    ("America/Los_Angeles", 2026),
    ("America/St_Johns", 2006),
    ("America/Havana", 2026),
    ("America/Sao_Paulo", 2018),
    ("America/Santiago", 2026),
    ("America/Caracas", 2016),
    ("Antarctica/Troll", 2026),
];

/// Each minute of a year by the clock of a zone: the instant, and what the clock shows.
fn minutes(zone: &TimeZone, year: i16) -> Vec<(Timestamp, DateTime)> {
    let (mut at, end) =
        (date(year, 1, 1).to_zoned(zone.clone()).unwrap(), date(year + 1, 1, 1).to_zoned(zone.clone()).unwrap());
    let mut minutes = Vec::new();
    while at < end {
        minutes.push((Timestamp::from_micros(at.timestamp().as_microsecond()), at.datetime()));
        at = &at + SignedDuration::from_mins(1);
    }
    minutes
}

/// A crontab as plain lists of numbers.
#[derive(Debug)]
struct Lists {
    minute: Vec<i32>,
    hour: Vec<i32>,
    day_of_week: Vec<i32>,
    day_of_month: Vec<i32>,
    month: Vec<i32>,
}

impl Lists {
    fn random(random: &mut Rng) -> Self {
        fn some(random: &mut Rng, all: std::ops::RangeInclusive<i32>, of: u32) -> Vec<i32> {
            let chosen: Vec<i32> = all.clone().filter(|_| random.u32(..of) == 0).collect();
            if chosen.is_empty() { vec![random.i32(all)] } else { chosen }
        }
        // Clocks are changed in the night, on some day of spring or autumn.
        let hour = match random.u8(..4) {
            0 => (0..=23).collect(),
            1 => vec![random.i32(0..=3)],
            2 => some(random, 0..=4, 2),
            _ => some(random, 0..=23, 3),
        };
        let minute = match random.u8(..8) {
            0 => (0..=59).collect(),
            1..4 => vec![random.i32(0..=59)],
            _ => some(random, 0..=59, 15),
        };
        let day_of_week = if random.bool() { (0..=6).collect() } else { some(random, 0..=6, 2) };
        let day_of_month = if random.bool() { (1..=31).collect() } else { some(random, 1..=31, 2) };
        let month = if random.bool() { (1..=12).collect() } else { some(random, 1..=12, 2) };
        Self { minute, hour, day_of_week, day_of_month, month }
    }

    fn schedule(&self, zone: &str) -> Option<Schedule> {
        let crontab =
            Crontab::new().minute(self.minute.clone()).hour(self.hour.clone()).month_of_year(self.month.clone());
        let crontab = crontab.day_of_week(self.day_of_week.clone()).day_of_month(self.day_of_month.clone());
        // Some never come, such as the 31st of June.
        crontab.tz(zone).build().ok()
    }

    fn matches(&self, time: DateTime) -> bool {
        self.minute.contains(&time.minute().into())
            && self.hour.contains(&time.hour().into())
            && self.month.contains(&time.month().into())
            && self.day_of_month.contains(&time.day().into())
            && self.day_of_week.contains(&time.weekday().to_sunday_zero_offset().into())
    }

    /// The rule, minute for minute.
    fn times(&self, minutes: &[(Timestamp, DateTime)]) -> Vec<Timestamp> {
        let hourly = self.hour.len() == 24;
        let mut times = Vec::new();
        let mut latest = minutes[0].1 - SignedDuration::from_mins(1);
        for (at, shown) in minutes {
            let comes = if hourly {
                self.matches(*shown)
            } else {
                // What is new to the clock: nothing while it repeats itself, much where it is put forward.
                let new = std::iter::successors(Some(latest + SignedDuration::from_mins(1)), |time| {
                    Some(*time + SignedDuration::from_mins(1))
                });
                new.take_while(|time| time <= shown).any(|time| self.matches(time))
            };
            if comes {
                times.push(*at);
            }
            latest = latest.max(*shown);
        }
        times
    }
}

#[test]
fn in_a_year_of_forty_zones_every_time_comes_once_by_the_rule() {
    let mut random = Rng::with_seed(40);
    let (mut schedules, mut compared) = (0, 0);
    for (name, year) in YEARS {
        let minutes = minutes(&TimeZone::get(name).unwrap(), year);
        let (first, last) = (minutes[0].0, minutes[minutes.len() - 1].0);
        for _ in 0..6 {
            let lists = Lists::random(&mut random);
            let Some(schedule) = lists.schedule(name) else { continue };
            let before = Timestamp::from_micros(first.as_micros() - 1);
            let ours: Vec<Timestamp> = schedule.upcoming(before).take_while(|time| *time <= last).collect();
            let expected = lists.times(&minutes);
            let differs = ours.iter().zip(&expected).find(|(ours, expected)| ours != expected);
            assert_eq!(differs, None, "{schedule} in {year}");
            assert_eq!(ours.len(), expected.len(), "{schedule} in {year}");
            assert!(ours.is_sorted_by(|one, next| one < next), "{schedule}");
            // From anywhere between two times it is the same.
            for pair in ours.windows(2).step_by(1 + ours.len() / 300) {
                let between = Timestamp::from_micros(random.i64(pair[0].as_micros()..pair[1].as_micros()));
                assert_eq!(schedule.next_after(between), Some(pair[1]), "{schedule} after {between}");
            }
            schedules += 1;
            compared += ours.len();
        }
    }
    println!("{schedules} crontabs, {compared} times");
    assert!(schedules > 200);
}
