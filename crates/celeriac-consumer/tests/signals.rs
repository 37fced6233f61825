//! A signal stops a worker from the call that runs it on. Alone in its file: signals are the whole process's.
#![cfg(unix)]

use std::sync::Arc;
use std::time::Duration;

use celeriac_consumer::{Tasks, Worker};
use celeriac_memory::MemoryStore;
use celeriac_producer::Producer;

#[tokio::test]
async fn a_signal_before_the_first_poll_stops_the_worker_and_not_the_process() {
    let producer = Producer::builder(Arc::new(MemoryStore::new())).build().unwrap();
    let worker = Worker::builder(producer, Tasks::new()).build().unwrap();
    let running = worker.run_until_signal();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
    tokio::time::timeout(Duration::from_secs(60), running).await.unwrap().unwrap();
}

#[test]
fn a_worker_may_be_run_from_outside_of_a_runtime() {
    let producer = Producer::builder(Arc::new(MemoryStore::new())).build().unwrap();
    let worker = Worker::builder(producer, Tasks::new()).build().unwrap();
    worker.handle().shutdown();
    let running = worker.run_until_signal();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(running).unwrap();
}
