//! How long it takes to find what comes next, and to read a schedule's text: `cargo bench -p celeriac-benches --bench schedules`.
//!
//! From 200 random times in thirty years. Yardstick, where it knows such schedules: croner, which finds cron strings by itself, from and to jiff's zoned
//! times. A figure is the mean of the fastest of 100 rounds: they are short, and so the fastest is one that nothing else disturbed.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops at the first error, and prints its table")]

use std::hint::black_box;
use std::str::FromStr as _;
use std::time::Instant;

use celeriac_core::Timestamp;
use celeriac_scheduler::Schedule;
use croner::Cron;
use fastrand::Rng;
use jiff::Zoned;
use jiff::tz::TimeZone;

const ROUNDS: usize = 100;

/// Nanoseconds that each of `inputs` takes.
#[expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]
fn nanos<T, U>(inputs: &[T], work: impl Fn(&T) -> U) -> f64 {
    let start = Instant::now();
    for input in inputs {
        black_box(work(black_box(input)));
    }
    start.elapsed().as_nanos() as f64 / inputs.len() as f64
}

fn main() {
    let mut random = Rng::with_seed(1);
    let micros: Vec<i64> = (0..200).map(|_| random.i64(946_684_800_000_000..1_893_456_000_000_000)).collect();
    let starts: Vec<Timestamp> = micros.iter().map(|micros| Timestamp::from_micros(*micros)).collect();
    println!("{:<52} {:>10} {:>10} {:>10}", "nanoseconds for", "next", "croner's", "to read");
    for (text, yardstick) in [
        ("every 30m", None),
        ("every 1h relative [Europe/Berlin]", None),
        ("crontab * * * * *", Some("* * * * *")),
        ("crontab */15 9-17 * * mon-fri", Some("*/15 9-17 * * MON-FRI")),
        ("crontab */15 9-17 * * mon-fri [Europe/Berlin]", Some("*/15 9-17 * * MON-FRI")),
        ("crontab 0 4 1 jan * [Europe/Berlin]", Some("0 4 1 1 *")),
        ("crontab 0 0 29 feb sun [America/New_York]", Some("0 0 29 2 +SUN")),
        ("cron 0 30 9 LW * * [Europe/Berlin]", Some("0 30 9 LW * *")),
        ("solar sunset 52.52 13.405", None),
        ("solar sunset 78.22 15.65", None),
    ] {
        let schedule: Schedule = text.parse().unwrap();
        let zone = TimeZone::get(schedule.zone()).unwrap();
        let zoned = |micros: &i64| Zoned::new(jiff::Timestamp::from_microsecond(*micros).unwrap(), zone.clone());
        let zoned: Vec<Zoned> = micros.iter().map(zoned).collect();
        let cron = yardstick.map(|pattern| Cron::from_str(pattern).unwrap());
        // The sun takes its time.
        let starts = if text.starts_with("solar") { &starts[..20] } else { &starts[..] };
        let (mut next, mut croners, mut read) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
        for _ in 0..ROUNDS {
            next = next.min(nanos(starts, |start| schedule.next_after(*start)));
            if let Some(cron) = &cron {
                croners = croners.min(nanos(&zoned, |start| cron.find_next_occurrence(start, false).unwrap()));
            }
            read = read.min(nanos(&[text; 20], |text| text.parse::<Schedule>().unwrap()));
        }
        let shown = |nanos: f64| if nanos.is_finite() { format!("{nanos:.0}") } else { "-".to_owned() };
        println!("{text:<52} {:>10} {:>10} {:>10}", shown(next), shown(croners), shown(read));
    }
}
