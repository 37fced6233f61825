//! Schedules beside Python Celery's: what comes next, for the same schedules and the same times.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use celeriac_core::Timestamp;
use celeriac_scheduler::{Crontab, Schedule, SolarEvent, every, solar};
use celeriac_tests::python;
use fastrand::Rng;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// What Celery says to each of `requests`: the next time after each start, or nothing if it does not take the schedule.
fn celerys(requests: &[Value]) -> Vec<Option<Vec<Timestamp>>> {
    let answers = python::answer("schedules.py", &json!(requests));
    let times =
        |times: &Vec<Value>| times.iter().map(|micros| Timestamp::from_micros(micros.as_i64().unwrap())).collect();
    answers.as_array().unwrap().iter().map(|answer| answer.as_array().map(times)).collect()
}

fn micros(starts: &[Timestamp]) -> Vec<i64> {
    starts.iter().map(|start| start.as_micros()).collect()
}

/// From 1990 to 2060; one of four at a full minute.
fn starts(random: &mut Rng, count: usize) -> Vec<Timestamp> {
    let start = |random: &mut Rng| {
        let micros = random.i64(631_152_000_000_000..2_840_140_800_000_000);
        if random.u8(..4) == 0 { micros / 60_000_000 * 60_000_000 } else { micros }
    };
    (0..count).map(|_| Timestamp::from_micros(start(random))).collect()
}

/// A field of a crontab, in all the ways it can be written.
fn field(random: &mut Rng, low: u32, high: u32, names: &[&str]) -> String {
    let number = |random: &mut Rng| {
        let number = random.u32(low..=high);
        match names.get(usize::try_from(number - low).unwrap()) {
            Some(name) if random.bool() => (*name).to_owned(),
            _ => number.to_string(),
        }
    };
    let mut parts = Vec::new();
    for _ in 0..random.usize(1..=3) {
        let step = random.u32(1..=high);
        parts.push(match random.u8(..6) {
            0 => format!("*/{step}"),
            1 => format!("{}-{}", number(random), number(random)),
            2 => format!("{}-{}/{step}", number(random), number(random)),
            _ => number(random),
        });
    }
    if random.u8(..5) < 2 { "*".to_owned() } else { parts.join(",") }
}

/// Minute, hour, day of week, day of month, month: Celery's order.
fn crontab(random: &mut Rng) -> [String; 5] {
    let months = ["jan", "Feb", "march", "apr", "may", "JUN", "jul", "aug", "sep", "oct", "nov", "december"];
    let weekdays = ["sun", "Mon", "tuesday", "wed", "THU", "fri", "sat"];
    [
        field(random, 0, 59, &[]),
        field(random, 0, 23, &[]),
        field(random, 0, 6, &weekdays),
        field(random, 1, 31, &[]),
        field(random, 1, 12, &months),
    ]
}

fn ours(fields: &[String; 5], zone: &str) -> celeriac_core::Result<Schedule> {
    let [minute, hour, day_of_week, day_of_month, month] = fields.clone();
    let crontab = Crontab::new().minute(minute).hour(hour).day_of_week(day_of_week).day_of_month(day_of_month);
    crontab.month_of_year(month).tz(zone).build()
}

/// A case: arguments as Python takes them, our schedule, and the times to start from.
struct Case {
    kind: &'static str,
    args: Value,
    ours: celeriac_core::Result<Schedule>,
    zone: &'static str,
    starts: Vec<Timestamp>,
}

/// What we and Celery say comes after `start`.
struct Pair<'a> {
    case: &'a Case,
    start: Timestamp,
    ours: Timestamp,
    celerys: Timestamp,
}

/// Every case and start; a schedule that one of both does not take, neither may.
fn pairs(cases: &[Case]) -> Vec<Pair<'_>> {
    let request =
        |case: &Case| json!({"kind": case.kind, "args": case.args, "zone": case.zone, "starts": micros(&case.starts)});
    let celerys = celerys(&cases.iter().map(request).collect::<Vec<_>>());
    let mut pairs = Vec::new();
    for (case, celerys) in cases.iter().zip(celerys) {
        assert_eq!(case.ours.is_ok(), celerys.is_some(), "{}: {:?}", case.args, case.ours);
        if let (Ok(ours), Some(celerys)) = (&case.ours, celerys) {
            pairs.extend(case.starts.iter().zip(celerys).map(|(start, celerys)| {
                let ours = ours.next_after(*start).unwrap();
                Pair { case, start: *start, ours, celerys }
            }));
        }
    }
    pairs
}

impl Pair<'_> {
    fn told(&self) -> String {
        let zone = Zone::of(self.case);
        let [start, ours, celerys] = [self.start, self.ours, self.celerys].map(|time| zone.shown(time));
        format!("{} after {start}: {ours}, Celery {celerys}", self.case.ours.as_ref().unwrap())
    }
}

fn none<'a>(differences: impl Iterator<Item = &'a Pair<'a>>) {
    let differences: Vec<String> = differences.map(Pair::told).collect();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn random_crontabs_come_when_celerys_do() {
    let mut random = Rng::with_seed(20_261_122);
    let case = |random: &mut Rng| {
        let fields = crontab(random);
        let ours = ours(&fields, "UTC");
        Case { kind: "crontab", args: json!(fields), ours, zone: "UTC", starts: starts(random, 50) }
    };
    let cases: Vec<Case> = (0..500).map(|_| case(&mut random)).collect();
    let pairs = pairs(&cases);
    assert_eq!(pairs.len(), 25_000);
    none(pairs.iter().filter(|pair| pair.ours != pair.celerys));
}

#[test]
fn what_celery_refuses_we_refuse() {
    let bad = [
        ["60", "*", "*", "*", "*"],
        ["*", "24", "*", "*", "*"],
        ["*", "*", "7", "*", "*"],
        ["*", "*", "*", "0", "*"],
        ["*", "*", "*", "32", "*"],
        ["*", "*", "*", "*", "13"],
        ["*", "*", "*", "30", "2"],
        ["*", "*", "*", "31", "feb,apr-jun/2,9,nov"],
        ["*/0", "*", "*", "*", "*"],
        ["*/", "*", "*", "*", "*"],
        ["5/10", "*", "*", "*", "*"],
        ["", "*", "*", "*", "*"],
        ["1,,2", "*", "*", "*", "*"],
        ["-5", "*", "*", "*", "*"],
        ["5-", "*", "*", "*", "*"],
        ["*", "*", "someday", "*", "*"],
    ];
    let case = |fields: [&str; 5]| {
        let ours = ours(&fields.map(str::to_owned), "UTC");
        Case { kind: "crontab", args: json!(fields), ours, zone: "UTC", starts: Vec::new() }
    };
    let cases = bad.map(case);
    assert!(cases.iter().all(|case| case.ours.is_err()));
    assert_eq!(pairs(&cases).len(), 0);
}

/// Two zones as most are, one with half an hour, two that change at midnight, one that left out a day, one for Ramadan, one without.
const ZONES: [&str; 8] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "America/Havana",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Asia/Tokyo",
];

/// A zone as jiff knows it.
struct Zone(TimeZone);

impl Zone {
    fn of(case: &Case) -> Self {
        Self(TimeZone::get(case.zone).unwrap())
    }

    fn jiff(time: Timestamp) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(time.as_micros()).unwrap()
    }

    fn shown(&self, time: Timestamp) -> String {
        let time = Self::jiff(time);
        format!("{}{}", self.0.to_datetime(time), self.0.to_offset(time))
    }

    /// Whether the clock shows the same at another time.
    fn is_repeated(&self, time: Timestamp) -> bool {
        self.0.to_ambiguous_timestamp(self.0.to_datetime(Self::jiff(time))).is_ambiguous()
    }

    /// Whether the clock was put forward after `start`, and `time` follows sooner than what was left out would have lasted.
    fn has_skipped(&self, start: Timestamp, time: Timestamp) -> bool {
        let (start, time) = (Self::jiff(start), Self::jiff(time));
        let Some(change) = self.0.preceding(time + SignedDuration::from_nanos(1)).next() else { return false };
        let at = change.timestamp();
        let forward = change.offset().duration_since(self.0.to_offset(at - SignedDuration::from_nanos(1)));
        start < at && time < at + forward
    }

    /// Times around its changes.
    fn changes(&self, random: &mut Rng, count: usize) -> Vec<Timestamp> {
        let near = |random: &mut Rng| {
            let from = jiff::Timestamp::from_second(random.i64(631_152_000..2_800_000_000)).unwrap();
            let change = self.0.following(from).next()?.timestamp().as_microsecond();
            let minutes = random.i64(-180..180) * 60_000_000;
            Some(Timestamp::from_micros(change + minutes + random.i64(0..2) * random.i64(0..60_000_000)))
        };
        (0..count).filter_map(|_| near(random)).collect()
    }
}

#[test]
fn in_a_zone_only_changes_of_its_clock_tell_us_from_celery() {
    let mut random = Rng::with_seed(1_916);
    let mut cases = Vec::new();
    for zone in ZONES {
        for kind in 0..60 {
            let mut fields = crontab(&mut random);
            // Half of them come in the night.
            if kind % 2 == 0 {
                let hour = if kind % 4 == 0 { "*".to_owned() } else { random.u32(0..4).to_string() };
                fields = [fields[0].clone(), hour, "*".to_owned(), "*".to_owned(), "*".to_owned()];
            }
            let mut case = Case {
                kind: "crontab",
                args: json!(fields),
                ours: ours(&fields, zone),
                zone,
                starts: starts(&mut random, 20),
            };
            case.starts.extend(Zone::of(&case).changes(&mut random, 40));
            cases.push(case);
        }
    }
    let pairs = pairs(&cases);
    let (mut repeated, mut past, mut skipped) = (0, 0, 0);
    none(pairs.iter().filter(|pair| pair.ours != pair.celerys).filter(|pair| {
        let zone = Zone::of(pair.case);
        if zone.is_repeated(pair.start) {
            repeated += 1;
            past += usize::from(pair.celerys < pair.start);
            return false;
        }
        // Celery carries a time that is skipped as far on as the clock is put forward.
        let is_skipped = zone.has_skipped(pair.start, pair.celerys);
        skipped += usize::from(is_skipped);
        !is_skipped
    }));
    println!(
        "{} times: {repeated} from a repeated time, for {past} of which Celery's next is past; {skipped} skipped",
        pairs.len()
    );
    assert!(repeated > past && past > 100 && skipped > 20);
}

#[test]
fn relative_intervals_end_when_celerys_do() {
    const SECOND: u64 = 1_000;
    const HOUR: u64 = 3_600 * SECOND;
    let mut random = Rng::with_seed(86_400);
    let mut cases = Vec::new();
    for zone in ZONES.into_iter().chain(["UTC", "Asia/Kathmandu"]) {
        for kind in 0..60 {
            let period = match kind % 4 {
                0 => random.u64(SECOND..60 * SECOND),
                1 => random.u64(1..60) * 60 * SECOND,
                2 => random.u64(1..24) * HOUR + random.u64(..2) * random.u64(..60) * 60 * SECOND,
                _ => random.u64(1..10) * 24 * HOUR + random.u64(..2) * random.u64(..24) * HOUR,
            };
            let ours = every(Duration::from_millis(period)).relative().tz(zone).build();
            let mut case =
                Case { kind: "relative", args: json!([period]), ours, zone, starts: starts(&mut random, 20) };
            case.starts.extend(Zone::of(&case).changes(&mut random, 40));
            cases.push(case);
        }
    }
    // Where half an hour is skipped, Celery's may end at the half hour that follows; ours always at a full one.
    none(pairs(&cases).iter().filter(|pair| pair.ours != pair.celerys && pair.case.zone != "Australia/Lord_Howe"));
}

#[test]
fn the_sun_is_where_ephem_has_it() {
    let mut random = Rng::with_seed(23_44);
    let mut cases = Vec::new();
    for event in SolarEvent::ALL {
        for place in 0..60 {
            let degrees = |random: &mut Rng, most: i32| f64::from(random.i32(-most * 1_000..=most * 1_000)) / 1_000.0;
            let (latitude, longitude) = match place {
                0 => (80.0, 180.0),
                1 => (-80.0, -180.0),
                2 => (0.0, 0.0),
                _ => (degrees(&mut random, 80), degrees(&mut random, 180)),
            };
            let args = json!([event.as_str(), latitude, longitude]);
            let ours = solar(event, latitude, longitude).build();
            cases.push(Case { kind: "solar", args, ours, zone: "UTC", starts: starts(&mut random, 25) });
        }
    }
    let pairs = pairs(&cases);

    // Ours are to the second.
    let apart = |pair: &Pair<'_>| pair.ours.since(pair.celerys).max(pair.celerys.since(pair.ours));
    let latitude = |pair: &Pair<'_>| pair.case.args[1].as_f64().unwrap().abs();
    none(pairs.iter().filter(|pair| latitude(pair) < 48.0 && apart(pair) > Duration::from_millis(800)));
    // Further to the poles the sun may graze a height: a second of arc is long then.
    let (mut close, mut missed) = (0, 0);
    none(pairs.iter().filter(|pair| {
        close += usize::from(apart(pair) < Duration::from_secs(1));
        // ephem may miss a sunset of minutes, and finds the next day's.
        let is_missed = pair.celerys.since(pair.ours) > Duration::from_secs(3_600);
        missed += usize::from(is_missed);
        apart(pair) > Duration::from_secs(60) && !is_missed
    }));
    println!("{} events: {close} within a second, {missed} that ephem passes over", pairs.len());
    assert!(close * 100 > pairs.len() * 95 && missed * 1_000 < pairs.len());

    // And when ours come, ephem's sun is at the height in question, within half a second's way and three seconds of arc.
    let heights = cases.iter().filter(|case| case.args[0] != "solar_noon").map(|case| {
        let ours = case.starts.iter().map(|start| case.ours.as_ref().unwrap().next_after(*start).unwrap());
        json!({"kind": "height", "args": case.args, "zone": "UTC", "starts": micros(&ours.collect::<Vec<_>>())})
    });
    let heights =
        celerys(&heights.collect::<Vec<_>>()).into_iter().flatten().flatten().map(|height| height.as_micros().abs());
    assert!(heights.max().unwrap() < 3_000);
}
