//! What Redis holds: envelopes in lists, records under keys, parts of chords in sorted sets.

pub(crate) mod envelope;
pub(crate) mod json;
pub(crate) mod meta;
pub(crate) mod part;

#[cfg(test)]
mod tests;
