//! The report as a chart in SVG: a bar for each ratio, which begins at 1 and ends at the ratio, on a logarithmic scale.

use svg::Document;
use svg::node::element::{Line, Rectangle, Text, Title};

use super::table::{shown, times};
use super::{Report, Row, median};

const WIDTH: f64 = 1_060.0;
/// Of a line.
const HEIGHT: f64 = 16.0;
/// Where the scale begins and ends.
const SCALE: (f64, f64) = (400.0, 760.0);
const TOP: f64 = 84.0;

const GOOD: &str = "#3a7d44";
const BAD: &str = "#b5523b";
const INK: &str = "#222222";
const FAINT: &str = "#cccccc";

/// A bar, with what it stands for.
struct Bar {
    name: String,
    ratio: f64,
    good: bool,
    figure: String,
}

/// The chart of all rows that have a ratio.
#[must_use]
pub fn of(report: &Report) -> String {
    let groups: Vec<(&str, Vec<Bar>)> = report
        .systems
        .iter()
        .map(|(system, version, _)| {
            let rows = report.rows.iter().filter(|row| row.system == *system);
            (&**version, rows.flat_map(bars).collect())
        })
        .filter(|(_, bars): &(_, Vec<Bar>)| !bars.is_empty())
        .collect();
    let lines: usize = groups.iter().map(|(_, bars)| bars.len() + 2).sum();
    let height = TOP + crate::number(lines) * HEIGHT + 20.0;
    let decades = decades(groups.iter().flat_map(|(_, bars)| bars.iter().map(|bar| bar.ratio)));

    let mut chart = Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .set("font-family", "sans-serif")
        .set("font-size", 11)
        .add(Title::new("Celeriac beside the raw operations and beside Python's Celery"))
        .add(Rectangle::new().set("width", WIDTH).set("height", height).set("fill", "#ffffff"))
        .add(text(10.0, 22.0, "Celeriac beside the raw operations and beside Python's Celery").set("font-size", 15))
        .add(text(10.0, 40.0, &about(report)).set("fill", "#666666"))
        .add(text(
            10.0,
            56.0,
            "Ratio of Celeriac's figure to the other's; green is no worse than the other, red is worse.",
        ));
    for decade in decades.0..=decades.1 {
        let x = place(10_f64.powi(decade), decades);
        let colour = if decade == 0 { INK } else { FAINT };
        chart = chart.add(line(x, TOP - 6.0, height - 14.0, colour)).add(
            text(x, TOP - 10.0, &format!("{}", 10_f64.powi(decade)))
                .set("text-anchor", "middle")
                .set("fill", "#666666"),
        );
    }
    let mut y = TOP + HEIGHT;
    for (version, bars) in groups {
        chart = chart.add(text(10.0, y, version).set("font-weight", "bold"));
        for bar in bars {
            y += HEIGHT;
            let (one, end) = (place(1.0, decades), place(bar.ratio, decades));
            let rectangle = Rectangle::new()
                .set("x", one.min(end))
                .set("y", y - 10.0)
                .set("width", (one - end).abs().max(1.0))
                .set("height", HEIGHT - 4.0)
                .set("fill", if bar.good { GOOD } else { BAD });
            chart = chart
                .add(rectangle)
                .add(text(SCALE.0 - 12.0, y, &bar.name).set("text-anchor", "end"))
                .add(text(SCALE.1 + 12.0, y, &times(Some(bar.ratio))))
                .add(text(SCALE.1 + 64.0, y, &bar.figure));
        }
        y += HEIGHT * 2.0;
    }
    chart.to_string()
}

/// The bars of a row: none, one or two.
fn bars(row: &Row) -> impl Iterator<Item = Bar> {
    let figure = |other: &[f64], name: &str| {
        let of = |samples: &[f64]| {
            median(samples.iter().copied()).map_or_else(String::new, |figure| shown(figure, row.unit))
        };
        format!("{}, {name} {}", of(&row.ours), of(other))
    };
    let bar = |ratio: f64, other: &[f64], name: &str| Bar {
        name: format!("{}: {} / {name}", row.part, row.name),
        ratio,
        good: if row.unit.more_is_better() { ratio >= 1.0 } else { ratio <= 1.0 },
        figure: figure(other, name),
    };
    let raw = row.raw_ratio().map(|ratio| bar(ratio, &row.raw, "raw"));
    let python = row.python_ratio().map(|ratio| bar(ratio, &row.python, "python"));
    raw.into_iter().chain(python)
}

fn about(report: &Report) -> String {
    let mut about = format!("{}, {} CPUs, {} rounds", report.date, report.cpus, report.rounds);
    #[expect(clippy::float_cmp, reason = "it is 1 unless the command line says otherwise")]
    if report.scale != 1.0 {
        about += &format!("; all counts are {} times the proper ones: good for a try, not for figures", report.scale);
    }
    about
}

/// The powers of ten between which all ratios are, and 1.
#[expect(clippy::cast_possible_truncation, reason = "they are small")]
fn decades(ratios: impl Iterator<Item = f64>) -> (i32, i32) {
    ratios.fold((-1, 1), |(low, high), ratio| {
        (low.min(ratio.log10().floor() as i32), high.max(ratio.log10().ceil() as i32))
    })
}

/// Where a ratio is.
fn place(ratio: f64, (low, high): (i32, i32)) -> f64 {
    let part = (ratio.log10() - f64::from(low)) / f64::from(high - low);
    SCALE.0 + part * (SCALE.1 - SCALE.0)
}

fn text(x: f64, y: f64, content: &str) -> Text {
    Text::new(content).set("x", x).set("y", y).set("fill", INK)
}

fn line(x: f64, top: f64, bottom: f64, colour: &str) -> Line {
    Line::new().set("x1", x).set("x2", x).set("y1", top).set("y2", bottom).set("stroke", colour)
}
