//! Cron strings, read by croner: with seconds and years, `L`, `W`, `#` and names such as `@daily`.
//!
//! croner parses and says which days match; when the times come, and in which zone, is found as for crontabs.

use celeriac_core::Result;
use croner::Cron;
use croner::parser::CronParser;
use croner::time::Weekday;
use jiff::civil::Date;

use crate::calendar::{self, Calendar, Sets};
use crate::describe::{self, Days, Words};
use crate::error::{LONGEST_TEXT, problem, quoted};
use crate::field::DAY_OF_WEEK;

/// The fields in their order, with their lowest and highest number. The first and the last may be left out.
const FIELDS: [(&str, u32, u32); 7] = [
    ("second", 0, 59),
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of month", 1, 31),
    ("month", 1, 12),
    ("day of week", 0, 7),
    ("year", 1, 5000),
];

/// `pattern` as it is kept: one blank between fields, in upper case, names such as `@daily` in lower case.
pub(crate) fn line(pattern: &str) -> Result<String> {
    if pattern.len() > LONGEST_TEXT {
        return Err(problem("cron", pattern, &format!("must be {LONGEST_TEXT} bytes at most")));
    }
    let line = pattern.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(if line.starts_with('@') { line.to_ascii_lowercase() } else { line.to_ascii_uppercase() })
}

/// The times that `line` stands for.
pub(crate) fn calendar(line: &str) -> Result<Calendar> {
    let cron = parse(line)?;
    let pattern = &cron.pattern;
    let sets = Sets {
        seconds: bits(pattern.seconds.values()),
        minutes: bits(pattern.minutes.values()),
        hours: bits(pattern.hours.values()),
        months: bits(pattern.months.values()),
        days: calendar::days(|date| is_day(&cron, date)),
        years: years(&cron, line),
    };
    let never = || problem("cron", line, "no time is in all of its fields");
    if [sets.seconds, sets.minutes, sets.hours, sets.months].contains(&0) {
        return Err(never());
    }
    Calendar::new(sets).ok_or_else(never)
}

/// What is said of `line`, field by field.
pub(crate) fn words(line: &str) -> Result<Words> {
    let cron = parse(line)?;
    let pattern = &cron.pattern;
    // Names such as `@daily` and `MON` are replaced here.
    let fields = pattern.to_string();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let first = usize::from(fields.len() == 5);
    let field = |index: usize| fields.get(index - first).copied().unwrap_or_default();
    Ok(Words {
        seconds: bits(pattern.seconds.values()),
        minutes: bits(pattern.minutes.values()),
        hours: bits(pattern.hours.values()),
        days_of_month: (!pattern.is_dom_wildcard()).then(|| days_of_month(bits(pattern.days.values()), field(3))),
        days_of_week: (!pattern.is_dow_wildcard()).then(|| days_of_week(bits(pattern.days_of_week.values()), field(5))),
        both_days: pattern.matches_dom_and_dow(),
        months: bits(pattern.months.values()),
        years: years(&cron, line),
    })
}

/// The days that are not numbers: `L`, `LW`, `15W`.
fn days_of_month(numbers: u64, text: &str) -> Days {
    let special = text.split(',').filter_map(|part| match part.strip_suffix('W') {
        _ if part == "L" => Some("the last day".to_owned()),
        Some("L") => Some("the last weekday".to_owned()),
        Some(day) => Some(format!("the weekday nearest day {day}")),
        None => None,
    });
    Days { numbers, special: special.collect() }
}

/// The days that are not numbers: `5#2`, `5L`, `5#L`.
fn days_of_week(numbers: u64, text: &str) -> Days {
    let special = text.trim_start_matches('+').split(',').filter_map(|part| {
        let (day, nth) = part.split_once('#').or_else(|| part.strip_suffix('L').map(|day| (day, "L")))?;
        let nth = match nth {
            "1" => "first",
            "2" => "second",
            "3" => "third",
            "4" => "fourth",
            "5" => "fifth",
            _ => "last",
        };
        let day = if day == "7" { "0" } else { day };
        let day = DAY_OF_WEEK.parse(day).map_or_else(|_| day.to_owned(), |bits| describe::list(&DAY_OF_WEEK, bits));
        Some(format!("the {nth} {day}"))
    });
    Days { numbers, special: special.collect() }
}

fn parse(line: &str) -> Result<Cron> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if line.starts_with('@') {
        return CronParser::new().parse(line).map_err(|_| {
            problem("cron", line, "must be `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily` or `@hourly`")
        });
    }
    if !(5..=7).contains(&fields.len()) {
        let expected = "five to seven fields are needed: [second] minute hour day month weekday [year]";
        return Err(problem("cron", line, &format!("{expected}; there are {}", fields.len())));
    }
    // Without seconds there is no year either.
    let first = usize::from(fields.len() == 5);
    let named = || FIELDS[first..].iter().zip(&fields).enumerate();
    named().try_for_each(|(_, (field, text))| check(*field, text))?;
    CronParser::new().parse(line).map_err(|error| {
        // croner does not say which field it is.
        let alone = named().find_map(|(index, ((name, lowest, highest), text))| {
            let mut others = ["*"; FIELDS.len()];
            others[first + index] = text;
            let error = CronParser::new().parse(&others.join(" ")).err()?;
            Some(problem(name, text, &format!("{}; it takes {lowest} to {highest}", plain(&error))))
        });
        alone.unwrap_or_else(|| problem("cron", line, &plain(&error)))
    })
}

/// Refuses what croner passes over or takes for something else.
fn check((name, _, highest): (&str, u32, u32), text: &str) -> Result<()> {
    let has_names = matches!(name, "day of month" | "month" | "day of week");
    if !has_names && let Some(letter) = text.chars().find(|letter| letter.is_alphabetic()) {
        return Err(problem(name, text, &format!("`{letter}` has no meaning here")));
    }
    for part in text.split(',') {
        if part.is_empty() {
            return Err(problem(name, text, "there is nothing in it, or between two commas"));
        }
        if let Some((_, step)) = part.split_once('/')
            && !step.parse().is_ok_and(|step: u32| (1..=highest).contains(&step))
        {
            let what = format!("the step must be a number from 1 to {highest}, `{}` is not", quoted(step));
            return Err(problem(name, part, &what));
        }
    }
    Ok(())
}

/// What croner says, in the manner of the house.
fn plain(error: &croner::errors::CronError) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(": ").map_or(text.as_str(), |(_, message)| message).trim_end_matches('.');
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

fn is_day(cron: &Cron, date: Date) -> bool {
    let weekday = Weekday::from_days_from_sunday(u32::from(date.weekday().to_sunday_zero_offset().unsigned_abs()));
    let (year, month, day) = (date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs());
    cron.pattern.day_match(year, month.into(), day.into(), weekday).unwrap_or(false)
}

fn bits(values: Vec<u16>) -> u64 {
    values.into_iter().fold(0, |bits, value| bits | 1_u64.checked_shl(value.into()).unwrap_or(0))
}

/// Empty for every year.
fn years(cron: &Cron, line: &str) -> Vec<i16> {
    if line.split_whitespace().count() < FIELDS.len() {
        return Vec::new();
    }
    let years = cron.pattern.years.values();
    if years.len() == usize::from(cron.pattern.years.max) {
        return Vec::new();
    }
    years.into_iter().filter_map(|year| i16::try_from(year).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(pattern: &str) -> String {
        line(pattern).and_then(|line| calendar(&line)).unwrap_err().message().to_owned()
    }

    #[test]
    fn a_line_is_kept_in_one_form() {
        assert_eq!(line("  0  30 9\tlw * mon-fri ").unwrap(), "0 30 9 LW * MON-FRI");
        assert_eq!(line("@Daily").unwrap(), "@daily");
    }

    #[test]
    fn a_bad_field_is_named() {
        for (pattern, told) in [
            ("60 * * * *", "minute `60`: number out of bounds; it takes 0 to 59"),
            ("61 0 0 * * *", "second `61`: number out of bounds; it takes 0 to 59"),
            ("0 24 * * *", "hour `24`: number out of bounds; it takes 0 to 23"),
            ("0 0 32 * *", "day of month `32`: number out of bounds; it takes 1 to 31"),
            ("0 0 * 13 *", "month `13`: number out of bounds; it takes 1 to 12"),
            ("0 0 * * 8", "day of week `8`: number out of bounds; it takes 0 to 7"),
            ("0 0 0 1 1 * 6000", "year `6000`: number out of bounds; it takes 1 to 5000"),
            ("*/0 * * * *", "minute `*/0`: the step must be a number from 1 to 59, `0` is not"),
            ("*/90 * * * *", "minute `*/90`: the step must be a number from 1 to 59, `90` is not"),
            ("0 0 * * 1#6", "day of week `1#6`: nth specifier out of bounds; it takes 0 to 7"),
            ("0 mon * * *", "hour `MON`: `M` has no meaning here"),
            ("0 10-8 * * *", "hour `10-8`: range out of bounds; it takes 0 to 23"),
            ("0 , * * *", "hour `,`: there is nothing in it, or between two commas"),
            ("99999999999999999999 * * * *", "minute `99999999999999999999`: invalid number; it takes 0 to 59"),
            ("0 0 30 2 *", "cron `0 0 30 2 *`: no time is in all of its fields"),
            ("0 0 * * +", "cron `0 0 * * +`: no time is in all of its fields"),
            ("0 0 0 29 2 * 2023", "cron `0 0 0 29 2 * 2023`: no time is in all of its fields"),
            ("@reboot", "cron `@reboot`: must be `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily` or `@hourly`"),
        ] {
            assert_eq!(error(pattern), told);
        }
        for pattern in ["", "* *", "* * * * * * * *"] {
            assert!(error(pattern).contains("five to seven fields are needed"), "{pattern}");
        }
        assert!(error(&"1,".repeat(5_000)).ends_with("must be 1000 bytes at most"));
    }
}
