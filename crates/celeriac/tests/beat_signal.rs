//! A signal stops a beat from the call that runs it on. Alone in its file: signals are the whole process's.
#![cfg(unix)]

use std::time::Duration;

use celeriac::App;

#[tokio::test]
async fn a_signal_before_the_first_poll_stops_the_beat_and_not_the_process() {
    let app = App::builder("shop").read_env(false).broker_url("memory://").build().await.unwrap();
    let running = app.beat().run();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
    tokio::time::timeout(Duration::from_secs(60), running).await.unwrap().unwrap();
}

#[test]
fn a_beat_may_be_run_from_outside_of_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let app = runtime.block_on(App::builder("shop").read_env(false).broker_url("memory://").build()).unwrap();
    let beat = app.beat().build().unwrap();
    beat.handle().stop();
    let running = beat.run_until_signal();
    runtime.block_on(running).unwrap();
}
