//! A beat in a process of its own, which has no tasks and runs none: `beater URL LEASE`, the lease in milliseconds.
#![expect(clippy::print_stderr, reason = "its log, which the test reads")]

use std::time::Duration;

use celeriac::App;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, lease] = args.as_slice() else {
        return Err("usage: beater URL LEASE".into());
    };
    let app = App::builder("beats").read_env(false).broker_url(url).build().await?;
    let running = app.beat().lease(Duration::from_millis(lease.parse()?)).run();
    eprintln!("{}", celeriac_tests::beats::LISTENS);
    running.await?;
    app.close().await?;
    Ok(())
}
