//! The fields of a crontab: what numbers and names each takes, how its text is read and written.

use celeriac_core::Result;

use crate::calendar::{low, next};
use crate::error::{problem, quoted};

/// A field: its name as Celery has it, its lowest and highest number, and names for them.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) lowest: u32,
    pub(crate) highest: u32,
    /// In lower case, the first for the lowest number.
    names: &'static [&'static str],
}

pub(crate) const MINUTE: Field = Field { name: "minute", lowest: 0, highest: 59, names: &[] };
pub(crate) const HOUR: Field = Field { name: "hour", lowest: 0, highest: 23, names: &[] };
pub(crate) const DAY_OF_MONTH: Field = Field { name: "day_of_month", lowest: 1, highest: 31, names: &[] };
pub(crate) const MONTH_OF_YEAR: Field = Field {
    name: "month_of_year",
    lowest: 1,
    highest: 12,
    names: &[
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ],
};
pub(crate) const DAY_OF_WEEK: Field = Field {
    name: "day_of_week",
    lowest: 0,
    highest: 6,
    names: &["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"],
};

/// Names are known by so many letters.
const SHORT: usize = 3;

impl Field {
    /// All numbers of the field, as bits.
    pub(crate) fn all(&self) -> u64 {
        low(self.highest + 1) & !low(self.lowest)
    }

    /// Reads a list of numbers, names, ranges and steps into bits.
    ///
    /// COMPAT: as `celery/schedules.py::crontab_parser` (celery 5.7). A range may wrap around: `fri-mon`, `22-4/2`; a step counts from the start of its
    /// range; there is none after a single number. Stricter in what is a mistake: names belong to their field, a step is no larger than
    /// the field's highest number, and nothing may follow.
    pub(crate) fn parse(&self, text: &str) -> Result<u64> {
        text.split(',').try_fold(0, |bits, part| Ok(bits | self.part(part.trim())?))
    }

    /// The bits of numbers as they are.
    pub(crate) fn values(&self, values: &[i32]) -> Result<u64> {
        if values.is_empty() {
            return Err(problem(self.name, "[]", "there is nothing in it"));
        }
        values.iter().try_fold(0, |bits, value| {
            let number = u32::try_from(*value).ok().filter(|number| (self.lowest..=self.highest).contains(number));
            Ok(bits | 1 << number.ok_or_else(|| problem(self.name, &value.to_string(), &self.allowed()))?)
        })
    }

    fn part(&self, part: &str) -> Result<u64> {
        let wrong = |message: &str| problem(self.name, part, message);
        if part.is_empty() {
            return Err(wrong("there is nothing in it, or between two commas"));
        }
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.lowest, self.highest),
            Some((from, to)) => (self.number(part, from)?, self.number(part, to)?),
            None if step.is_some() => return Err(wrong("a step follows `*` or a range, as in `*/5` or `10-40/5`")),
            None => {
                let number = self.number(part, range)?;
                (number, number)
            }
        };
        let step = match step {
            None => 1,
            Some(step) => digits(step).filter(|step| (1..=self.highest).contains(step)).ok_or_else(|| {
                wrong(&format!("the step must be a number from 1 to {}, `{}` is not", self.highest, quoted(step)))
            })?,
        };
        let numbers: Box<dyn Iterator<Item = u32>> =
            if from <= to { Box::new(from..=to) } else { Box::new((from..=self.highest).chain(self.lowest..=to)) };
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        Ok(numbers.step_by(step).fold(0, |bits, number| bits | 1 << number))
    }

    fn number(&self, part: &str, text: &str) -> Result<u32> {
        let by_name = || {
            let lower = text.to_ascii_lowercase();
            let named = self.names.iter().position(|name| lower.len() >= SHORT && name.starts_with(&lower))?;
            u32::try_from(named).ok().map(|index| index + self.lowest)
        };
        let number = digits(text).filter(|number| (self.lowest..=self.highest).contains(number)).or_else(by_name);
        number.ok_or_else(|| {
            let what = if text == part { self.allowed() } else { format!("`{}`: {}", quoted(text), self.allowed()) };
            problem(self.name, part, &what)
        })
    }

    fn allowed(&self) -> String {
        let Self { lowest, highest, .. } = self;
        match self.names {
            [] => format!("must be {lowest} to {highest}"),
            [first, .., last] => {
                format!("must be {lowest} to {highest}, or a name from `{}` to `{}`", &first[..SHORT], &last[..SHORT])
            }
            [_] => String::new(),
        }
    }

    /// The one text for `bits`, which [`Field::parse`] reads back.
    pub(crate) fn text(&self, bits: u64) -> String {
        if bits == self.all() {
            return "*".to_owned();
        }
        let numbers = numbers(bits);
        if self.names.is_empty() && numbers.len() > 1 && numbers[0] == self.lowest {
            let step = numbers[1] - numbers[0];
            if self.part(&format!("*/{step}")).is_ok_and(|stepped| stepped == bits) {
                return format!("*/{step}");
            }
        }
        let mut parts = Vec::new();
        let mut rest = &numbers[..];
        while let [first, ..] = rest {
            let (step, count) = run(rest);
            // Steps from Wednesday on are nothing to read.
            if count < 3 || (step > 1 && !self.names.is_empty()) {
                parts.push(self.word(*first));
                rest = &rest[1..];
                continue;
            }
            let range = format!("{}-{}", self.word(*first), self.word(rest[count - 1]));
            parts.push(if step == 1 { range } else { format!("{range}/{step}") });
            rest = &rest[count..];
        }
        parts.join(",")
    }

    fn word(&self, number: u32) -> String {
        self.full_name(number).map_or_else(|| number.to_string(), |name| name[..SHORT].to_owned())
    }

    fn full_name(&self, number: u32) -> Option<&'static str> {
        self.names.get(usize::try_from(number.checked_sub(self.lowest)?).ok()?).copied()
    }

    /// The number, or its whole name with a capital letter.
    pub(crate) fn spoken(&self, number: u32) -> String {
        match self.full_name(number) {
            None => number.to_string(),
            Some(name) => format!("{}{}", name[..1].to_ascii_uppercase(), &name[1..]),
        }
    }
}

/// The numbers in `bits`, in order.
pub(crate) fn numbers(bits: u64) -> Vec<u32> {
    std::iter::successors(next(bits, 0), |number| next(bits, number + 1)).collect()
}

/// How far apart the first numbers are, and how many of them are just so far apart.
pub(crate) fn run(numbers: &[u32]) -> (u32, usize) {
    let [first, second, ..] = numbers else { return (1, numbers.len()) };
    let step = second - first;
    (step, 1 + numbers.windows(2).take_while(|pair| pair[1] - pair[0] == step).count())
}

fn digits(text: &str) -> Option<u32> {
    (text.bytes().all(|letter| letter.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(field: &Field, text: &str) -> Vec<u32> {
        numbers(field.parse(text).unwrap())
    }

    #[test]
    fn all_that_celery_writes_is_read() {
        assert_eq!(read(&HOUR, "*").len(), 24);
        assert_eq!(read(&HOUR, "7"), [7]);
        assert_eq!(read(&HOUR, "8-10,1 , 22"), [1, 8, 9, 10, 22]);
        assert_eq!(read(&MINUTE, "*/20"), [0, 20, 40]);
        assert_eq!(read(&DAY_OF_MONTH, "*/10"), [1, 11, 21, 31]);
        assert_eq!(read(&MONTH_OF_YEAR, "2-12/5"), [2, 7, 12]);
        assert_eq!(read(&DAY_OF_WEEK, "mon-Wednesday,SAT"), [1, 2, 3, 6]);
        assert_eq!(read(&MONTH_OF_YEAR, "sept,december"), [9, 12]);
    }

    #[test]
    fn ranges_wrap_around_and_steps_go_with_them() {
        assert_eq!(read(&DAY_OF_WEEK, "fri-mon"), [0, 1, 5, 6]);
        assert_eq!(read(&HOUR, "22-4/2"), [0, 2, 4, 22]);
        assert_eq!(read(&MONTH_OF_YEAR, "nov-feb"), [1, 2, 11, 12]);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (field, text, told) in [
            (&MINUTE, "", "minute ``: there is nothing in it, or between two commas"),
            (&MINUTE, "1,,2", "minute ``: there is nothing in it, or between two commas"),
            (&MINUTE, "60", "minute `60`: must be 0 to 59"),
            (&MINUTE, "-1", "minute `-1`: ``: must be 0 to 59"),
            (&MINUTE, "+1", "minute `+1`: must be 0 to 59"),
            (&MINUTE, "5-x", "minute `5-x`: `x`: must be 0 to 59"),
            (&MINUTE, "99999999999999999999", "minute `99999999999999999999`: must be 0 to 59"),
            (&MINUTE, "5/10", "minute `5/10`: a step follows `*` or a range, as in `*/5` or `10-40/5`"),
            (&MINUTE, "*/0", "minute `*/0`: the step must be a number from 1 to 59, `0` is not"),
            (&MINUTE, "*/90", "minute `*/90`: the step must be a number from 1 to 59, `90` is not"),
            (&MINUTE, "*/", "minute `*/`: the step must be a number from 1 to 59, `` is not"),
            (&MINUTE, "*/5/5", "minute `*/5/5`: the step must be a number from 1 to 59, `5/5` is not"),
            (&MINUTE, "*5", "minute `*5`: must be 0 to 59"),
            (&MINUTE, "jan", "minute `jan`: must be 0 to 59"),
            (&DAY_OF_MONTH, "0", "day_of_month `0`: must be 1 to 31"),
            (&DAY_OF_WEEK, "7", "day_of_week `7`: must be 0 to 6, or a name from `sun` to `sat`"),
            (&DAY_OF_WEEK, "mo", "day_of_week `mo`: must be 0 to 6, or a name from `sun` to `sat`"),
            (&DAY_OF_WEEK, "monk", "day_of_week `monk`: must be 0 to 6, or a name from `sun` to `sat`"),
            (&DAY_OF_WEEK, "mon-may", "day_of_week `mon-may`: `may`: must be 0 to 6, or a name from `sun` to `sat`"),
            (&MONTH_OF_YEAR, "mon", "month_of_year `mon`: must be 1 to 12, or a name from `jan` to `dec`"),
        ] {
            assert_eq!(field.parse(text).unwrap_err().message(), told);
        }
        assert_eq!(HOUR.values(&[]).unwrap_err().message(), "hour `[]`: there is nothing in it");
        assert_eq!(HOUR.values(&[1, -1]).unwrap_err().message(), "hour `-1`: must be 0 to 23");
        assert_eq!(HOUR.values(&[i32::MAX]).unwrap_err().message(), "hour `2147483647`: must be 0 to 23");
    }

    #[test]
    fn numbers_have_one_text_which_means_them() {
        for (field, given, text) in [
            (&MINUTE, "0-59", "*"),
            (&MINUTE, "45,30,15,0", "*/15"),
            (&MINUTE, "0", "0"),
            (&MINUTE, "1,2", "1,2"),
            (&MINUTE, "1,2,3,10,20,30,40", "1-3,10-40/10"),
            (&HOUR, "22-4", "0-4,22,23"),
            (&DAY_OF_MONTH, "1-31/2", "*/2"),
            (&DAY_OF_WEEK, "1-5", "mon-fri"),
            (&DAY_OF_WEEK, "*/2", "sun,tue,thu,sat"),
            (&MONTH_OF_YEAR, "3,1,2,9", "jan-mar,sep"),
        ] {
            let bits = field.parse(given).unwrap();
            assert_eq!(field.text(bits), text);
            assert_eq!(field.parse(text).unwrap(), bits, "{text}");
        }
    }

    #[test]
    fn each_text_of_random_numbers_means_them() {
        let mut random = fastrand::Rng::with_seed(5);
        for field in [&MINUTE, &HOUR, &DAY_OF_MONTH, &MONTH_OF_YEAR, &DAY_OF_WEEK] {
            for _ in 0..2_000 {
                let bits = random.u64(..) & random.u64(..) & field.all();
                if bits != 0 {
                    assert_eq!(field.parse(&field.text(bits)).unwrap(), bits, "{}", field.text(bits));
                }
            }
        }
    }
}
