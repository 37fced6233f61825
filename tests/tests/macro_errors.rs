//! What `#[celeriac::task]` says about mistakes, word for word, and what it accepts.
//!
//! After a change on purpose: `TRYBUILD=overwrite cargo test -p celeriac-tests --test macro_errors`.

#[test]
fn mistakes_are_reported_where_they_are() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("ui/fail/*.rs");
    cases.pass("ui/pass/*.rs");
}
