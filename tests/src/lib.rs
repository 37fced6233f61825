//! Tests across the crates of celeriac: see `tests/`.
