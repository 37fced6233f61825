//! The scheduler without a broker runs as its page says.

use std::process::Command;

#[test]
fn jobs_run_when_they_are_due_and_what_was_done_is_known() {
    let output = Command::new(env!("CARGO_BIN_EXE_scheduler_alone")).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("job       beat 3 of"), "{stdout}");
    assert!(stdout.contains("entry     heart: every 200 milliseconds; sent 3 times\n"), "{stdout}");
    assert!(stdout.contains("entry     report: every 15 minutes from 09:00 to 17:59"), "{stdout}");
}
