//! The report as JSON.

use serde_json::{Value, json};

use super::{Report, Row, median};

/// All of it: each figure with its unit, its samples and its ratios.
#[must_use]
pub fn of(report: &Report) -> Value {
    let systems: Vec<Value> = report
        .systems
        .iter()
        .map(|(name, version, yardsticks)| {
            let yardsticks = yardsticks.map(|y| {
                json!({ "send": y.send, "work": y.plain, "work with results": y.results, "lone": y.lone, "idle": y.idle })
            });
            json!({ "name": name, "version": version, "yardsticks": yardsticks })
        })
        .collect();
    json!({
        "date": report.date,
        "cpus": report.cpus,
        "scale": report.scale,
        "rounds": report.rounds,
        "systems": systems,
        "python_celery": report.python,
        "figures": report.rows.iter().map(figure).collect::<Vec<Value>>(),
        "missing": report.missing,
    })
}

fn figure(row: &Row) -> Value {
    let side = |samples: &[f64]| match median(samples.iter().copied()) {
        Some(median) => json!({ "median": median, "rounds": samples }),
        None => Value::Null,
    };
    json!({
        "system": row.system,
        "part": row.part,
        "name": row.name,
        "unit": row.unit.name(),
        "more_is_better": row.unit.more_is_better(),
        "celeriac": side(&row.ours),
        "raw": side(&row.raw),
        "python": side(&row.python),
        "ratio_to_raw": row.raw_ratio(),
        "ratio_to_python": row.python_ratio(),
        "note": row.note,
    })
}
