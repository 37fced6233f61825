//! The systems that are compared.

mod apalis;
mod celeriac;
mod python;
mod rusty_celery;

use std::process::Command;

use crate::system::{Result, System, Urls, Waits};

/// On RabbitMQ all have Celery's queue.
const ON_RABBIT: Waits = Waits::Rabbit { queue: "celery" };

/// All of them: those on Redis, then those on RabbitMQ, Celeriac first of each.
pub(crate) fn all() -> Vec<System> {
    vec![
        celeriac::on_redis(),
        rusty_celery::on_redis(),
        apalis::as_it_comes(),
        apalis::tuned(),
        python::on_redis(),
        celeriac::on_rabbit(),
        rusty_celery::on_rabbit(),
        rusty_celery::on_rabbit_as_it_comes(),
        python::on_rabbit(),
    ]
}

/// Sends tasks; this is the sending process.
pub(crate) async fn send(system: &str, urls: &Urls, count: usize) -> Result {
    match system {
        "celeriac" => celeriac::send(urls, count).await,
        "rusty-celery" => rusty_celery::send(rusty_celery::redis(urls).await?, count).await,
        "rusty-celery-rabbit" => {
            rusty_celery::send(rusty_celery::rabbit(urls, rusty_celery::PREFETCH).await?, count).await
        }
        "apalis" => apalis::send(&urls.broker, count).await,
        other => Err(format!("no system `{other}`").into()),
    }
}

/// Works until the process is ended; this is the worker's process.
pub(crate) async fn work(system: &str, urls: &Urls) -> Result {
    match system {
        "celeriac" => celeriac::work(urls).await,
        "rusty-celery" => rusty_celery::work(rusty_celery::redis(urls).await?, urls).await,
        "rusty-celery-rabbit" => {
            rusty_celery::work(rusty_celery::rabbit(urls, rusty_celery::PREFETCH).await?, urls).await
        }
        "rusty-celery-rabbit-10" => {
            rusty_celery::work(rusty_celery::rabbit(urls, rusty_celery::ITS_OWN).await?, urls).await
        }
        "apalis" => apalis::work(&urls.broker).await,
        "apalis-tuned" => apalis::work_tuned(&urls.broker).await,
        other => Err(format!("no system `{other}`").into()),
    }
}

/// This program, as the sender of a system.
fn sender(system: &str, urls: &Urls, count: usize) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["send", system, &urls.broker, &urls.results, &count.to_string()]);
    Ok(command)
}

/// This program, as the worker of a system.
fn worker(system: &str, urls: &Urls) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["work", system, &urls.broker, &urls.results]);
    Ok(command)
}
