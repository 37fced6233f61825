//! Which civil times match: bit sets, and the search for the next one that is in all of them.

use jiff::civil::{Date, DateTime, Time};

/// The Gregorian calendar repeats after so many years: what does not come in them never comes.
const CYCLE: u32 = 400;
const LAST_YEAR: i16 = 9999;

/// A set of civil times, to the second.
///
/// Days are kept for each kind of month there is, by its length and its first weekday: so whatever rule chose them, finding one takes a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Calendar {
    seconds: u64,
    minutes: u64,
    hours: u32,
    months: u32,
    days: Days,
    /// In order; all of them if empty.
    years: Box<[i16]>,
}

/// Bits 1 to 31 for the days of a month of 28 and more days, whose first day is the weekday of that number, with Sunday as 0.
pub(crate) type Days = [[u32; 7]; 4];

/// The sets that a calendar is made of: bit n stands for the number n.
#[derive(Debug, Clone)]
pub(crate) struct Sets {
    pub(crate) seconds: u64,
    pub(crate) minutes: u64,
    pub(crate) hours: u64,
    pub(crate) months: u64,
    pub(crate) days: Days,
    pub(crate) years: Vec<i16>,
}

impl Calendar {
    /// `None` if no time is in all the sets.
    pub(crate) fn new(sets: Sets) -> Option<Self> {
        let Sets { seconds, minutes, hours, months, days, years } = sets;
        let calendar = Self {
            seconds: seconds & low(60),
            minutes: minutes & low(60),
            hours: narrow(hours & low(24)),
            months: narrow(months & (low(12) << 1)),
            days,
            years: years.into(),
        };
        let some_time = calendar.seconds != 0 && calendar.minutes != 0 && calendar.hours != 0;
        (some_time && calendar.day_at_or_after(1, 1, 1).is_some()).then_some(calendar)
    }

    /// Whether no hour of the day is left out.
    pub(crate) fn is_hourly(&self) -> bool {
        u64::from(self.hours) == low(24)
    }

    /// The first time of the set that is not before `from`.
    pub(crate) fn at_or_after(&self, from: DateTime) -> Option<DateTime> {
        let (date, time) = (from.date(), from.time());
        let (year, month, day) = (date.year(), number(date.month()), number(date.day()));
        let matches = self.year_at_or_after(year) == Some(year)
            && next(self.months.into(), month) == Some(month)
            && next(self.days_of(year, month).into(), day) == Some(day);
        if matches && let Some(time) = self.time_at_or_after(time) {
            return Some(date.to_datetime(time));
        }
        let date = self.day_at_or_after(year, month, day + 1)?;
        Some(date.to_datetime(self.time_at_or_after(Time::midnight())?))
    }

    fn time_at_or_after(&self, from: Time) -> Option<Time> {
        let (hour, minute, second) = (number(from.hour()), number(from.minute()), number(from.second()));
        let (hours, first_minute) = (u64::from(self.hours), next(self.minutes, 0)?);
        let first_second = next(self.seconds, 0)?;
        if next(hours, hour) == Some(hour) {
            if next(self.minutes, minute) == Some(minute)
                && let Some(second) = next(self.seconds, second)
            {
                return time(hour, minute, second);
            }
            if let Some(minute) = next(self.minutes, minute + 1) {
                return time(hour, minute, first_second);
            }
        }
        time(next(hours, hour + 1)?, first_minute, first_second)
    }

    /// `month` and `day` may be past the last one.
    fn day_at_or_after(&self, year: i16, month: u32, day: u32) -> Option<Date> {
        let (mut year, mut from) = (year, (month, day));
        for _ in 0..=CYCLE {
            let reached = self.year_at_or_after(year)?;
            if reached != year {
                (year, from) = (reached, (1, 1));
            }
            let (mut month, mut day) = from;
            while let Some(reached) = next(self.months.into(), month) {
                if reached != month {
                    (month, day) = (reached, 1);
                }
                if let Some(day) = next(self.days_of(year, month).into(), day) {
                    return Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok();
                }
                (month, day) = (month + 1, 1);
            }
            (year, from) = (year.checked_add(1)?, (1, 1));
        }
        None
    }

    fn year_at_or_after(&self, year: i16) -> Option<i16> {
        if self.years.is_empty() {
            return (year <= LAST_YEAR).then_some(year);
        }
        self.years.get(self.years.partition_point(|given| *given < year)).copied()
    }

    fn days_of(&self, year: i16, month: u32) -> u32 {
        i8::try_from(month)
            .ok()
            .and_then(|month| Date::new(year, month, 1).ok())
            .and_then(month_kind)
            .map_or(0, |(length, weekday)| self.days[length][weekday])
    }
}

/// Where the month that begins with `first` is found in [`Days`].
fn month_kind(first: Date) -> Option<(usize, usize)> {
    let length = usize::try_from(first.days_in_month()).ok()?.checked_sub(28)?;
    let weekday = usize::try_from(first.weekday().to_sunday_zero_offset()).ok()?;
    (length < 4 && weekday < 7).then_some((length, weekday))
}

/// The days of each kind of month for which `matches` is true. It is asked about the days of real months.
pub(crate) fn days(mut matches: impl FnMut(Date) -> bool) -> Days {
    let mut days = Days::default();
    // Each kind of month comes within 28 years.
    for year in 2000..2028 {
        for month in 1..=12 {
            let Ok(first) = Date::new(year, month, 1) else { continue };
            let Some((length, weekday)) = month_kind(first) else { continue };
            let known = &mut days[length][weekday];
            if *known == 0 {
                let all = (1..=first.days_in_month()).filter_map(|day| Date::new(year, month, day).ok());
                *known = all.filter(|date| matches(*date)).fold(0, |bits, date| bits | 1 << number(date.day()));
            }
        }
    }
    days
}

/// The lowest number in `bits` that is not below `from`.
pub(crate) fn next(bits: u64, from: u32) -> Option<u32> {
    let rest = bits.checked_shr(from)?;
    (rest != 0).then(|| from + rest.trailing_zeros())
}

/// The numbers below `count`, as bits.
pub(crate) const fn low(count: u32) -> u64 {
    (1 << count) - 1
}

/// Of sets that have no number above 31.
fn narrow(bits: u64) -> u32 {
    u32::try_from(bits).unwrap_or(0)
}

/// A field of a date or time, which is never negative.
fn number(field: i8) -> u32 {
    u32::from(field.unsigned_abs())
}

fn time(hour: u32, minute: u32, second: u32) -> Option<Time> {
    Time::new(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, i8::try_from(second).ok()?, 0).ok()
}
