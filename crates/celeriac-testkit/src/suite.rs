//! What the suites have in common: what a behaviour is, and running one with its contract told when it is broken.

use std::fmt;
use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How a behaviour is tested.
pub(crate) type Run<Kit> = fn(Arc<Kit>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// One thing that every implementation does, unless it says in its `Capabilities` that it cannot.
#[non_exhaustive]
pub struct Behaviour<Kit, Capabilities> {
    /// The behaviour's name, a fact.
    pub name: &'static str,
    /// The contract it is held to, in words.
    pub contract: &'static str,
    /// What it needs that an implementation of these capabilities does not have; `None` if it is to be tested.
    pub missing: fn(&Capabilities) -> Option<&'static str>,
    pub(crate) run: Run<Kit>,
}

impl<Kit, Capabilities> fmt::Debug for Behaviour<Kit, Capabilities> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour").field("name", &self.name).field("contract", &self.contract).finish_non_exhaustive()
    }
}

/// Tells functions that make a harness from those that open what is tested.
#[derive(Debug)]
pub enum Makes {}

/// Tells functions that open what is tested from those that make a harness.
#[derive(Debug)]
pub enum Opens {}

/// Writes the table of a suite, and the macro that makes tests of it. `$d` is a dollar sign, which no macro can write otherwise.
macro_rules! suite {
    (
        ($d:tt) $suite:ident, $Behaviour:ident,
        $(#[$doc:meta])*
        macro $conformance:ident;
        $($module:ident :: $name:ident $(needs $need:ident)? $(without $lack:ident)? : $contract:literal;)*
    ) => {
        /// Every behaviour of the suite.
        pub const BEHAVIOURS: &[$Behaviour] = &[$(
            $Behaviour {
                name: stringify!($name),
                contract: $contract,
                missing: |_capabilities| {
                    $(if !_capabilities.$need {
                        return Some(concat!("capability `", stringify!($need), "`"));
                    })?
                    $(if _capabilities.$lack {
                        return Some(concat!("one without capability `", stringify!($lack), "`"));
                    })?
                    None
                },
                run: |kit| Box::pin(async move { $module::$name(&kit).await }),
            },
        )*];

        $(#[$doc])*
        #[macro_export]
        macro_rules! $conformance {
            ($d harness:expr) => {$(
                #[test]
                fn $name() {
                    $d crate::$suite::check($d harness, stringify!($name));
                }
            )*};
        }
    };
}
pub(crate) use suite;

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
            note(&broken);
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
    note(&format!("skipped: {suite} behaviour `{name}` needs {needs}"));
}

/// Says something visibly, on the real stderr: the harness of `cargo test` hides what a passing test prints.
pub(crate) fn note(line: &str) {
    // Nobody is left to tell if stderr is closed.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
