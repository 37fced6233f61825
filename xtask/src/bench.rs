//! `cargo xtask bench`: builds the speed bench with optimizations and runs it. It writes below `bench` in the target folder.

use crate::{Result, command::Cmd, project::Project};

pub(crate) fn run(project: &Project, words: &[&str]) -> Result {
    command(words).run(&project.root)
}

fn command(words: &[&str]) -> Cmd {
    Cmd::cargo(&[&["bench", "-p", "celeriac-benches", "--bench", "speed", "--"], words].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bench_is_told_what_is_asked_for() {
        let shown = command(&["redis", "--scale", "0.1"]).to_string();
        assert_eq!(shown, "cargo bench -p celeriac-benches --bench speed -- redis --scale 0.1");
    }
}
