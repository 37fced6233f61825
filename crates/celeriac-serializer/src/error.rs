//! How the formats' errors become [`Error`].

use std::fmt::Display;

use celeriac_core::Error;

pub(crate) const ENCODE: &str = "encode";
pub(crate) const DECODE: &str = "decode";

pub(crate) fn malformed(format: &str, error: impl Display) -> Error {
    Error::malformed(DECODE, format!("{format}: {error}"))
}

pub(crate) fn unencodable(format: &str, error: impl Display) -> Error {
    Error::unsupported(ENCODE, format!("{format}: {error}"))
}
