//! Allocations for each task, counted by a program of its own: see `bin/allocations.rs`.

use std::path::Path;
use std::process::Command;

use super::rates::{Round, ours, raw};
use crate::child::print_of;
use crate::meter::{Meter, Spent};
use crate::number;
use crate::options::{Options, Part};
use crate::report::{Row, Unit};
use crate::system::{Kind, System};

/// Few and many: what a run costs as such cancels out.
const COUNTS: (usize, usize) = (2_000, 12_000);

/// The rows, as the program tells them.
pub async fn measure(system: &mut dyn System, options: &Options, program: &Path) -> Vec<Row> {
    let kind = system.kind();
    system.empty().await;
    let counts = (options.count(COUNTS.0, 200), options.count(COUNTS.1, 2_200));
    let words = [kind.name(), &system.url(), &counts.0.to_string(), &counts.1.to_string()];
    let text = print_of(Command::new(program).args(words));
    let figures: Vec<f64> = text.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    let (ours, raw) = figures.split_at(3);
    let whats = ["send", "work", "work with results"];
    let rows = whats.iter().zip(ours.iter().zip(raw)).map(|(what, (ours, raw))| {
        Row::new(kind.name(), Part::Allocations.name(), *what, Unit::Allocations, vec![*ours]).raw(vec![*raw])
    });
    rows.collect()
}

/// What the program does: counts a task's allocations, Celeriac's for sending, working, and working with results, then the yardstick's.
pub async fn count(words: Vec<String>, allocations: fn() -> usize) {
    let [kind, url, few, many] = &words[..] else { panic!("not a system, its URL and two counts") };
    let (few, many): (usize, usize) = (few.parse().unwrap(), many.parse().unwrap());
    let mut system = Kind::named(kind).unwrap().at(url);
    let meter = Meter::new(Vec::new()).counting(allocations);
    system.capture(many).await;
    // The first run also fills what is kept.
    ours(&mut *system, few, &meter).await;
    let (less, more) = (ours(&mut *system, few, &meter).await, ours(&mut *system, many, &meter).await);
    print_each(less, more, many - few);
    raw(&mut *system, few, &meter).await;
    let (less, more) = (raw(&mut *system, few, &meter).await, raw(&mut *system, many, &meter).await);
    print_each(less, more, many - few);
}

fn print_each(few: Round, many: Round, tasks: usize) {
    let each = |few: Spent, many: Spent| number(many.allocations.saturating_sub(few.allocations)) / number(tasks);
    println!("{} {} {}", each(few.send, many.send), each(few.plain, many.plain), each(few.results, many.results));
}
