//! The table of points that measured a number of operations: SETs, GETs, and both together.

use crate::chart::{duration, grouped};
use crate::point::{Dimension, varying};
use crate::result::{Figures, Latency, Parts};
use crate::settings::Reference;
use crate::statistics::median;
use crate::summary::Summary;

/// A header, and rows with their classes.
pub type Table = (Vec<String>, Vec<(String, Vec<String>)>);

/// Returns header and rows; `None` where no point measured a number of operations. A reference is
/// the last row, and each point's throughput stands beside it.
pub fn table(summaries: &[Summary], reference: Option<&Reference>) -> Option<Table> {
    let counted: Vec<&Summary> = summaries.iter().filter(|summary| summary.point.operations.is_some()).collect();
    if counted.is_empty() {
        return None;
    }
    let mut dimensions = varying(counted.iter().map(|summary| &summary.point));
    if dimensions.is_empty() {
        dimensions = vec![Dimension::Target, Dimension::Concurrency];
    }
    let mut header: Vec<String> =
        dimensions.iter().map(|dimension| crate::figures::short(*dimension).to_owned()).collect();
    let columns = ["SET ops/s", "p50", "p99", "GET ops/s", "p50", "p99", "together ops/s", "mean", "p99"];
    header.extend(columns.map(str::to_owned));
    header.extend(reference.map(|reference| format!("× {}", reference.name)));
    let row = |summary: &Summary| {
        let mut cells: Vec<String> =
            dimensions.iter().map(|dimension| summary.point.value(*dimension).unwrap_or_else(none)).collect();
        cells.extend(part(summary, |parts| parts.set.ops_per_s, |figures| figures.latency_since_due_us.set.as_ref()));
        cells.extend(part(summary, |parts| parts.get.ops_per_s, |figures| figures.latency_since_due_us.get.as_ref()));
        let throughput = summary.throughput().map(|throughput| throughput.mean);
        cells.push(throughput.map_or_else(none, grouped));
        let all = |figures: &Figures| Some(figures.latency_since_due_us.all.clone());
        for of in [|latency: &Latency| latency.mean, |latency: &Latency| latency.p99] {
            cells.push(middle(summary, |figures| all(figures).as_ref().and_then(of)).map_or_else(none, duration));
        }
        let times = |reference: &Reference| {
            throughput.map_or_else(none, |throughput| format!("{:.2}", throughput / reference.ops_per_s))
        };
        cells.extend(reference.map(times));
        cells
    };
    let mut rows: Vec<(String, Vec<String>)> =
        counted.into_iter().map(|summary| (String::new(), row(summary))).collect();
    if let Some(reference) = reference {
        let mut cells = vec![reference.name.clone()];
        cells.resize_with(header.len(), none);
        let together = dimensions.len() + 6;
        cells[together] = grouped(reference.ops_per_s);
        cells[together + 1] = duration(reference.latency_ms * 1000.0);
        rows.push((String::new(), cells));
    }
    Some((header, rows))
}

/// Throughput, median and 99th percentile of one part.
fn part(
    summary: &Summary,
    ops_per_s: impl Fn(&Parts) -> f64,
    latency: impl Fn(&Figures) -> Option<&Latency>,
) -> [String; 3] {
    let throughput = middle(summary, |figures| figures.parts.as_ref().map(&ops_per_s));
    let at = |of: fn(&Latency) -> Option<f64>| middle(summary, |figures| latency(figures).and_then(of));
    let cell = |latency: Option<f64>| latency.map_or_else(none, duration);
    [throughput.map_or_else(none, grouped), cell(at(|latency| latency.p50)), cell(at(|latency| latency.p99))]
}

/// The median over the repeats that have it.
fn middle(summary: &Summary, of: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
    median(&summary.figures().filter_map(of).collect::<Vec<_>>())
}

fn none() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{LoadReport, Outcome, Run};
    use crate::sample;
    use crate::summary::summarise;
    use serde_json::{Value, json};

    fn run(concurrency: u32, repeat: u32, set: f64) -> Run {
        let mut point = sample::point(concurrency, 0.5);
        point.operations = Some(800);
        let mut run = sample::measured(point, repeat, 50_000.0, "OK");
        if let Outcome::Measured { load, .. } = &mut run.outcome {
            let mut full = Value::from((**load).clone());
            full["parts"] = json!({"set": {"ops_per_s": set}, "get": {"ops_per_s": 60_000.0}});
            full["latency_since_due_us"]["set"] = json!({"count": 1, "p50": 100.0, "p99": 250.0, "p999": 300.0});
            **load = LoadReport::try_from(full).unwrap();
        }
        run
    }

    /// SETs and GETs have columns of their own, repeats their median, and a reference the last row.
    #[test]
    fn parts_stand_beside_each_other() {
        let runs = [run(10, 1, 40_000.0), run(10, 2, 44_000.0), run(10, 3, 90_000.0), run(74, 1, 45_000.0)];
        let reference = Reference { name: "predecessor".into(), ops_per_s: 25_000.0, latency_ms: 2.9 };
        let (header, rows) = table(&summarise(&runs), Some(&reference)).unwrap();
        assert_eq!((header[0].as_str(), header.last().unwrap().as_str()), ("concurrency", "× predecessor"));
        assert_eq!(rows[0].1[..7], ["10", "44,000", "100 µs", "250 µs", "60,000", "–", "–"]);
        assert_eq!((rows[0].1[7].as_str(), rows[0].1.last().unwrap().as_str()), ("50,000", "2.00"));
        assert_eq!(
            (rows[2].1[0].as_str(), rows[2].1[7].as_str(), rows[2].1[8].as_str()),
            ("predecessor", "25,000", "2.9 ms")
        );
        assert!(rows.iter().all(|(_, cells)| cells.len() == header.len()));
    }

    /// There is no such table if nothing was counted.
    #[test]
    fn a_timed_experiment_has_no_such_table() {
        assert!(table(&summarise(&sample::sweep(1, 1.0)), None).is_none());
    }
}
