//! The example with a schedule runs as its page says.

use std::process::Command;

#[test]
fn entries_are_shown_with_their_next_times_and_ticks_run_until_the_example_ends_by_itself() {
    let output = Command::new(env!("CARGO_BIN_EXE_beat")).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("declared  heart: every 300 milliseconds; next "), "{stdout}");
    let report = "declared  report: every 15 minutes from 09:00 to 17:59, Monday to Friday, Europe/Berlin; next ";
    assert!(stdout.contains(report), "{stdout}");
    for ran in ["ran       heart beats", "ran       added by hand"] {
        assert!(stdout.contains(ran), "{stdout}");
    }
    // In the time of three ticks that are 200 milliseconds apart the heart would have come at least once.
    let (_, paused) = stdout.split_once("paused    heart\n").unwrap();
    let ran: Vec<&str> = paused.lines().filter(|line| line.starts_with("ran")).collect();
    assert_eq!(ran, ["ran       added by hand"; 3], "{stdout}");
    assert!(stdout.ends_with("worker    stopped\n"), "{stdout}");
}
