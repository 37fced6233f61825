//! What holds for every schedule: times go forward, texts come back, and no text is too strange to be refused in peace.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use celeriac_core::Timestamp;
use celeriac_scheduler::{Schedule, SolarEvent};
use proptest::prelude::*;

const ZONES: [&str; 6] =
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "America/Sao_Paulo"];

/// A field of a crontab or cron string.
fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    let number = low..=high;
    let part = prop_oneof![
        number.clone().prop_map(|number| number.to_string()),
        (number.clone(), number.clone()).prop_map(|(one, other)| format!("{}-{}", one.min(other), one.max(other))),
        (1..=high).prop_map(|step| format!("*/{step}")),
        (number.clone(), number, 1..=high).prop_map(|(one, other, step)| format!(
            "{}-{}/{step}",
            one.min(other),
            one.max(other)
        )),
    ];
    prop_oneof![2 => Just("*".to_owned()), 3 => prop::collection::vec(part, 1..4).prop_map(|parts| parts.join(","))]
}

fn crontab() -> impl Strategy<Value = String> {
    let fields = (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6));
    fields.prop_map(|(minute, hour, day, month, weekday)| format!("crontab {minute} {hour} {day} {month} {weekday}"))
}

fn cron() -> impl Strategy<Value = String> {
    let day = prop_oneof![4 => field(1, 31), 1 => Just("L".to_owned()), 1 => Just("LW".to_owned()), 1 => Just("15W".to_owned())];
    let weekday = prop_oneof![4 => field(0, 7), 1 => Just("5#2".to_owned()), 1 => Just("FRI#L".to_owned()), 1 => Just("+MON".to_owned())];
    let fields = (field(0, 59), field(0, 59), field(0, 23), day, field(1, 12), weekday);
    fields.prop_map(|(second, minute, hour, day, month, weekday)| {
        format!("cron {second} {minute} {hour} {day} {month} {weekday}")
    })
}

fn solar() -> impl Strategy<Value = String> {
    let place = (0..9_usize, -90_000..=90_000_i32, -180_000..=180_000_i32);
    place.prop_map(|(event, latitude, longitude)| {
        let (latitude, longitude) = (f64::from(latitude) / 1_000.0, f64::from(longitude) / 1_000.0);
        format!("solar {} {latitude} {longitude}", SolarEvent::ALL[event])
    })
}

fn every() -> impl Strategy<Value = String> {
    let millis = prop_oneof![1..100_000_u64, 1..2_000_000_000_u64];
    (millis, any::<bool>())
        .prop_map(|(millis, relative)| format!("every {millis}ms{}", if relative { " relative" } else { "" }))
}

/// A text of any kind; some crontabs and cron strings never come.
fn text() -> impl Strategy<Value = String> {
    let text = prop_oneof![4 => crontab(), 3 => cron(), 1 => solar(), 2 => every()];
    (text, prop::sample::select(&ZONES[..])).prop_map(|(text, zone)| format!("{text} [{zone}]"))
}

/// From 1970 to 2080.
fn instant() -> impl Strategy<Value = Timestamp> {
    (0..3_471_292_800_000_000_i64).prop_map(Timestamp::from_micros)
}

/// Near the changes of many clocks.
fn night() -> impl Strategy<Value = Timestamp> {
    let day =
        prop::sample::select(vec!["2026-03-29", "2026-10-25", "2026-11-01", "2026-04-05", "2018-11-04", "2026-03-08"]);
    (day, -72_000_000..=72_000_000_i64).prop_map(|(day, millis)| {
        Timestamp::from_micros(day.parse::<Timestamp>().unwrap().as_micros() + millis * 1_000)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn times_go_forward_and_leave_none_out(text in text(), start in prop_oneof![instant(), night()]) {
        let Ok(schedule) = text.parse::<Schedule>() else { return Ok(()) };
        let times: Vec<Timestamp> = schedule.upcoming(start).take(4).collect();
        let mut last = start;
        for time in times {
            prop_assert!(time > last, "{schedule}: {time} after {last}");
            if !text.starts_with("every") {
                // The same from anywhere in between.
                let middle = Timestamp::from_micros(i64::midpoint(last.as_micros(), time.as_micros()));
                let just_before = Timestamp::from_micros(time.as_micros() - 1);
                prop_assert_eq!(schedule.next_after(middle), Some(time));
                prop_assert_eq!(schedule.next_after(just_before), Some(time));
            }
            last = time;
        }
    }

    #[test]
    fn a_text_read_and_written_stays_as_it_is(text in text()) {
        let Ok(schedule) = text.parse::<Schedule>() else { return Ok(()) };
        let written = schedule.to_string();
        let read: Schedule = written.parse().unwrap();
        prop_assert_eq!(&read, &schedule);
        prop_assert_eq!(read.to_string(), written);
        prop_assert!(!schedule.describe().is_empty());
    }

    #[test]
    fn a_plain_interval_comes_at_multiples_of_itself(millis in 1..10_000_000_u64, anchor in instant(), start in instant()) {
        let schedule: Schedule = format!("every {millis}ms").parse().unwrap();
        let next = schedule.next_from(anchor, start).unwrap();
        let micros = i64::try_from(millis).unwrap() * 1_000;
        prop_assert!(next > start && next > anchor);
        prop_assert_eq!((next.as_micros() - anchor.as_micros()) % micros, 0);
        prop_assert!(next.as_micros() - micros <= start.max(anchor).as_micros());
    }

    #[test]
    fn strange_texts_are_refused_in_peace(
        word in prop::sample::select(vec!["", "every", "crontab", "cron", "solar", "once"]),
        rest in prop_oneof![
            any::<String>(),
            "[-*/,0-9A-Za-z#LW+?@. ]{0,40}",
            "([-*/,0-9#LW+?]{1,6} ){4,7}",
            "[0-9a-z]{0,24}( relative)?",
        ],
        start in instant(),
    ) {
        if let Ok(schedule) = format!("{word} {rest}").parse::<Schedule>() {
            let next = schedule.next_after(start);
            prop_assert!(next.is_none_or(|next| next > start));
            prop_assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule);
        }
    }
}
