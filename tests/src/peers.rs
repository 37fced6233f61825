//! Tasks that Python has too, under the same names: see `tests/python/peer_app.py`.

use std::time::Duration;

use celeriac::prelude::*;

use crate::Traces;

/// Adds a line to the file `trace`, and takes as many seconds as `TRACE_SLEEP` says.
///
/// # Errors
/// If the line cannot be added.
#[celeriac::task(name = "peers.trace")]
pub async fn trace(traces: State<Traces>, n: u64) -> std::io::Result<u64> {
    traces.add("trace", &n.to_string()).await?;
    let seconds = std::env::var("TRACE_SLEEP").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0);
    if seconds > 0.0 {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await; // wait: the work itself
    }
    Ok(n)
}
