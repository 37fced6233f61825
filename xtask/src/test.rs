//! `cargo xtask test`: every check and every test, the quick ones first.
//!
//! All steps share one target folder, the dev profile and, where the step allows, the same features, so that no
//! dependency is built twice without need. The unit, integration and process tests come last: a run ends on the test
//! runner's own summary line.

use crate::{
    Result, arrows,
    command::Cmd,
    project::{Features, Project},
    setup,
    step::{Step, run_all},
    tidy,
};

const FACADE: &str = "celeriac";

pub(crate) fn run(project: &Project) -> Result {
    run_all(&steps(project), project)
}

fn steps(project: &Project) -> Vec<Step> {
    let crates = project.published().filter(|package| package.name != FACADE);
    vec![
        Step::own("setup", setup::run, "cargo xtask setup"),
        Step::commands("format", vec![Cmd::cargo(&["fmt", "--all", "--check"])]),
        Step::own("tidy", tidy::run, "cargo xtask tidy"),
        Step::own("arrows", arrows::run, "cargo xtask arrows"),
        deny(project),
        Step::commands(
            "clippy",
            vec![Cmd::cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"])],
        ),
        Step::commands(
            "rustdoc",
            vec![Cmd::cargo(&["doc", "--workspace", "--no-deps", "--all-features"]).env("RUSTDOCFLAGS", "-D warnings")],
        ),
        Step::commands("facade without default features", vec![bare(FACADE)]),
        Step::commands("each crate alone without default features", crates.map(|c| bare(&c.name)).collect()),
        // What a build with all features cannot show.
        Step::commands("facade on Redis and RabbitMQ without TLS", vec![servers_without_tls()]),
        Step::commands("doc tests", vec![Cmd::cargo(&["test", "--workspace", "--all-features", "--doc"])]),
        tests(project),
    ]
}

fn bare(package: &str) -> Cmd {
    Cmd::cargo(&["check", "-p", package, Features::None.flag()])
}

fn servers_without_tls() -> Cmd {
    Cmd::cargo(&["test", "-p", FACADE, Features::None.flag(), "--features", "redis,amqp", "--lib"])
}

fn deny(project: &Project) -> Step {
    if Cmd::cargo(&["deny", "--version"]).works(&project.root) {
        // A ban may name an owner that does not exist yet.
        let check = Cmd::cargo(&["deny", "check", "--allow", "unused-wrapper", "bans", "licenses", "sources"]);
        return Step::commands("deny", vec![check]);
    }
    let reason = "cargo-deny is not installed; the bans are covered by `arrows`, our own licence by `tidy`, foreign \
                  licences and sources are not checked (`cargo install --locked cargo-deny`)";
    Step::skipped("deny", reason)
}

fn tests(project: &Project) -> Step {
    if Cmd::cargo(&["nextest", "--version"]).works(&project.root) {
        return Step::commands("tests", vec![Cmd::cargo(&["nextest", "run", "--workspace", "--all-features"])]);
    }
    let command = Cmd::cargo(&["test", "--workspace", "--all-features", "--lib", "--bins", "--tests", "--examples"]);
    Step::commands("tests (cargo-nextest is not installed: falling back to cargo test)", vec![command])
}
