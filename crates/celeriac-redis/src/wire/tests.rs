//! The wire against Python's, and against itself.

mod captured;
mod envelopes;
mod handing_back;
mod props;
mod strangers;
