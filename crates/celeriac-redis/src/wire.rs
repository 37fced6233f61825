//! What Redis holds: envelopes in lists, records under keys, parts of chords in sorted sets.

pub(crate) mod envelope;
pub(crate) mod json;
pub(crate) mod part;

/// The record of a task: the value of `celery-task-meta-<id>`, and what is published under that name.
pub(crate) use celeriac_serializer::record as meta;

#[cfg(test)]
mod tests;
