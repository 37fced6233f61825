//! Messages as RabbitMQ carries them: properties, a table of headers, and the body's bytes.

mod properties;
mod size;
mod table;

pub(crate) use properties::{LONGEST_EXPIRATION, message, properties};
pub(crate) use size::header_frame;
pub(crate) use table::{map, table, value};

#[cfg(test)]
pub(crate) use tests::captured;
#[cfg(test)]
mod tests;
