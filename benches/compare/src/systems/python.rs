//! Python's Celery: prefork with two processes, and results in Redis. Its settings are in `python/app.py`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::ON_RABBIT;
use crate::system::{Result, Results, System, Urls, Waits};

pub(crate) fn on_redis() -> System {
    System {
        name: "celery",
        version,
        tasks: 20_000,
        send: |urls, count| python(urls, &["send", "add", &count.to_string()]),
        work: |urls| python(urls, &["work"]),
        results: Results::Keys { prefix: "celery-task-meta-", says: "SUCCESS" },
        waits: Waits::Redis(&[&["LLEN", "celery"], &["HLEN", "unacked"]]),
    }
}

pub(crate) fn on_rabbit() -> System {
    System { name: "celery-rabbit", waits: ON_RABBIT, ..on_redis() }
}

/// Python, running `app.py`.
fn python(urls: &Urls, words: &[&str]) -> Result<Command> {
    let mut command = Command::new(interpreter()?);
    command.arg("app.py").args(words).stdout(Stdio::null());
    command.env("COMPARE_BROKER_URL", &urls.broker).env("COMPARE_RESULTS_URL", &urls.results);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    // It warns of working as root.
    command.env("PYTHONWARNINGS", "ignore");
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("python"));
    Ok(command)
}

/// The one that `COMPARE_PYTHON` names, or that of the environment that `cargo xtask setup` made.
fn interpreter() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("COMPARE_PYTHON") {
        return Ok(named.into());
    }
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    };
    let made = target.join("peers/python/bin/python");
    if made.is_file() { Ok(made) } else { Err(format!("no {}: run `cargo xtask setup`", made.display()).into()) }
}

fn version() -> Result<String> {
    let mut command = Command::new(interpreter()?);
    let output = command.args(["-c", "import celery; print(celery.__version__)"]).output()?;
    if !output.status.success() {
        return Err("Python without Celery: run `cargo xtask setup`".into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
