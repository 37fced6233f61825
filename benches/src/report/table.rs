//! The table on the terminal.

use std::fmt;

use super::{Report, Row, Unit, median};
use crate::system::Yardsticks;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let python = self.python.iter().map(|version| format!(", Python Celery {version}")).collect::<String>();
        writeln!(f, "{}, {} CPUs, {} rounds{python}", self.date, self.cpus, self.rounds)?;
        #[expect(clippy::float_cmp, reason = "it is 1 unless the command line says otherwise")]
        if self.scale != 1.0 {
            writeln!(f, "ALL COUNTS ARE {} TIMES THE PROPER ONES: good for a try, not for figures", self.scale)?;
        }
        for (system, version, yardsticks) in &self.systems {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.system == *system).collect();
            if rows.is_empty() {
                continue;
            }
            writeln!(f, "\n{version}")?;
            let (ours, raw, python) = ("celeriac", "raw", "python");
            writeln!(f, "{:<46} {ours:>13} {raw:>13} {:>6} {python:>11} {:>6}", "", "ratio", "ratio")?;
            for row in &rows {
                let cells = [cell(&row.ours, row.unit), cell(&row.raw, row.unit), cell(&row.python, row.unit)];
                let name = format!("{}: {}", row.part, row.name);
                let [ours, raw, python] = cells;
                let (by_raw, by_python) = (times(row.raw_ratio()), times(row.python_ratio()));
                let line =
                    format!("{name:<46} {ours:>13} {raw:>13} {by_raw:>6} {python:>11} {by_python:>6}  {}", row.note);
                writeln!(f, "{}", line.trim_end())?;
            }
            if let Some(yardsticks) = yardsticks.filter(|_| rows.iter().any(|row| !row.raw.is_empty())) {
                let Yardsticks { send, plain, results, lone, idle } = yardsticks;
                writeln!(f, "  raw: send: {send}. Work: {plain}.")?;
                writeln!(f, "       With results: {results}.")?;
                writeln!(f, "       Lone: {lone}.")?;
                writeln!(f, "       Idle: {idle}.")?;
            }
        }
        for missing in &self.missing {
            writeln!(f, "\n{missing}")?;
        }
        writeln!(
            f,
            "\nA figure is the median of its rounds, a ratio the median of the rounds' ratios, Celeriac's by the other's:"
        )?;
        writeln!(f, "of rates more is better, of everything else less.")
    }
}

/// The median, or a dash.
fn cell(samples: &[f64], unit: Unit) -> String {
    median(samples.iter().copied()).map_or_else(|| "-".to_owned(), |median| shown(median, unit))
}

/// A figure with its unit.
pub(super) fn shown(figure: f64, unit: Unit) -> String {
    let whole = matches!(unit, Unit::Count | Unit::PerMinute | Unit::PerSecond);
    let digits = match figure {
        _ if whole => 0,
        0.0 => 1,
        ..0.1 => 3,
        0.1..1.0 => 2,
        1.0..1_000.0 => 1,
        _ => 0,
    };
    let text = format!("{figure:.digits$}");
    let (whole, rest) =
        text.split_once('.').map_or((&*text, String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    format!("{}{rest}{}", grouped(whole), unit.symbol())
}

/// With a comma between thousands.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A ratio with three digits, or nothing.
#[must_use]
pub fn times(ratio: Option<f64>) -> String {
    match ratio {
        None => String::new(),
        Some(ratio) if ratio >= 100.0 => format!("{ratio:.0}"),
        Some(ratio) if ratio >= 10.0 => format!("{ratio:.1}"),
        Some(ratio) if ratio >= 0.1 => format!("{ratio:.2}"),
        Some(ratio) => format!("{ratio:.3}"),
    }
}
