//! Celeriac against messages and results captured from Celery 5.7: see `tests/vectors/README.md`.

#![cfg(test)]

mod bodies;
mod captured;
mod headers;
mod ill_formed;
mod produced;
mod protocol_1;
mod results;
mod running;
mod signatures;
