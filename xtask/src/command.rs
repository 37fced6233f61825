//! One external command: run it, read it, or show how to repeat it.

use std::{
    env, fmt,
    path::Path,
    process::{Command, Stdio},
};

use crate::Result;

/// A program with its arguments and extra environment.
#[derive(Debug)]
pub(crate) struct Cmd {
    program: String,
    arguments: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
}

impl Cmd {
    pub(crate) fn new(program: impl Into<String>, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self { program: program.into(), arguments, environment: Vec::new() }
    }

    /// The cargo that started this program, so that one toolchain serves every step.
    pub(crate) fn cargo(arguments: &[&str]) -> Self {
        Self::new("cargo", arguments)
    }

    #[must_use]
    pub(crate) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    /// Runs in `directory` with the terminal's own streams; a failure names the command.
    pub(crate) fn run(&self, directory: &Path) -> Result {
        let status = self.build(directory).status().map_err(|error| format!("`{self}` did not start: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("`{self}` failed ({status})").into()) }
    }

    /// Runs in `directory` and returns what it printed.
    pub(crate) fn read(&self, directory: &Path) -> Result<String> {
        let output = self.build(directory).output().map_err(|error| format!("`{self}` did not start: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("`{self}` failed ({}):\n{}", output.status, said.trim()).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Whether it starts and succeeds; says nothing.
    pub(crate) fn works(&self, directory: &Path) -> bool {
        let quiet = self.build(directory).stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success())
    }

    fn build(&self, directory: &Path) -> Command {
        let mut command = match self.program.as_str() {
            "cargo" => Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
            program => Command::new(program),
        };
        command.current_dir(directory).args(&self.arguments).stdin(Stdio::null());
        // `cargo run` describes this package in the environment; build scripts that look there would be run anew.
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().copied());
        command
    }
}

/// As it would be typed into a shell.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.environment {
            write!(f, "{name}='{value}' ")?;
        }
        f.write_str(&self.program)?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {argument}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let doc = Cmd::cargo(&["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(doc.to_string(), "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps");
    }

    #[test]
    fn a_program_that_is_not_there_does_not_work() {
        assert!(!Cmd::new("celeriac-no-such-program", &[]).works(Path::new(".")));
    }
}
