//! Reports of made-up figures.

use svg::parser::Event;

use super::{Report, Row, Unit, chart, json, median, percentile};
use crate::system::Yardsticks;

fn made_up() -> Report {
    let yardsticks =
        Yardsticks { send: "push", plain: "take", results: "take & store", lone: "one <by> one", idle: "wait" };
    Report {
        date: "2026-11-23T06:00:00Z".to_owned(),
        cpus: 2,
        scale: 0.5,
        rounds: 3,
        python: Some("5.7.0".to_owned()),
        systems: vec![
            ("redis", "Redis 7.0 & more".to_owned(), Some(yardsticks)),
            ("sqlite", "SQLite".to_owned(), None),
        ],
        rows: vec![
            Row::new("redis", "rates", "send", Unit::PerSecond, vec![1_000_000.0, 30_000.0, 20_000.0])
                .raw(vec![2_000_000.0, 20_000.0, 20_000.0])
                .python(vec![1_000.0, 1_000.0, 1_000.0]),
            Row::new("redis", "lone", "p50 < p99", Unit::Micros, vec![12.345]).raw(vec![0.012_345]).note("noted"),
            Row::new("redis", "idle", "nothing", Unit::Millis, vec![0.0]).raw(vec![0.0]),
        ],
        missing: vec!["Python Celery is not installed".to_owned()],
    }
}

#[test]
fn a_median_is_the_middle_or_between_the_middle_two() {
    assert_eq!(median([]), None);
    assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
}

#[test]
fn a_percentile_is_a_value_that_so_many_do_not_exceed() {
    let values: Vec<f64> = (1..=1_000).map(f64::from).collect();
    assert_eq!([0.0, 0.5, 0.99, 0.999, 1.0].map(|part| percentile(&values, part)), [1.0, 500.0, 990.0, 999.0, 1_000.0]);
    assert_eq!(percentile(&[], 0.5), 0.0);
}

#[test]
fn a_ratio_is_the_median_of_the_rounds_ratios() {
    let [send, _, idle] = &made_up().rows[..] else { panic!("three rows") };
    // Not the ratio of the medians, which is 1.5.
    assert_eq!(send.raw_ratio(), Some(1.0));
    assert_eq!(send.python_ratio(), Some(30.0));
    assert_eq!(idle.raw_ratio(), None);
}

#[test]
fn the_table_has_every_row_and_fits_120_columns() {
    let table = made_up().to_string();
    let rates = table.lines().find(|line| line.starts_with("rates: send")).unwrap();
    assert_eq!(
        rates.split_whitespace().collect::<Vec<_>>(),
        ["rates:", "send", "30,000/s", "20,000/s", "1.00", "1,000/s", "30.0"]
    );
    let lone = table.lines().find(|line| line.starts_with("lone: p50")).unwrap();
    assert!(lone.contains("12.3 us") && lone.contains("1000") && lone.ends_with("noted"), "{lone}");
    assert!(table.contains("3 rounds, Python Celery 5.7.0\n"), "{table}");
    assert!(table.contains("ALL COUNTS ARE 0.5 TIMES") && table.contains("not installed"), "{table}");
    assert!(!table.contains("SQLite"), "a system without figures has no table: {table}");
    assert!(table.lines().all(|line| line.chars().count() <= 120), "{table}");
}

#[test]
fn the_json_has_every_figure_with_its_unit_and_its_rounds() {
    let json = json::of(&made_up());
    assert_eq!(json["scale"], 0.5);
    assert_eq!(json["python_celery"], "5.7.0");
    assert_eq!(json["systems"][0]["yardsticks"]["work"], "take");
    let send = &json["figures"][0];
    assert_eq!(send["unit"], "tasks per second");
    assert_eq!(send["celeriac"]["median"], 30_000.0);
    assert_eq!(send["raw"]["rounds"][0], 2_000_000.0);
    assert_eq!(send["ratio_to_python"], 30.0);
    assert!(json["figures"][1]["python"].is_null() && json["figures"][2]["ratio_to_raw"].is_null());
}

#[test]
fn the_chart_is_well_formed_and_has_a_bar_for_each_ratio() {
    let chart = chart::of(&made_up());
    assert!(chart.contains("Redis 7.0 &amp; more") && chart.contains("p50 &lt; p99"), "{chart}");
    let (mut open, mut bars) = (Vec::new(), 0);
    for event in svg::read(&chart).unwrap() {
        match event {
            Event::Tag(name, svg::node::element::tag::Type::Start, _) => open.push(name.to_owned()),
            Event::Tag(name, svg::node::element::tag::Type::End, _) => assert_eq!(open.pop().as_deref(), Some(name)),
            Event::Tag("rect", svg::node::element::tag::Type::Empty, attributes) => {
                bars += usize::from(attributes.contains_key("x"));
            }
            Event::Error(error) => panic!("{error}: {chart}"),
            _ => {}
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert_eq!(bars, 3);
}
