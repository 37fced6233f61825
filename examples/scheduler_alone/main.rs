//! A scheduler and nothing else: no broker, no worker, no tasks of Celery's. What is due is done by the program itself.
//!
//! ```text
//! cargo run -p celeriac-examples --bin scheduler_alone
//! ```
//!
//! Two crates take part: `celeriac-scheduler` tells what is due and remembers what was done, `celeriac-memory` keeps the entries. With a store that outlives the
//! process the same program goes on where it stopped; with one that is shared, any number of them may run, and one leads.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::num::NonZeroUsize;
use std::sync::Arc;

use celeriac_core::{EntryName, Error, ErrorKind, Result, Signature};
use celeriac_memory::MemoryStore;
use celeriac_scheduler::{
    Dispatch, Entries, Entry, Scheduler, SchedulerHandle, Tick, Units as _, async_trait, crontab, every,
};

/// Does what is due, by its name.
#[derive(Debug)]
struct Jobs {
    scheduler: SchedulerHandle,
}

#[async_trait]
impl Dispatch for Jobs {
    async fn send(&self, ticks: &[Tick]) -> Vec<Result<()>> {
        ticks.iter().map(|tick| self.run(tick)).collect()
    }
}

impl Jobs {
    fn run(&self, tick: &Tick) -> Result<()> {
        match &*tick.entry.task.task {
            // A backup of a whole disk would not be waited for here, but started.
            "beat" => println!("job       beat {} of {:?}", tick.count + 1, tick.entry.task.args),
            unknown => return Err(Error::new(ErrorKind::NotFound, "run job", format!("there is no job `{unknown}`"))),
        }
        if tick.count + 1 == 3 {
            self.scheduler.stop();
        }
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let store = Arc::new(MemoryStore::new());
    let entries = Entries::new(store.clone());

    // What is to be done, and when. Arguments and options are data, which any process may read and change.
    let heart = Signature::named("beat").arg("heart");
    let report = Signature::named("report");
    let office_hours = crontab("*/15 9-17 * * mon-fri").tz("Europe/Berlin").build()?;
    let schedule = [
        Entry::new(EntryName::from_static("heart"), every(200.milliseconds()).build()?, heart),
        Entry::new(EntryName::from_static("report"), office_hours, report).enabled(false),
    ];
    entries.put_all(&schedule).await?;

    // Runs until a job stops it.
    let scheduler = SchedulerHandle::new();
    let jobs = Arc::new(Jobs { scheduler: scheduler.clone() });
    Scheduler::builder(store, jobs).handle(scheduler).build()?.run().await?;

    for (name, known) in entries.list(None, NonZeroUsize::MIN.saturating_add(99)).await? {
        let known = known?;
        println!("entry     {name}: {}; sent {} times", known.entry.schedule.describe(), known.count);
    }
    Ok(())
}
