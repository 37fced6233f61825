//! Values that travel as text with a form to keep: dates, times, decimals, big integers; and UUIDs.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $check:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks and takes `text`.
            ///
            /// # Errors
            #[doc = concat!("[`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if it is no ", $what, ".")]
            pub fn new<'a>(text: impl Into<Cow<'a, str>>) -> Result<Self> {
                let text = text.into();
                if $check(&text) {
                    return Ok(Self(text.into()));
                }
                let shown: String = text.chars().take(64).collect();
                Err(Error::malformed("decode value", format!(concat!("`{}` is no ", $what), shown)))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }
    )*};
}

texts! {
    /// A date and time in Python's `isoformat()`: `2026-01-02T03:04:05.000678+00:00`; fraction and offset may be missing.
    ///
    /// Read leniently: `Z`, a space for the `T`, an offset without colon, a date alone.
    DateTime, "ISO 8601 date and time", |text: &str| is_datetime(text.as_bytes());
    /// A date: `2026-01-02`.
    Date, "ISO 8601 date", |text: &str| is_date(text.as_bytes());
    /// A time of day: `03:04:05.678901+00:00`; fraction and offset may be missing.
    Time, "ISO 8601 time", |text: &str| is_time(text.as_bytes());
    /// A decimal number as Python's `Decimal` prints it: `1.50`, `1E+5`, `NaN`, `-Infinity`.
    Decimal, "decimal number", is_decimal;
}

/// An integer of any size: decimal digits, a minus if negative, no leading zeros.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BigInt(Box<str>);

impl BigInt {
    /// Takes decimal digits with an optional sign; leading zeros are dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if there is anything but digits.
    pub fn new(text: &str) -> Result<Self> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", text.strip_prefix('+').unwrap_or(text)),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let shown: String = text.chars().take(64).collect();
            return Err(Error::malformed("decode value", format!("`{shown}` is no integer")));
        }
        Ok(match digits.trim_start_matches('0') {
            "" => Self("0".into()),
            digits => Self(format!("{sign}{digits}").into()),
        })
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number, if it fits.
    #[must_use]
    pub fn to_i128(&self) -> Option<i128> {
        self.0.parse().ok()
    }

    /// The number, if it is not negative and fits.
    #[must_use]
    pub fn to_u128(&self) -> Option<u128> {
        self.0.parse().ok()
    }
}

impl From<i128> for BigInt {
    fn from(value: i128) -> Self {
        Self(value.to_string().into())
    }
}

impl From<u128> for BigInt {
    fn from(value: u128) -> Self {
        Self(value.to_string().into())
    }
}

impl FromStr for BigInt {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl fmt::Debug for BigInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BigInt({})", self.0)
    }
}

impl fmt::Display for BigInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A UUID of any version; prints in its 36-character form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uuid(uuid::Uuid);

impl Uuid {
    /// Takes the 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes))
    }

    /// Reads 32 hexadecimal digits, with or without hyphens.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if it is anything else.
    pub fn new(text: &str) -> Result<Self> {
        let shown = || text.chars().take(64).collect::<String>();
        uuid::Uuid::try_parse(text)
            .map(Self)
            .map_err(|error| Error::malformed("decode value", format!("`{}` is no UUID", shown())).with_source(error))
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The 32 hexadecimal digits, without hyphens.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.simple().to_string()
    }
}

impl FromStr for Uuid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({})", self.0)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Takes `count` digits off `text` and returns their number; `None` if they are not there.
fn digits(text: &mut &[u8], count: usize) -> Option<u32> {
    let (head, tail) = text.split_at_checked(count)?;
    let mut number = 0;
    for byte in head {
        number = number * 10 + u32::from(byte.is_ascii_digit().then(|| byte - b'0')?);
    }
    *text = tail;
    Some(number)
}

fn take(text: &mut &[u8], expected: &[u8]) -> bool {
    match text.split_first() {
        Some((first, rest)) if expected.contains(first) => {
            *text = rest;
            true
        }
        _ => false,
    }
}

fn date(text: &mut &[u8]) -> Option<()> {
    let year = digits(text, 4)?;
    take(text, b"-").then_some(())?;
    let month = digits(text, 2)?;
    take(text, b"-").then_some(())?;
    let day = digits(text, 2)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    (year > 0 && (1..=days).contains(&day)).then_some(())
}

/// `HH:MM[:SS[.f…]]` or an offset's `HH[:]MM[[:]SS[.f…]]`, by `colons`.
fn clock(text: &mut &[u8], needs_colons: bool) -> Option<()> {
    let hour = digits(text, 2)?;
    let colon = take(text, b":");
    (colon || !needs_colons).then_some(())?;
    let minute = digits(text, 2)?;
    let mut second = 0;
    let more = if colon { take(text, b":") } else { text.first().is_some_and(u8::is_ascii_digit) };
    if more {
        second = digits(text, 2)?;
        if take(text, b".,") {
            let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (length > 0).then_some(())?;
            *text = text.get(length..)?;
        }
    }
    (hour < 24 && minute < 60 && second < 60).then_some(())
}

fn offset(text: &mut &[u8]) -> Option<()> {
    if text.is_empty() || take(text, b"Zz") {
        return Some(());
    }
    take(text, b"+-").then_some(())?;
    clock(text, false)
}

fn is_date(mut text: &[u8]) -> bool {
    date(&mut text).is_some() && text.is_empty()
}

fn is_time(mut text: &[u8]) -> bool {
    clock(&mut text, true).and_then(|()| offset(&mut text)).is_some() && text.is_empty()
}

fn is_datetime(mut text: &[u8]) -> bool {
    date(&mut text).is_some() && (text.is_empty() || take(&mut text, b"Tt ") && is_time(text))
}

fn is_decimal(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text).to_ascii_lowercase();
    if text == "inf" || text == "infinity" {
        return true;
    }
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(payload) = text.strip_prefix("nan").or_else(|| text.strip_prefix("snan")) {
        return all_digits(payload);
    }
    let (number, exponent) =
        text.split_once('e').map_or((text.as_str(), None), |(number, exponent)| (number, Some(exponent)));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let exponent_is_fine = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && all_digits(exponent)
    });
    !(whole.is_empty() && fraction.is_empty()) && all_digits(whole) && all_digits(fraction) && exponent_is_fine
}
