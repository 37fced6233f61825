//! Schedules in English.

use crate::cron;
use crate::crontab::{Crontab, CrontabBits};
use crate::field::{DAY_OF_MONTH, DAY_OF_WEEK, Field, HOUR, MINUTE, MONTH_OF_YEAR, numbers, run};
use crate::interval::Interval;
use crate::schedule::Kind;
use crate::solar::Solar;
use crate::zone::Zone;

/// More times of day than this are not listed one by one.
const LISTED_TIMES: usize = 6;

/// What is said of a crontab or a cron string: numbers as bits.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) seconds: u64,
    pub(crate) minutes: u64,
    pub(crate) hours: u64,
    /// `None` if any will do.
    pub(crate) days_of_month: Option<Days>,
    pub(crate) days_of_week: Option<Days>,
    /// Whether a day must be of both kinds, or one is enough.
    pub(crate) both_days: bool,
    pub(crate) months: u64,
    /// Empty for every year.
    pub(crate) years: Vec<i16>,
}

/// Days by number, and others in words.
#[derive(Debug)]
pub(crate) struct Days {
    pub(crate) numbers: u64,
    pub(crate) special: Vec<String>,
}

impl From<CrontabBits> for Words {
    fn from(bits: CrontabBits) -> Self {
        let days = |field: &Field, numbers| (numbers != field.all()).then_some(Days { numbers, special: Vec::new() });
        Self {
            seconds: 1,
            minutes: bits.minute,
            hours: bits.hour,
            days_of_month: days(&DAY_OF_MONTH, bits.day_of_month),
            days_of_week: days(&DAY_OF_WEEK, bits.day_of_week),
            both_days: true,
            months: bits.month_of_year,
            years: Vec::new(),
        }
    }
}

pub(crate) fn describe(kind: &Kind, zone: &Zone) -> String {
    let what = match kind {
        Kind::Every(interval) if !interval.relative => return period(interval),
        Kind::Every(interval) => match interval.full_unit() {
            "day" => format!("{}, at midnight", period(interval)),
            unit => format!("{}, on the {unit}", period(interval)),
        },
        Kind::Crontab(line, _) => {
            let words = Crontab::parse(line).and_then(|crontab| crontab.bits()).map(Words::from);
            words.map_or_else(|_| line.to_string(), |words| words.sentence())
        }
        Kind::Cron(line, _) => cron::words(line).map_or_else(|_| line.to_string(), |words| words.sentence()),
        Kind::Solar(solar) => return sun(solar),
        Kind::Once(at) => {
            let civil = zone.civil(*at);
            format!("once, on {} at {}", civil.date(), civil.time())
        }
    };
    format!("{what}, {}", zone.name())
}

fn period(interval: &Interval) -> String {
    let spoken = interval.spoken();
    format!("every {}", spoken.strip_prefix("1 ").filter(|unit| !unit.contains(' ')).unwrap_or(&spoken))
}

fn sun(solar: &Solar) -> String {
    // `dawn_civil` is the civil dawn.
    let event = match solar.event.as_str().split_once('_') {
        Some(("solar", noon)) => format!("solar {noon}"),
        Some((event, kind)) => format!("{kind} {event}"),
        None => solar.event.to_string(),
    };
    let degrees = |degrees: f64, sides: [&str; 2]| format!("{}° {}", degrees.abs(), sides[usize::from(degrees < 0.0)]);
    let (north, east) = (degrees(solar.latitude, ["north", "south"]), degrees(solar.longitude, ["east", "west"]));
    format!("at {event}, at {north}, {east}")
}

impl Words {
    fn sentence(&self) -> String {
        let mut parts = vec![self.times()];
        parts.extend(self.days());
        if self.months != MONTH_OF_YEAR.all() {
            parts.push(format!("in {}", list(&MONTH_OF_YEAR, self.months)));
        }
        if !self.years.is_empty() {
            let years: Vec<u32> = self.years.iter().map(|year| u32::from(year.unsigned_abs())).collect();
            parts.push(format!("in {}", joined(&ranges(&years, |year| year.to_string()))));
        }
        parts.join(", ")
    }

    fn days(&self) -> Option<String> {
        let of_month = self.days_of_month.as_ref().map(|days| {
            let plural = if days.numbers.is_power_of_two() { "" } else { "s" };
            let numbered = (days.numbers != 0).then(|| format!("day{plural} {}", list(&DAY_OF_MONTH, days.numbers)));
            let all: Vec<String> = numbered.into_iter().chain(days.special.clone()).collect();
            format!("on {} of the month", joined(&all))
        });
        let of_week = self.days_of_week.as_ref().map(|days| {
            let named = (days.numbers != 0).then(|| list(&DAY_OF_WEEK, days.numbers));
            let all: Vec<String> = named.into_iter().chain(days.special.clone()).collect();
            let of_the_month = if days.special.is_empty() { "" } else { " of the month" };
            format!("{}{of_the_month}", joined(&all))
        });
        Some(match (of_month, of_week) {
            (Some(of_month), Some(of_week)) if self.both_days => {
                format!("{of_month} if that is {}", of_week.replace(" and ", " or "))
            }
            (Some(of_month), Some(of_week)) => format!("{of_month} or on {of_week}"),
            (Some(of_month), None) => of_month,
            (None, Some(of_week)) if of_week.contains(" to ") => of_week,
            (None, Some(of_week)) => format!("on {of_week}"),
            (None, None) => return None,
        })
    }

    fn times(&self) -> String {
        let (seconds, minutes, hours) = (numbers(self.seconds), numbers(self.minutes), numbers(self.hours));
        let is_short = seconds.len() * minutes.len() * hours.len() <= LISTED_TIMES;
        if self.seconds != 1 {
            if is_short {
                let of_minute =
                    |hour, minute| seconds.iter().map(move |second| format!("{hour:02}:{minute:02}:{second:02}"));
                let times =
                    hours.iter().flat_map(|hour| minutes.iter().flat_map(move |minute| of_minute(*hour, *minute)));
                return format!("at {}", joined(&times.collect::<Vec<_>>()));
            }
            return self.seconds();
        }
        let stretch = stretch(&HOUR, &hours);
        if let Some(step) = even_step(&MINUTE, self.minutes)
            && (stretch.is_some() || !is_short)
        {
            let often = if step == 1 { "every minute".to_owned() } else { format!("every {step} minutes") };
            return match stretch {
                _ if self.hours == HOUR.all() => often,
                Some((from, to)) => format!("{often} from {from:02}:00 to {to:02}:59"),
                None => format!("{often} of the hours {}", list(&HOUR, self.hours)),
            };
        }
        if is_short {
            let times =
                hours.iter().flat_map(|hour| minutes.iter().map(move |minute| format!("{hour:02}:{minute:02}")));
            return format!("at {}", joined(&times.collect::<Vec<_>>()));
        }
        let at_minutes = || format!("at {}", counted("minute", self.minutes));
        match (&minutes[..], even_step(&HOUR, self.hours), stretch) {
            ([0], Some(1), _) => "every hour".to_owned(),
            (_, Some(1), _) => format!("{} of every hour", at_minutes()),
            ([0], Some(step), _) => format!("every {step} hours"),
            ([minute], None, Some((from, to))) => {
                format!("every hour from {from:02}:{minute:02} to {to:02}:{minute:02}")
            }
            _ => format!("{} of the hours {}", at_minutes(), list(&HOUR, self.hours)),
        }
    }

    fn seconds(&self) -> String {
        let often = match even_step(&MINUTE, self.seconds) {
            Some(1) => "every second".to_owned(),
            Some(step) => format!("every {step} seconds"),
            None => format!("at {}", counted("second", self.seconds)),
        };
        let whole_hours = self.minutes == MINUTE.all();
        let minutes = match even_step(&MINUTE, self.seconds) {
            _ if !whole_hours => format!(" of {}", counted("minute", self.minutes)),
            None => " of every minute".to_owned(),
            Some(_) => String::new(),
        };
        let hours = match self.hours == HOUR.all() {
            true if whole_hours => String::new(),
            true => " of every hour".to_owned(),
            false => format!(" of the hours {}", list(&HOUR, self.hours)),
        };
        format!("{often}{minutes}{hours}")
    }
}

/// `minute 5`, `minutes 5 and 10`. What holds for minutes holds for seconds.
fn counted(unit: &str, bits: u64) -> String {
    format!("{unit}{} {}", if bits.is_power_of_two() { "" } else { "s" }, list(&MINUTE, bits))
}

/// The step between the numbers, if it is the same from each to the next, and on to the next hour or day.
fn even_step(field: &Field, bits: u64) -> Option<u32> {
    let numbers = numbers(bits);
    let (step, count) = run(&numbers);
    let whole = field.highest + 1 - field.lowest;
    let even = numbers.len() > 1 && count == numbers.len() && numbers[0] == field.lowest;
    (even && step * u32::try_from(count).ok()? == whole).then_some(step)
}

/// The first and the last, if none is missing between them. It may go on from the highest to the lowest.
fn stretch(field: &Field, numbers: &[u32]) -> Option<(u32, u32)> {
    let breaks: Vec<&[u32]> = numbers.windows(2).filter(|pair| pair[1] - pair[0] > 1).collect();
    let (first, last) = (*numbers.first()?, *numbers.last()?);
    match breaks[..] {
        [] => Some((first, last)),
        [pair] if first == field.lowest && last == field.highest => Some((pair[1], pair[0])),
        _ => None,
    }
}

/// `Monday`, `1 and 15`, `1, 3 and 7 to 9`, `Friday to Monday`.
pub(crate) fn list(field: &Field, bits: u64) -> String {
    let numbers = numbers(bits);
    match stretch(field, &numbers) {
        Some((from, to)) if numbers.len() > 2 => format!("{} to {}", field.spoken(from), field.spoken(to)),
        _ => joined(&ranges(&numbers, |number| field.spoken(number))),
    }
}

/// One item for each number, or for three and more that follow each other.
fn ranges(numbers: &[u32], word: impl Fn(u32) -> String) -> Vec<String> {
    let mut items = Vec::new();
    let mut rest = numbers;
    while let [first, ..] = rest {
        let count = match run(rest) {
            (1, count) if count > 2 => count,
            _ => 1,
        };
        items.push(match rest[..count] {
            [_, .., last] => format!("{} to {}", word(*first), word(last)),
            _ => word(*first),
        });
        rest = &rest[count..];
    }
    items
}

fn joined(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use crate::Schedule;

    #[test]
    fn schedules_read_as_people_say_them() {
        for (text, said) in [
            ("every 30m", "every 30 minutes"),
            ("every 1h", "every hour"),
            ("every 1h30m", "every 1 hour 30 minutes"),
            ("every 1d relative [Europe/Berlin]", "every day, at midnight, Europe/Berlin"),
            ("every 10m relative", "every 10 minutes, on the minute, UTC"),
            ("crontab * * * * *", "every minute, UTC"),
            ("crontab 0 * * * *", "every hour, UTC"),
            ("crontab 5,20 * * * *", "at minutes 5 and 20 of every hour, UTC"),
            ("crontab 30 4 * * *", "at 04:30, UTC"),
            ("crontab 0,30 9,17 * * *", "at 09:00, 09:30, 17:00 and 17:30, UTC"),
            ("crontab 0 */2 * * *", "every 2 hours, UTC"),
            ("crontab 30 */2 * * *", "at minute 30 of the hours 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20 and 22, UTC"),
            ("crontab 15 8-18 * * *", "every hour from 08:15 to 18:15, UTC"),
            ("crontab */7 1,5 * * *", "at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of the hours 1 and 5, UTC"),
            (
                "crontab */15 9-17 * * mon-fri [Europe/Berlin]",
                "every 15 minutes from 09:00 to 17:59, Monday to Friday, Europe/Berlin",
            ),
            ("crontab * 22-4 * * fri-mon", "every minute from 22:00 to 04:59, Friday to Monday, UTC"),
            ("crontab */30 0,12 * * *", "at 00:00, 00:30, 12:00 and 12:30, UTC"),
            ("crontab */10 0,12 * * *", "every 10 minutes of the hours 0 and 12, UTC"),
            ("crontab 0 4 1,15 jan-mar *", "at 04:00, on days 1 and 15 of the month, in January to March, UTC"),
            ("crontab 0 4 1-7 * mon", "at 04:00, on days 1 to 7 of the month if that is Monday, UTC"),
            ("crontab 0 4 1 * sat,sun", "at 04:00, on day 1 of the month if that is Sunday or Saturday, UTC"),
            ("crontab 0 4 * 12 tue", "at 04:00, on Tuesday, in December, UTC"),
            ("cron */15 9-17 * * MON-FRI", "every 15 minutes from 09:00 to 17:59, Monday to Friday, UTC"),
            ("cron @daily", "at 00:00, UTC"),
            ("cron @weekly", "at 00:00, on Sunday, UTC"),
            ("cron 0 9 1,15 * FRI", "at 09:00, on days 1 and 15 of the month or on Friday, UTC"),
            ("cron 0 9 1-7 * +FRI", "at 09:00, on days 1 to 7 of the month if that is Friday, UTC"),
            ("cron 0 0 9 ? * 7#2,5L", "at 09:00, on the second Sunday and the last Friday of the month, UTC"),
            (
                "cron 0 0 9 1,15W,L * *",
                "at 09:00, on day 1, the weekday nearest day 15 and the last day of the month, UTC",
            ),
            ("cron 30 15 9 * * *", "at 09:15:30, UTC"),
            ("cron */10 * * * * *", "every 10 seconds, UTC"),
            ("cron 5,35 * 9-17 * * *", "at seconds 5 and 35 of every minute of the hours 9 to 17, UTC"),
            ("cron * 0-4 * * * *", "every second of minutes 0 to 4 of every hour, UTC"),
            (
                "cron 0 0 0 1 1 * 2026-2028,2031",
                "at 00:00, on day 1 of the month, in January, in 2026 to 2028 and 2031, UTC",
            ),
            ("cron 0 30 9 LW * * [Asia/Tokyo]", "at 09:30, on the last weekday of the month, Asia/Tokyo"),
            ("solar dawn_civil 52.52 -13.405", "at civil dawn, at 52.52° north, 13.405° west"),
            ("solar solar_noon -10 0", "at solar noon, at 10° south, 0° east"),
            ("once 2026-11-22T06:57:14Z [Europe/Berlin]", "once, on 2026-11-22 at 07:57:14, Europe/Berlin"),
        ] {
            assert_eq!(text.parse::<Schedule>().unwrap().describe(), said, "{text}");
        }
    }
}
