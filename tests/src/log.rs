//! What the tested code logs, kept for tests to look at.

use std::io;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tracing_subscriber::EnvFilter;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static STARTED: OnceLock<()> = OnceLock::new();

fn lines() -> MutexGuard<'static, Vec<u8>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Kept;

impl io::Write for Kept {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        lines().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps what this process logs from now on, of all that `levels` lets pass (as in `RUST_LOG`). The first call decides.
pub fn keep(levels: &str) {
    STARTED.get_or_init(|| {
        let subscriber = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(levels)).with_ansi(false);
        subscriber.with_writer(|| Kept).init();
    });
}

/// What has been kept.
#[must_use]
pub fn kept() -> String {
    String::from_utf8_lossy(&lines()).into_owned()
}

/// Whether something that was kept has all of `parts` in one line.
#[must_use]
pub fn says(parts: &[&str]) -> bool {
    kept().lines().any(|line| parts.iter().all(|part| line.contains(part)))
}
