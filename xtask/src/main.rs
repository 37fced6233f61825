//! `cargo xtask`: sets up, checks and tests the workspace with one command.
//!
//! Needs a Rust toolchain and a C compiler; what else is missing, `setup.rs` installs on Debian. `test.rs` lists the
//! steps, `arrows.rs` holds the dependency rules, `tidy.rs` the rules for files.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks through its streams")]

mod arrows;
mod bench;
mod command;
mod files;
mod project;
mod setup;
mod signatures;
mod step;
mod test;
mod tidy;

use std::{env, error::Error, process::ExitCode};

use project::Project;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
usage: cargo xtask <command>

  setup    check the toolchain, fetch the dependencies, install what tests need
  arrows   check who may depend on whom
  tidy     check files and manifests against the house rules
  test     setup, then every check and every test
  bench    how fast each system is; with names of systems and parts, only those, which `bench help` lists
  help     print this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["setup"] => Project::load().and_then(|project| setup::run(&project)),
        ["arrows"] => Project::load().and_then(|project| arrows::run(&project)),
        ["tidy"] => Project::load().and_then(|project| tidy::run(&project)),
        ["test"] => Project::load().and_then(|project| test::run(&project)),
        ["bench", ref words @ ..] => Project::load().and_then(|project| bench::run(&project, words)),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        [] => Err(USAGE.into()),
        _ => Err(format!("unknown command `{}`\n\n{USAGE}", arguments.join(" ")).into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Succeeds when `problems` is empty, else fails with one line for each.
fn verdict(problems: &[String], rules: &str) -> Result {
    if problems.is_empty() {
        return Ok(());
    }
    let count = problems.len();
    Err(format!("{count} against the {rules}:\n  {}", problems.join("\n  ")).into())
}
