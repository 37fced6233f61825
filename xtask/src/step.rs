//! Named steps, run in order until one fails.

use std::time::{Duration, Instant};

use crate::{Result, command::Cmd, project::Project};

/// One step of a run.
#[derive(Debug)]
pub(crate) struct Step {
    name: &'static str,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Commands(Vec<Cmd>),
    /// A check of this program, and the command that repeats it.
    Own(fn(&Project) -> Result, &'static str),
    /// Nothing to run, and why.
    Skipped(&'static str),
}

impl Step {
    pub(crate) fn commands(name: &'static str, commands: Vec<Cmd>) -> Self {
        Self { name, work: Work::Commands(commands) }
    }

    pub(crate) fn own(name: &'static str, check: fn(&Project) -> Result, repeat: &'static str) -> Self {
        Self { name, work: Work::Own(check, repeat) }
    }

    pub(crate) fn skipped(name: &'static str, reason: &'static str) -> Self {
        Self { name, work: Work::Skipped(reason) }
    }

    fn run(&self, project: &Project) -> Result {
        let failed = |error, repeat: &dyn std::fmt::Display| {
            format!("step `{}` failed: {error}\nrepeat it alone with: {repeat}", self.name)
        };
        match &self.work {
            Work::Commands(commands) => {
                for command in commands {
                    println!("    {command}");
                    command.run(&project.root).map_err(|error| failed(error, command))?;
                }
            }
            Work::Own(check, repeat) => check(project).map_err(|error| failed(error, repeat))?,
            Work::Skipped(reason) => println!("    NOT RUN: {reason}"),
        }
        Ok(())
    }
}

/// Runs `steps` in order. After the last one nothing is printed, so that a run ends on that step's own summary.
pub(crate) fn run_all(steps: &[Step], project: &Project) -> Result {
    let start = Instant::now();
    for (number, step) in (1..).zip(steps) {
        println!("==> [{number}/{}] {}", steps.len(), step.name);
        let began = Instant::now();
        step.run(project)?;
        if number < steps.len() && !matches!(step.work, Work::Skipped(_)) {
            println!("    {} in {}, {} so far", step.name, shown(began.elapsed()), shown(start.elapsed()));
        }
    }
    Ok(())
}

fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.0} min {:.0} s", (seconds / 60.0).floor(), seconds % 60.0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn project() -> Project {
        Project { root: PathBuf::from("."), packages: Vec::new(), target: PathBuf::from("target") }
    }

    #[test]
    fn the_first_failure_ends_the_run_and_names_step_and_command() {
        let steps = [
            Step::skipped("absent", "made up"),
            Step::own("broken", |_| Err("not so".into()), "cargo xtask broken"),
            Step::own("later", |_| Err("must not run".into()), "cargo xtask later"),
        ];
        let error = run_all(&steps, &project()).unwrap_err().to_string();
        assert_eq!(error, "step `broken` failed: not so\nrepeat it alone with: cargo xtask broken");
    }

    #[test]
    fn a_failing_command_is_the_one_to_repeat() {
        let commands = vec![Cmd::cargo(&["--version"]), Cmd::cargo(&["no-such-subcommand"])];
        let error = run_all(&[Step::commands("commands", commands)], &project()).unwrap_err().to_string();
        assert!(error.ends_with("repeat it alone with: cargo no-such-subcommand"), "{error}");
    }

    #[test]
    fn durations_are_shown_for_people() {
        assert_eq!(shown(Duration::from_millis(1250)), "1.2 s");
        assert_eq!(shown(Duration::from_secs(200)), "3 min 20 s");
    }
}
