//! A worker in a process of its own: `actor URL FOLDER CONCURRENCY [RESULTS]`.

use std::path::Path;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, folder, concurrency, results @ ..] = args.as_slice() else {
        return Err("usage: actor URL FOLDER CONCURRENCY [RESULTS]".into());
    };
    let app = celeriac_tests::builder(url, Path::new(folder));
    let app = results.iter().fold(app, |app, url| app.result_backend(url)).build().await?;
    app.worker().concurrency(concurrency.parse()?).run().await?;
    app.close().await?;
    Ok(())
}
