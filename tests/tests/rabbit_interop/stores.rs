//! A beat whose schedule is kept apart from RabbitMQ and from any server.

use crate::beats::{FULL, assert_each_tick_ran_once, entries, more, worker};
use crate::support::Bench;
use serde_json::json;

#[tokio::test]
async fn python_runs_what_a_beat_with_a_file_sends() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}", folder.path().join("schedule.db").display());
    let bench = Bench::rpc_with(&json!({}), |app| entries(app).schedule_url(file)).await;
    let beat = bench.app.beat().build().unwrap();
    let (stop, running) = (beat.handle(), tokio::spawn(beat.run()));
    let python = worker(&bench).await;
    more(&bench, FULL, 3).await;
    stop.stop();
    running.await.unwrap().unwrap();
    assert_each_tick_ran_once(&bench, &python).await;
}
