//! The speed bench: `cargo xtask bench`, or `cargo bench -p celeriac-benches --bench speed -- redis rates`. `celeriac_benches` has all of it.
#![expect(clippy::print_stderr, reason = "a command line tool talks through its streams")]

use std::path::Path;
use std::process::ExitCode;

use celeriac_benches::options::Options;
use celeriac_benches::{Places, child, python, run};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // This program has itself do some things in processes of their own.
    let done = match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["child", job, system, url, count] => {
            let [job, system, url, count] = [job, system, url, count].map(|word| (*word).to_owned());
            tokio::spawn(async move { child::main(&job, &system, &url, &count).await })
        }
        ["peer", ..] => tokio::spawn(python::peer(words[1..].to_vec())),
        _ => match Options::read(words) {
            Ok(options) => {
                let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
                let places = Places {
                    allocations: env!("CARGO_BIN_EXE_allocations").into(),
                    target: temporary.parent().unwrap_or(temporary).to_owned(),
                };
                // On the runtime's own threads, as a worker is.
                tokio::spawn(async move {
                    if let Err(error) = run::run(options, places).await {
                        panic!("{error}");
                    }
                })
            }
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(2);
            }
        },
    };
    if done.await.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
