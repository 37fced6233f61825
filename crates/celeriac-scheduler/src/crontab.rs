//! Celery's `crontab`: five fields, all of which must match.

use celeriac_core::Result;
use jiff::civil::Date;

use crate::calendar::{self, Calendar, Sets};
use crate::field::{DAY_OF_MONTH, DAY_OF_WEEK, Field, HOUR, MINUTE, MONTH_OF_YEAR};
use crate::{builder::ScheduleBuilder, error::problem, schedule::Schedule};

/// What a field of a [`Crontab`] is given as: a text, a number or a list of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronField(Given);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Given {
    Text(String),
    Values(Vec<i32>),
}

impl From<&str> for CronField {
    fn from(text: &str) -> Self {
        Self(Given::Text(text.to_owned()))
    }
}

impl From<String> for CronField {
    fn from(text: String) -> Self {
        Self(Given::Text(text))
    }
}

impl From<i32> for CronField {
    fn from(value: i32) -> Self {
        Self(Given::Values(vec![value]))
    }
}

impl<const N: usize> From<[i32; N]> for CronField {
    fn from(values: [i32; N]) -> Self {
        Self(Given::Values(values.into()))
    }
}

impl From<Vec<i32>> for CronField {
    fn from(values: Vec<i32>) -> Self {
        Self(Given::Values(values))
    }
}

impl CronField {
    fn bits(&self, field: &Field) -> Result<u64> {
        match &self.0 {
            Given::Text(text) => field.parse(text),
            Given::Values(values) => field.values(values),
        }
    }
}

/// Celery's `crontab`: five fields, `*` by default, **all of which must match**. (In cron, one of the two days is enough.)
///
/// | field | numbers | names |
/// |---|---|---|
/// | `minute` | 0 to 59 | |
/// | `hour` | 0 to 23 | |
/// | `day_of_week` | 0 to 6, from Sunday | `sun` to `sat`, or more letters |
/// | `day_of_month` | 1 to 31 | |
/// | `month_of_year` | 1 to 12 | `jan` to `dec`, or more letters |
///
/// A field is a number, a list of numbers, or a text: `*`, numbers and names, ranges (`9-17`; `fri-mon` and `22-4` wrap around), steps (`*/15`, `8-18/2`),
/// and lists of all these (`0,8-17/2`). A mistake shows when the schedule is built, in an error that names the field.
///
/// # Examples
/// ```
/// use celeriac_scheduler::Crontab;
///
/// let office = Crontab::new().minute("*/15").hour("9-17").day_of_week("mon-fri").tz("Europe/Berlin").build()?;
/// assert_eq!(office.to_string(), "crontab */15 9-17 * * mon-fri [Europe/Berlin]");
/// let twice = Crontab::new().minute([0, 30]).hour(4).build()?;
/// assert_eq!(twice.to_string(), "crontab */30 4 * * *");
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crontab {
    minute: CronField,
    hour: CronField,
    day_of_week: CronField,
    day_of_month: CronField,
    month_of_year: CronField,
}

impl Default for Crontab {
    fn default() -> Self {
        Self::new()
    }
}

impl Crontab {
    /// Every minute.
    #[must_use]
    pub fn new() -> Self {
        let all = || CronField::from("*");
        Self { minute: all(), hour: all(), day_of_week: all(), day_of_month: all(), month_of_year: all() }
    }

    /// The minutes of the hour.
    #[must_use]
    pub fn minute(mut self, minute: impl Into<CronField>) -> Self {
        self.minute = minute.into();
        self
    }

    /// The hours of the day.
    #[must_use]
    pub fn hour(mut self, hour: impl Into<CronField>) -> Self {
        self.hour = hour.into();
        self
    }

    /// The days of the week, from Sunday as 0.
    #[must_use]
    pub fn day_of_week(mut self, day_of_week: impl Into<CronField>) -> Self {
        self.day_of_week = day_of_week.into();
        self
    }

    /// The days of the month.
    #[must_use]
    pub fn day_of_month(mut self, day_of_month: impl Into<CronField>) -> Self {
        self.day_of_month = day_of_month.into();
        self
    }

    /// The months of the year.
    #[must_use]
    pub fn month_of_year(mut self, month_of_year: impl Into<CronField>) -> Self {
        self.month_of_year = month_of_year.into();
        self
    }

    /// In the time zone of that name, such as `Europe/Berlin`. UTC by default.
    #[must_use]
    pub fn tz(self, zone: impl Into<String>) -> ScheduleBuilder {
        ScheduleBuilder::from(self).tz(zone)
    }

    /// The schedule.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming the field that is wrong.
    pub fn build(self) -> Result<Schedule> {
        ScheduleBuilder::from(self).build()
    }

    /// Reads the usual line of cron: minute, hour, day of month, month, day of week.
    pub(crate) fn parse(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [minute, hour, day_of_month, month_of_year, day_of_week] = fields[..] else {
            let expected = "five fields are needed: minute, hour, day of month, month, day of week";
            return Err(problem("crontab", line, &format!("{expected}; there are {}", fields.len())));
        };
        Ok(Self {
            minute: minute.into(),
            hour: hour.into(),
            day_of_week: day_of_week.into(),
            day_of_month: day_of_month.into(),
            month_of_year: month_of_year.into(),
        })
    }

    pub(crate) fn bits(&self) -> Result<CrontabBits> {
        let bits = CrontabBits {
            minute: self.minute.bits(&MINUTE)?,
            hour: self.hour.bits(&HOUR)?,
            day_of_week: self.day_of_week.bits(&DAY_OF_WEEK)?,
            day_of_month: self.day_of_month.bits(&DAY_OF_MONTH)?,
            month_of_year: self.month_of_year.bits(&MONTH_OF_YEAR)?,
        };
        Ok(bits)
    }
}

/// The numbers of each field, as bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CrontabBits {
    pub(crate) minute: u64,
    pub(crate) hour: u64,
    pub(crate) day_of_week: u64,
    pub(crate) day_of_month: u64,
    pub(crate) month_of_year: u64,
}

impl CrontabBits {
    /// The one line for these fields.
    pub(crate) fn line(&self) -> String {
        let fields = [
            MINUTE.text(self.minute),
            HOUR.text(self.hour),
            DAY_OF_MONTH.text(self.day_of_month),
            MONTH_OF_YEAR.text(self.month_of_year),
            DAY_OF_WEEK.text(self.day_of_week),
        ];
        fields.join(" ")
    }

    pub(crate) fn calendar(&self) -> Result<Calendar> {
        let matches = |date: Date| {
            let (day, weekday) = (date.day(), date.weekday().to_sunday_zero_offset());
            self.day_of_month & (1 << day) != 0 && self.day_of_week & (1 << weekday) != 0
        };
        let sets = Sets {
            seconds: 1,
            minutes: self.minute,
            hours: self.hour,
            months: self.month_of_year,
            days: calendar::days(matches),
            years: Vec::new(),
        };
        Calendar::new(sets).ok_or_else(|| {
            let days = DAY_OF_MONTH.text(self.day_of_month);
            problem(DAY_OF_MONTH.name, &days, &format!("never comes in {}", MONTH_OF_YEAR.text(self.month_of_year)))
        })
    }
}
