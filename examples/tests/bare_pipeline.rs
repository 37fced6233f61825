//! The pipeline put together by hand runs as its page says.

use std::process::Command;

#[test]
fn results_and_failures_come_back() {
    let output = Command::new(env!("CARGO_BIN_EXE_bare_pipeline")).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains(" is 42\n"), "{stdout}");
    assert!(stdout.contains(" failed: 1 cannot be divided by 0\n"), "{stdout}");
    assert!(stdout.ends_with("worker    stopped\n"), "{stdout}");
}
