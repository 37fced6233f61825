//! A broker of one's own, behind a URL scheme of one's own, under an ordinary app.
//!
//! ```text
//! cargo run -p celeriac-examples --bin custom_broker
//! ```
//!
//! The broker is [`fifo`], one file written from the documentation of `celeriac_broker`. That it keeps the contract is not a matter of
//! trust: `examples/tests/custom_broker.rs` runs the conformance suite of `celeriac-testkit` on it, in ten lines.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod fifo;

use std::error::Error;
use std::sync::Arc;

use celeriac::System;
use celeriac::prelude::*;
use fifo::Fifo;

#[celeriac::task]
async fn shout(text: String) -> String {
    text.to_uppercase()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = App::builder("custom_broker")
        // What this returns is opened for every URL that begins with `fifo:`. A broker that stores results too would add `.backend(..)`.
        .scheme("fifo", |_url| async { Ok(System::new().broker(Arc::new(Fifo::default()))) })
        .broker_url("fifo://here")
        .result_backend("memory://") // This broker stores no results, so they are kept elsewhere.
        .tasks(tasks![shout])
        .build()
        .await?;
    println!("broker    {:?}", app.broker().capabilities());

    let worker = app.worker().concurrency(2).build()?;
    let stop = worker.handle();
    let running = tokio::spawn(worker.run());

    let words = ["a", "broker", "of", "one's", "own"];
    let results = app.send_batch(words.map(|word| shout::s(word.to_owned()))).await?;
    println!("producer  sent {} tasks", results.len());
    for (word, result) in words.iter().zip(&results) {
        println!("result    {word} -> {}", result.get().await?);
    }

    stop.shutdown();
    running.await??;
    app.close().await?;
    println!("worker    stopped");
    Ok(())
}
