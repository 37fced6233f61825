//! Python-style representations of arguments, for the headers `argsrepr` and `kwargsrepr`: to be shown, never parsed.
//!
//! Written straight from `Serialize`, without a tree in between, and given up as soon as the limit is used up.

mod write;

use serde::Serialize;

use self::write::Out;

/// How many characters a representation takes, about; what is over is cut (`celery/app/amqp.py`, celery 5.7).
pub const LIMIT: usize = 1024;

/// How many containers are shown inside one another; deeper ones print as `[...]` (`celery/utils/saferepr.py`).
pub const MAX_LEVELS: usize = 3;

/// The representation of positional arguments given as a slice: `(2, 3)`, `(1,)`, `()`.
///
/// ```
/// use celeriac_core::repr::args_repr;
///
/// assert_eq!(args_repr(&["it's"]), r"('it\'s',)");
/// ```
#[must_use]
pub fn args_repr<T: Serialize>(args: &[T]) -> String {
    let mut writer = ReprWriter::positional();
    for arg in args {
        writer.push(arg);
    }
    writer.finish()
}

/// The representation of keyword arguments: `{'k': 1}`, `{}`.
///
/// ```
/// use celeriac_core::repr::kwargs_repr;
///
/// assert_eq!(kwargs_repr([("k", 1)]), "{'k': 1}");
/// ```
#[must_use]
pub fn kwargs_repr<'a, T: Serialize>(kwargs: impl IntoIterator<Item = (&'a str, T)>) -> String {
    let mut writer = ReprWriter::keyword();
    for (name, value) in kwargs {
        writer.push_named(name, &value);
    }
    writer.finish()
}

/// Builds a representation argument by argument, for callers whose arguments differ in type.
///
/// # Examples
/// ```
/// use celeriac_core::repr::ReprWriter;
///
/// let mut args = ReprWriter::positional();
/// args.push(&2).push(&None::<u8>).push(&vec![true, false]);
/// assert_eq!(args.finish(), "(2, None, [True, False])");
/// ```
#[derive(Debug)]
pub struct ReprWriter {
    out: Out,
    named: bool,
    count: usize,
}

impl ReprWriter {
    /// For positional arguments: a tuple.
    #[must_use]
    pub fn positional() -> Self {
        Self { out: Out::new("("), named: false, count: 0 }
    }

    /// For keyword arguments: a dict.
    #[must_use]
    pub fn keyword() -> Self {
        Self { out: Out::new("{"), named: true, count: 0 }
    }

    /// Adds an argument. Nothing is looked at any more once the limit is used up.
    pub fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> &mut Self {
        if self.open() {
            self.out.value(value);
        }
        self
    }

    /// Adds an argument under its name.
    pub fn push_named<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> &mut Self {
        if self.open() {
            self.out.value(name);
            self.out.raw(": ");
            self.out.value(value);
        }
        self
    }

    fn open(&mut self) -> bool {
        self.count += 1;
        if self.count > 1 {
            self.out.raw(", ");
        }
        !self.out.is_full()
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        let close = match (self.named, self.count) {
            (true, _) => "}",
            (false, 1) => ",)",
            (false, _) => ")",
        };
        self.out.finish(close)
    }
}

/// Appends `value` the way Python prints a float: `1.0`, `1e-07`, `1e+20`, `nan`, `inf`.
pub fn push_float(out: &mut String, value: f64) {
    use std::fmt::Write as _;

    if value.is_nan() {
        out.push_str("nan");
        return;
    }
    if value.is_infinite() {
        out.push_str(if value < 0.0 { "-inf" } else { "inf" });
        return;
    }
    let magnitude = value.abs();
    // Python switches to exponents where repr() of the exponent leaves -4..16.
    if magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        // Writing to a String cannot fail.
        let _ = write!(out, "{value}");
        if magnitude.fract() == 0.0 {
            out.push_str(".0");
        }
        return;
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    let _ = write!(out, "{digits}e{sign}{exponent:0>2}");
}

#[cfg(test)]
mod tests;
