//! The broker of the example keeps the contract of every broker, and the example runs.

#[path = "../custom_broker/fifo.rs"]
mod fifo;

mod contract {
    use std::sync::Arc;

    use celeriac::broker::Broker;

    use crate::fifo::Fifo;

    celeriac_testkit::broker_conformance!(|| async { Arc::new(Fifo::default()) as Arc<dyn Broker> });
}

#[test]
fn the_example_runs_its_tasks() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_custom_broker")).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("result    broker -> BROKER\n"), "{stdout}");
    assert!(stdout.ends_with("worker    stopped\n"), "{stdout}");
}
