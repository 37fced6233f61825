//! What the suites have in common: running one behaviour, with its contract told when it is broken.

use std::future::Future;
use std::io::Write;
use std::time::Duration;

/// No behaviour takes that long, on any machine: whatever does hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// Runs one behaviour on a runtime of its own. A failure is preceded by the contract that it breaks.
pub(crate) fn run(suite: &str, name: &str, contract: &str, behaviour: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a tokio runtime can be started");
    let outcome = runtime.block_on(async {
        let task = tokio::spawn(behaviour);
        tokio::time::timeout(DEADLINE, task).await
    });
    runtime.shutdown_background();
    let broken = format!("{suite} behaviour `{name}`: the contract is: {contract}");
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => {
            tell(&broken);
            match failure.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(failure) => panic!("{broken}\n{failure}"),
            }
        }
        Err(_) => panic!("{broken}\nit hangs: not done within {DEADLINE:?}"),
    }
}

/// Says that a behaviour was not tested, and why: visibly, also when the test passes.
pub(crate) fn skipped(suite: &str, name: &str, needs: &str) {
    tell(&format!("skipped: {suite} behaviour `{name}` needs {needs}"));
}

/// Writes to the real stderr: the harness of `cargo test` hides what a passing test prints.
fn tell(line: &str) {
    // Nobody is left to tell if stderr is closed.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
