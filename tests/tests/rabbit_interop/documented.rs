//! The program in Python that the documentation shows beside one in Rust.

use celeriac::prelude::*;
use celeriac::{Signature, Value, tasks};
use celeriac_tests::python::{self, PythonOptions, PythonWorker};

use crate::support::{PATIENCE, RustWorker, server};

const DOCUMENTATION: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rabbitmq.md"));

#[celeriac::task(name = "shop.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[tokio::test]
async fn the_program_that_is_shown_sends_to_rust_and_works_for_it() {
    let vhost = server().await.vhost().await;
    let (_, program) = DOCUMENTATION.split_once("```python\n").unwrap();
    let (program, _) = program.split_once("```").unwrap();
    let url = "amqp://user:secret@localhost/shop";
    assert!(program.contains(url));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.py");
    std::fs::write(&path, program.replace(url, &vhost.url())).unwrap();

    let app = App::builder("shop").read_env(false).broker_url(vhost.url()).tasks(tasks![add]).build().await.unwrap();
    let worker = RustWorker::start(app.worker()).await;
    assert_eq!(python::run(&path).await, "5\n");
    worker.stop().await;

    let env = vec![("PYTHONPATH".to_owned(), folder.path().display().to_string())];
    let options = PythonOptions { app: "shop".to_owned(), env, ..PythonOptions::default() };
    let _worker = PythonWorker::start(&vhost.url(), "rpc://", options).await;
    assert_eq!(app.send(add::s(2, 3)).await.unwrap().get_timeout(PATIENCE).await.unwrap(), 5);
    let by_name = app.send(Signature::named("shop.add").arg(2).arg(3)).await.unwrap();
    assert_eq!(by_name.get_timeout(PATIENCE).await.unwrap(), Value::from(5));
}
