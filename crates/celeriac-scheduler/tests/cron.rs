//! Cron strings: what we find with croner's fields, beside what croner finds.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::str::FromStr as _;

use celeriac_core::Timestamp;
use celeriac_scheduler::cron;
use croner::Cron;
use fastrand::Rng;
use jiff::Zoned;
use jiff::tz::TimeZone;

/// A field: half of the time all, else a number, a range with a step, or a list.
fn field(random: &mut Rng, low: u32, high: u32) -> String {
    let mut number = || random.u32(low..=high);
    let (one, other) = (number(), number());
    match random.u8(..8) {
        0..4 => "*".to_owned(),
        4 => one.to_string(),
        5 => format!("{}-{}/{}", one.min(other), one.max(other), random.u32(1..=7)),
        6 => format!("{one},{other}"),
        _ => format!("*/{}", random.u32(1..=high)),
    }
}

#[test]
fn random_patterns_come_when_croner_finds_them() {
    let mut random = Rng::with_seed(4);
    let mut compared = 0;
    for _ in 0..300 {
        let day = match random.u8(..6) {
            0 => "L".to_owned(),
            1 => "LW".to_owned(),
            2 => format!("{}W", random.u8(1..=31)),
            _ => field(&mut random, 1, 31),
        };
        let weekday = match random.u8(..6) {
            0 => format!("{}#{}", random.u8(0..=7), random.u8(1..=5)),
            1 => format!("{}L", random.u8(0..=7)),
            2 => format!("+{}", random.u8(0..=7)),
            _ => field(&mut random, 0, 7),
        };
        let [second, minute, hour, month] =
            [(0, 59), (0, 59), (0, 23), (1, 12)].map(|(low, high)| field(&mut random, low, high));
        let mut pattern = format!("{second} {minute} {hour} {day} {month} {weekday}");
        if random.u8(..5) == 0 {
            pattern = format!("{pattern} {}-{}", random.u16(1990..2010), random.u16(2010..2030));
        }
        let theirs = Cron::from_str(&pattern).unwrap();
        let Ok(ours) = cron(&pattern).build() else {
            let from: Zoned = "2000-01-01T00:00:00Z[UTC]".parse().unwrap();
            assert!(theirs.find_next_occurrence(&from, true).is_err(), "{pattern}");
            continue;
        };
        for _ in 0..20 {
            let start = random.i64(631_152_000..2_840_140_800);
            let zoned = Zoned::new(jiff::Timestamp::from_second(start).unwrap(), TimeZone::UTC);
            let theirs = theirs.find_next_occurrence(&zoned, false).ok();
            let theirs = theirs.map(|next| Timestamp::from_micros(next.timestamp().as_microsecond()));
            let start = Timestamp::from_micros(start * 1_000_000);
            assert_eq!(ours.next_after(start), theirs, "{pattern} after {start}");
            compared += 1;
        }
    }
    println!("{compared} times compared");
    assert!(compared > 5_000);
}

#[test]
fn names_stand_for_patterns() {
    let start = "2026-05-05T05:05:05Z".parse().unwrap();
    for (name, pattern) in [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * SUN"),
        ("@daily", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ] {
        let next = |pattern| cron(pattern).build().unwrap().next_after(start);
        assert_eq!(next(name), next(pattern), "{name}");
    }
}
