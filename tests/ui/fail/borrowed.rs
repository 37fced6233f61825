use std::borrow::Cow;

use celeriac::{State, TaskContext};

#[celeriac::task]
async fn send(_to: &str, _lines: &[String], _text: Cow<'_, str>, _db: &State<i64>) {}

#[celeriac::task]
async fn owned(_cx: TaskContext) {}

#[celeriac::task]
async fn exclusive(_cx: &mut TaskContext) {}

#[celeriac::task]
async fn twice(_cx: &TaskContext, _again: &TaskContext) {}

fn main() {}
