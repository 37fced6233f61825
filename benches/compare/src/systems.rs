//! The systems that are compared.

mod apalis;
mod celeriac;
mod python;
mod rusty_celery;

use std::process::Command;

use crate::system::{Result, System};

/// All of them, Celeriac first.
pub(crate) fn all() -> Vec<System> {
    vec![celeriac::system(), rusty_celery::system(), apalis::as_it_comes(), apalis::tuned(), python::system()]
}

/// Sends tasks; this is the sending process.
pub(crate) async fn send(system: &str, url: &str, count: usize) -> Result {
    match system {
        "celeriac" => celeriac::send(url, count).await,
        "rusty-celery" => rusty_celery::send(url, count).await,
        "apalis" => apalis::send(url, count).await,
        other => Err(format!("no system `{other}`").into()),
    }
}

/// Works until the process is ended; this is the worker's process.
pub(crate) async fn work(system: &str, url: &str) -> Result {
    match system {
        "celeriac" => celeriac::work(url).await,
        "rusty-celery" => rusty_celery::work(url).await,
        "apalis" => apalis::work(url).await,
        "apalis-tuned" => apalis::work_tuned(url).await,
        other => Err(format!("no system `{other}`").into()),
    }
}

/// This program, told to do `words`.
fn this_program(words: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(words);
    Ok(command)
}
