//! Memory. Yardstick: a channel whose receiver spawns a future for each job.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::{Kind, System, Yardsticks};
use crate::meter::{Meter, Spent};
use crate::ours::{Goal, integer};
use crate::pace::Pace;

/// What the yardstick takes at once: as many as a worker does under load.
const TAKEN: usize = 2_048;

/// The first half of the yardstick's job.
type Job = (usize, i64, i64);

type Results = Arc<Mutex<HashMap<usize, i64>>>;

/// Stores of this process.
#[derive(Debug)]
pub(super) struct Memory {
    /// Each is another store.
    number: usize,
    queue: Option<mpsc::UnboundedReceiver<Job>>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { number: 0, queue: None }
    }
}

#[async_trait]
impl System for Memory {
    fn kind(&self) -> Kind {
        Kind::Memory
    }

    fn url(&self) -> String {
        format!("memory://{}", self.number)
    }

    async fn version(&self) -> String {
        "memory of this process".to_owned()
    }

    fn yardsticks(&self) -> Yardsticks {
        Yardsticks {
            send: "send to a channel",
            plain: "receive, spawn a future each",
            results: "the same, results into a locked map",
            lone: "send, receive, spawn a future, its result into a locked map, which wakes who waits",
            idle: "wait for a channel",
        }
    }

    async fn empty(&mut self) {
        self.number += 1;
        self.queue = None;
    }

    async fn capture(&mut self, _: usize) {}

    async fn raw_send(&mut self, count: usize, _: bool, meter: &Meter) -> Spent {
        let (sender, receiver) = mpsc::unbounded_channel();
        let start = meter.start();
        for n in 0..count {
            sender.send((n, integer(n), 1)).unwrap();
        }
        let spent = start.stop();
        self.queue = Some(receiver);
        spent
    }

    async fn raw_work(&mut self, count: usize, results: bool, meter: &Meter) -> Spent {
        let results: Option<Results> = results.then(Arc::default);
        let mut receiver = self.queue.take().unwrap();
        let goal = Goal::new(count);
        let waiting = Arc::clone(&goal);
        let start = meter.start();
        let mut batch = Vec::with_capacity(TAKEN);
        let received = tokio::spawn(async move {
            while receiver.recv_many(&mut batch, TAKEN).await > 0 {
                for (n, x, y) in batch.drain(..) {
                    let (goal, results) = (Arc::clone(&goal), results.clone());
                    tokio::spawn(async move {
                        let sum = std::hint::black_box(x + y);
                        if let Some(results) = results {
                            results.lock().unwrap().insert(n, sum);
                        }
                        goal.count();
                    });
                }
                if receiver.is_empty() {
                    break;
                }
            }
        });
        waiting.reached().await;
        let spent = start.stop();
        received.await.unwrap();
        spent
    }

    async fn raw_lone(&mut self, count: usize, load: Option<f64>) -> Vec<f64> {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Job>();
        let (results, woken) = (Results::default(), Arc::new(Notify::new()));
        let (into, wakes) = (Arc::clone(&results), Arc::clone(&woken));
        let working = tokio::spawn(async move {
            let mut batch = Vec::with_capacity(TAKEN);
            while receiver.recv_many(&mut batch, TAKEN).await > 0 {
                for (n, x, y) in batch.drain(..) {
                    let (results, woken) = (Arc::clone(&into), Arc::clone(&wakes));
                    tokio::spawn(async move {
                        let sum = std::hint::black_box(x + y);
                        results.lock().unwrap().insert(n, sum);
                        // Nobody waits for the others.
                        if n < count {
                            woken.notify_one();
                        }
                    });
                }
            }
        });
        let loading = load.map(|rate| {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut pace = Pace::new(rate);
                loop {
                    let before = pace.so_far();
                    for n in before..before + pace.due().await {
                        sender.send((count + n, integer(n), 1)).unwrap();
                    }
                }
            })
        });
        let mut times = Vec::with_capacity(count);
        for n in 0..count {
            let start = Instant::now();
            sender.send((n, integer(n), 1)).unwrap();
            woken.notified().await;
            assert!(results.lock().unwrap().get(&n).is_some());
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        if let Some(loading) = loading {
            loading.abort();
        }
        working.abort();
        times
    }

    async fn raw_idle(&mut self) -> Option<JoinHandle<()>> {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Job>();
        Some(tokio::spawn(async move {
            while receiver.recv().await.is_some() {}
            drop(sender);
        }))
    }
}
