//! The wire against Python's, and against itself.

mod captured;
mod messages;
mod props;
mod tables;

pub(crate) use captured::captured;
