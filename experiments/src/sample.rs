//! Runs for tests, as an experiment would have left them. Made from a simple queue: throughput approaches a capacity,
//! and latency is what Little's law makes of it.

use serde_json::json;

use crate::machine::{CpuBusy, ProcessBusy, Utilisation};
use crate::point::{Point, ValueSize};
use crate::result::{Failure, LoadReport, Outcome, Run};
use crate::statistics::Steadiness;

pub fn point(concurrency: u32, read_share: f64) -> Point {
    Point {
        target: "trine".to_owned(),
        servers: Some(3),
        cores: Some(1),
        concurrency,
        pipeline: 1,
        value_size: ValueSize::usual(),
        read_share,
        rate: None,
        operations: None,
    }
}

/// A run whose throughput is `factor` times what the queue says.
pub fn run(point: Point, repeat: u32, factor: f64) -> Run {
    let wobble = 1.0 + 0.01 * (f64::from(repeat % 3) - 1.0);
    let in_flight = f64::from(point.concurrency) * f64::from(point.pipeline);
    let ops_per_s = 200_000.0 * (1.0 - (-in_flight / 20.0).exp()) * factor * wobble;
    measured(point, repeat, ops_per_s, "OK")
}

pub fn measured(point: Point, repeat: u32, ops_per_s: f64, verdict: &str) -> Run {
    let mean_us = f64::from(point.concurrency) * f64::from(point.pipeline) / ops_per_s * 1e6;
    let at = |nines: f64| mean_us * (0.7 + 0.6 * nines);
    let percentiles: Vec<(f64, f64)> = (3..=50)
        .map(|step| f64::from(step) / 10.0)
        .map(|nines| (100.0 - 100.0 * 10f64.powf(-nines), at(nines)))
        .collect();
    let reasons = if verdict == "OK" { vec![] } else { vec!["the load generator was busy"] };
    let load = json!({
        "schema": 1,
        "ops_per_s": ops_per_s,
        "errors": {"total": 0, "by_kind": {}},
        "wrong_values": 0,
        "phases": {"load_s": 0.1, "verify_s": 0.0, "warmup_s": 1.0, "measure_s": 5.0},
        "latency_since_due_us": {"all": {
            "count": ops_per_s as u64 * 5, "p50": at(0.3), "p99": at(2.0), "p999": at(3.0), "percentiles": percentiles,
        }},
        "series": [],
        "verdict": verdict,
        "reasons": reasons,
        "something_newer": {"kept": true},
    });
    let load = Box::new(LoadReport::try_from(load).unwrap());
    let cpus = (0..2).map(|cpu| CpuBusy { cpu, busy: 0.4 + 0.3 * cpu as f64 }).collect();
    let target = (100..103).map(|pid| ProcessBusy { pid, name: "trine".to_owned(), busy: 0.5 }).collect();
    Run {
        utilisation: Utilisation { cpus, target, taken: Vec::new() },
        ..with(point, repeat, Outcome::Measured { steadiness: Steadiness::Steady, attempts: 1, load })
    }
}

pub fn failed(point: Point, repeat: u32) -> Run {
    with(point, repeat, Outcome::Failed { kind: Failure::Load, message: "no route to <host>".to_owned() })
}

fn with(point: Point, repeat: u32, outcome: Outcome) -> Run {
    Run {
        schema: 1,
        point,
        repeat,
        started: "2026-01-01T00:00:00Z".to_owned(),
        commit: "0123abc".to_owned(),
        target_command: vec!["trine".to_owned(), "up".to_owned()],
        load_command: vec!["trine-load".to_owned(), "--value-size".to_owned(), "10 20".to_owned()],
        utilisation: Utilisation::default(),
        outcome,
    }
}

/// A sweep of concurrency for SET and GET.
pub fn sweep(repeats: u32, factor: f64) -> Vec<Run> {
    let mut runs = Vec::new();
    for repeat in 1..=repeats {
        for concurrency in [1, 4, 16, 64, 256] {
            for read_share in [0.0, 1.0] {
                runs.push(run(point(concurrency, read_share), repeat, factor * (1.0 + 0.2 * read_share)));
            }
        }
    }
    runs
}
