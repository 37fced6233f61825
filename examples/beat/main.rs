//! A worker with a beat beside it: tasks that are sent when they are due.
//!
//! ```text
//! cargo run -p celeriac-examples --bin beat
//! ```
//!
//! The app declares its entries in code; the beat writes them into the store and sends them. Any number of such workers may run over one store: one of
//! their beats leads. Here the store is a file in a temporary folder, gone when the example ends: in one that stays, the next run goes on where this one stopped.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::num::NonZeroUsize;

use celeriac::core::EntryName;
use celeriac::prelude::*;
use celeriac::{Entries, Entry};
use tokio::sync::mpsc;

/// What the tasks tell.
type Told = mpsc::UnboundedSender<String>;

#[celeriac::task]
async fn say(told: State<Told>, words: String) {
    // Nobody listens any more when the example ends.
    let _ = told.send(words);
}

#[celeriac::task(queue = "reports")]
async fn report() {}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (told, mut tells) = mpsc::unbounded_channel();
    // Gone when this function ends, however it ends.
    let scratch = tempfile::Builder::new().prefix("celeriac-beat-").tempdir()?;
    let file = scratch.path().join("tasks.db");
    let app = App::builder("beat")
        .read_env(false)
        .broker_url(format!("sqlite://{}", file.display().to_string().replace('%', "%25").replace('?', "%3f")))
        .tasks(tasks![say, report])
        .state(told)
        .schedule("heart", every(300.milliseconds()), say::s("heart beats".to_owned()))
        .schedule_with("report", crontab("*/15 9-17 * * mon-fri").tz("Europe/Berlin"), report::s(), |entry| {
            entry.jitter(10.seconds()).no_overlap(1.hours())
        })
        .build()
        .await?;

    // One task at a time: they run in the order in which they were sent.
    let worker = app.worker().concurrency(1).with_beat().build()?;
    let stop = worker.handle();
    let running = tokio::spawn(worker.run());

    // The first tick shows that the beat has written what is declared.
    ran(&mut tells, "heart beats").await;
    let schedule = app.schedule()?;
    show(&schedule).await?;
    ran(&mut tells, "heart beats").await;

    // The schedule is changed while it runs, here or in any other process.
    schedule.enable(&EntryName::from_static("heart"), false).await?;
    let name = EntryName::from_static("by-hand");
    let by_hand = Signature::named("say").arg("added by hand");
    schedule.put(&Entry::new(name.clone(), every(200.milliseconds()).build()?, by_hand)).await?;
    // What the heart had sent until it was paused has run before the first of these.
    ran(&mut tells, "added by hand").await;
    println!("paused    heart");
    for _ in 0..3 {
        ran(&mut tells, "added by hand").await;
    }
    schedule.remove(&name).await?;

    stop.shutdown();
    running.await??;
    app.close().await?;
    println!("worker    stopped");
    Ok(())
}

/// Shows what tasks tell, until one has told `words`.
async fn ran(tells: &mut mpsc::UnboundedReceiver<String>, words: &str) {
    while let Some(told) = tells.recv().await {
        println!("ran       {told}");
        if told == words {
            return;
        }
    }
}

/// Shows the entries in the store, and when they come next.
async fn show(schedule: &Entries) -> celeriac::Result<()> {
    for (name, known) in schedule.list(None, NonZeroUsize::MIN.saturating_add(99)).await? {
        let known = known?;
        let next = known.next.map_or_else(|| "never".to_owned(), |next| next.to_string());
        println!("declared  {name}: {}; next {next}", known.entry.schedule.describe());
    }
    Ok(())
}
