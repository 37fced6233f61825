//! Celeriac beside rusty-celery, apalis and Python's Celery: the rate at which one worker of each runs tasks and stores their results, on the
//! same servers and in turns. See `README.md`.

mod options;
mod round;
mod servers;
mod system;
mod systems;
mod table;

use options::{Options, Part};
use round::round;
use servers::Servers;
use system::Result;
use table::Table;

#[tokio::main]
async fn main() -> Result {
    let options = match options::read(std::env::args().skip(1))? {
        Part::Compare(options) => options,
        // This program is its own sender and worker too, in processes of their own.
        Part::Send { system, urls, count } => return systems::send(&system, &urls, count).await,
        Part::Work { system, urls } => return systems::work(&system, &urls).await,
    };
    compare(&options).await
}

async fn compare(options: &Options) -> Result {
    let mut systems = systems::all();
    systems.retain(|system| options.names.is_empty() || options.names.iter().any(|name| name == system.name));
    if let Some(tasks) = options.tasks {
        systems.iter_mut().for_each(|system| system.tasks = tasks);
    }
    let servers = Servers::start(&systems).await;
    println!("{}, {} CPUs, load {}", servers.versions().await, std::thread::available_parallelism()?, load());

    let mut table = Table::new(&systems)?;
    for number in 1..=options.rounds {
        for (index, system) in systems.iter().enumerate() {
            let run = round(&servers, system).await.map_err(|error| format!("{}: {error}", system.name))?;
            println!("round {number}: {:<19} {:>9.0} tasks/s   load {}", system.name, run.rate, load());
            table.add(index, run);
        }
    }
    println!("\n{table}");
    Ok(())
}

/// The load of the last minute.
fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("?").to_owned()
}
