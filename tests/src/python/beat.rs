//! Celery's beat.

use std::path::Path;

use serde_json::Value;

use super::{Program, command};

/// A Celery beat in Python. Killed when dropped; if a test fails then, its log is shown.
#[derive(Debug)]
pub struct PythonBeat(Program);

impl PythonBeat {
    /// Starts a beat that writes to the file `schedule` what it has done, and waits until it is ready. `settings` are those of the Celery app,
    /// in an object; its entries are in `beat_schedule`.
    ///
    /// # Panics
    /// If Python Celery is not installed, which `cargo xtask setup` does; or if the beat does not start: with its log.
    pub async fn start(broker: &str, backend: &str, settings: &Value, schedule: &Path) -> Self {
        let mut command = command(broker, backend, settings);
        // Ids are logged at this level only.
        command.args(["-m", "celery", "-A", "peer_app", "beat", "--loglevel", "DEBUG", "--schedule"]).arg(schedule);
        Self(Program::start("a beat", command, "beat: Starting...").await)
    }

    /// The ids of what it has sent of `task`.
    #[must_use]
    pub fn sent(&self, task: &str) -> Vec<String> {
        let begin = format!("] {task} sent. id->");
        let log = self.0.log();
        // The last line may not be there in full.
        let lines = log.rsplit_once('\n').map_or("", |(lines, _)| lines).lines();
        lines.filter_map(|line| Some(line.split_once(&begin)?.1.to_owned())).collect()
    }

    /// Asks it to end, by SIGTERM, and waits until it has.
    ///
    /// # Panics
    /// If it still runs a minute later.
    pub async fn stop(&self) {
        self.0.process.stop().await;
    }
}
