//! `Process`: a program that ends with the test that started it, however the test ends.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};

use super::patience::Patience;

/// Waits for its input's end, then removes a folder and kills its own process group: by the name `0`, which no other group can inherit.
const WATCHDOG: &str = r#"read _; rm -rf -- "$1"; kill -9 0"#;

/// The same, once the process that is named second has ended.
const WATCHDOG_OF: &str = r#"while kill -0 "$2"; do sleep 1; done; rm -rf -- "$1"; kill -9 0"#;

/// A running program, with whatever it starts in its turn: all of them are killed when this is dropped, and when the test's process
/// dies, also by SIGKILL.
///
/// Each runs in a process group of its own, in which a shell waits for the end of a pipe that only the test's process holds open.
#[derive(Debug)]
pub struct Process(Mutex<Running>);

#[derive(Debug)]
struct Running {
    program: Child,
    group: Pid,
    /// Holds the pipe's end: the group is killed when it is closed. `None` once all are killed.
    watchdog: Option<Child>,
}

impl Process {
    /// Starts `command`, without input. `folder` is the temporary one that it writes to; who starts it removes it, and where that cannot be
    /// because the test's process died, it is removed all the same.
    ///
    /// # Errors
    /// If the program, or the shell that watches over it, does not start.
    pub fn start(command: Command, folder: &Path) -> io::Result<Self> {
        Self::start_under(command, folder, None)
    }

    /// As [`Process::start`]; but if there is an `owner`, it is that process that this one does not outlive. Dropping ends it all the same.
    pub(super) fn start_under(mut command: Command, folder: &Path, owner: Option<Pid>) -> io::Result<Self> {
        let mut program = command.stdin(Stdio::null()).process_group(0).spawn()?;
        let group = Pid::from_child(&program);
        let mut watchdog = Command::new("sh");
        watchdog
            .args(["-c", if owner.is_some() { WATCHDOG_OF } else { WATCHDOG }, "sh"])
            .arg(folder)
            .args(owner.map(|owner| owner.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        match watchdog.process_group(group.as_raw_nonzero().get()).spawn() {
            Ok(watchdog) => Ok(Self(Mutex::new(Running { program, group, watchdog: Some(watchdog) }))),
            Err(error) => {
                program.kill()?;
                program.wait()?;
                Err(error)
            }
        }
    }

    /// The program's process id. Another process may have it once the program has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running().program.id()
    }

    /// How the program ended; `None` while it runs.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.running().ended()
    }

    /// Ends the program, and all that it started, by SIGKILL, and waits until the program is gone.
    pub fn kill(&self) {
        self.running().kill();
    }

    /// Asks the program to end, by SIGTERM, and waits until it has. One that was halted goes on first.
    ///
    /// # Panics
    /// If it still runs a minute later.
    pub async fn stop(&self) -> ExitStatus {
        self.terminate();
        self.resume();
        let patience = Patience::new();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            patience.pause("a process ends after SIGTERM", String::new).await;
        }
    }

    /// Asks the program to end, by SIGTERM, and does not wait.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Halts the program, by SIGSTOP: its connections stay open, and nobody answers. Returns once it is halted.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let id = Pid::from_child(&self.running().program);
        // Each of its threads takes a moment to notice. That it has stopped stays to be asked again; one that has ended is no child any more.
        let _ = waitid(WaitId::Pid(id), WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT);
    }

    /// Lets a halted program go on, by SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let mut running = self.running();
        // Asked under the lock, so that the signal cannot reach a later process of the same number.
        if running.ended().is_none() {
            // Between the two lines it can only have become a zombie, which takes any signal.
            let _ = rustix::process::kill_process(Pid::from_child(&running.program), signal);
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn ended(&mut self) -> Option<ExitStatus> {
        self.program.try_wait().ok().flatten()
    }

    fn kill(&mut self) {
        let Some(mut watchdog) = self.watchdog.take() else { return };
        // The watchdog is of the group, so the group's number is no other's before the watchdog has been waited for.
        let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
        let _ = self.program.wait();
        let _ = watchdog.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The path of an installed program. It is looked for in the folders `before` the path's.
///
/// # Panics
/// If it is not installed. A test whose server is missing fails: skipped, it would look as if it had passed.
pub(super) fn installed(program: &str, before: &[&str]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = before.iter().map(PathBuf::from).chain(std::env::split_paths(&path));
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("`{program}` is not installed: run `cargo xtask setup`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PATIENCE, eventually};

    fn program() -> Command {
        let mut program = Command::new("sleep");
        program.arg("600");
        program
    }

    #[tokio::test]
    async fn a_process_does_not_outlive_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let owner = Process::start(program(), &folder.path().join("of the owner")).unwrap();
        let pid = Pid::from_child(&owner.running().program);
        let of_both = folder.path().join("of both");
        std::fs::create_dir(&of_both).unwrap();
        let owned = Process::start_under(program(), &of_both, Some(pid)).unwrap();
        assert!(owned.ended().is_none());
        owner.kill();
        eventually(PATIENCE, async || owned.ended().is_some() && !of_both.exists()).await;
    }
}
