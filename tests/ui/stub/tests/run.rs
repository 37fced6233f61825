//! Runs what the macro makes, on the stub.
#![allow(missing_docs, reason = "tests")]

extern crate celeriac_stub as celeriac;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use celeriac::__private::{Arguments, Define, Task};
use celeriac::{State, TaskContext, TaskResult};

fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("pending"),
    }
}

fn run<T: Task>(values: &[(&str, &str)]) -> Result<T::Output, String> {
    ready(T::run(&TaskContext { db: 7 }, Arguments { values, taken: 0 })).map_err(|error| error.0)
}

#[celeriac::task(name = "mail.send", priority = 5)]
async fn send_mail(
    cx: &TaskContext,
    to: String,
    #[arg(default = 3)] tries: u32,
    #[arg(default)] tags: Vec<String>,
    #[arg(default = "none")] note: String,
    db: State<i64>,
    r#type: Option<u8>,
) -> TaskResult<String> {
    std::future::ready(()).await;
    Ok(format!("{to} {tries} {tags:?} {note} {} {type:?} {}", db.0, cx.retries()))
}

#[test]
fn a_task_is_decoded_and_run() {
    let out = run::<send_mail>(&[("to", "\"a\"")]);
    assert_eq!(out.unwrap(), "a 3 [] none 7 None 0");
    let out =
        run::<send_mail>(&[("to", "\"a\""), ("type", "2"), ("tries", "9"), ("tags", "[\"x\"]"), ("note", "\"n\"")]);
    assert_eq!(out.unwrap(), "a 9 [\"x\"] n 7 Some(2) 0");
    assert_eq!(run::<send_mail>(&[]).unwrap_err(), "missing `to`");
    assert_eq!(run::<send_mail>(&[("to", "\"a\""), ("x", "1")]).unwrap_err(), "too many");
    assert_eq!(send_mail::PARAMETERS, ["to", "tries", "tags", "note", "type"]);
}

#[test]
fn a_plain_function_is_a_task_and_its_error_is_converted() {
    #[celeriac::task(crate = "::celeriac_stub")]
    fn parse(text: String) -> Result<u8, std::num::ParseIntError> {
        text.parse()
    }
    assert_eq!(run::<parse>(&[("text", "\"5\"")]), Ok(5));
    assert_eq!(run::<parse>(&[("text", "\"x\"")]), Err("invalid digit found in string".to_owned()));
    assert_eq!([send_mail::BLOCKING, parse::BLOCKING], [false, true]);
    assert_eq!(parse("6".into()), Ok(6));
}
