//! Two load hosts' folders become one, and the one tells the truth about both.

use super::*;
use crate::sample;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use proptest::prelude::*;
use std::time::{Duration, UNIX_EPOCH};

const EXPERIMENT: &str = "title = \"t\"\nquestion = \"q\"\nrepeats = 1\n[vary]\nconcurrency = [1, 16]\n\
    [[targets]]\nname = \"lab\"\nkind = \"address\"\naddress = \"10.0.0.1:7000\"\ncluster = true\n";

/// A log as `trine-load` writes it: one second of GETs with these latencies.
fn log(began_s: f64, latencies_ns: &[u64]) -> Vec<u8> {
    let mut histogram: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
    latencies_ns.iter().for_each(|&ns| histogram.record(ns).unwrap());
    let (mut text, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let began = UNIX_EPOCH + Duration::from_secs_f64(began_s);
    let mut builder = IntervalLogWriterBuilder::new();
    builder.with_start_time(began).with_base_time(began);
    let mut writer = builder.begin_log_with(&mut text, &mut serializer).unwrap();
    writer.write_histogram(&histogram, Duration::ZERO, Duration::from_secs(1), Tag::new("GET")).unwrap();
    text
}

fn point(concurrency: u32) -> Point {
    Point { target: "lab".to_owned(), servers: None, cores: None, ..sample::point(concurrency, 0.5) }
}

/// A load host's folder with a run for each point, of which it answered as many requests as there are latencies.
fn folder(parent: &Path, name: &str, points: &[u32], began_s: f64, latencies_ns: &[u64]) -> Folder {
    let folder = Folder(parent.join(name));
    std::fs::create_dir_all(folder.0.join("logs")).unwrap();
    std::fs::write(folder.experiment_file(), EXPERIMENT).unwrap();
    let (mut journal, _) = Journal::open(&folder).unwrap();
    for point in points.iter().map(|&concurrency| point(concurrency)) {
        let mut run = sample::measured(point.clone(), 1, latencies_ns.len() as f64, "OK");
        if let Outcome::Measured { load, .. } = &mut run.outcome {
            let mut report = Value::from(load.as_ref().clone());
            let count = latencies_ns.len();
            let more = json!({"operations": count, "reads": count, "errors": {"total": 1, "by_kind": {"timeout": 1}}});
            report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            **load = LoadReport::try_from(report).unwrap();
        }
        journal.append(&run).unwrap();
        std::fs::write(folder.hlog_file(&point, 1), log(began_s, latencies_ns)).unwrap();
    }
    folder
}

fn report(out: &Folder, concurrency: u32) -> Value {
    let runs = out.read().unwrap().runs;
    let run = runs.iter().find(|run| run.point.concurrency == concurrency).unwrap();
    match &run.outcome {
        Outcome::Measured { load, .. } => Value::from(load.as_ref().clone()),
        Outcome::Failed { message, .. } => panic!("{message}"),
    }
}

/// Counts add up; a percentile is that of all requests, which lies far from the mean of both hosts' percentiles. A load
/// host without a connection of its own is not missed.
#[test]
fn percentiles_are_of_all_requests() {
    let directory = tempfile::tempdir().unwrap();
    let fast: Vec<u64> = vec![100_000; 990];
    let slow: Vec<u64> = vec![9_000_000; 10];
    let one = folder(directory.path(), "one", &[1, 16], 100.0, &fast);
    let two = folder(directory.path(), "two", &[16], 100.01, &slow);
    let out = Folder(directory.path().join("out"));
    merge(&out, &[one, two]).unwrap();
    let both = report(&out, 16);
    let latency = &both["latency_since_due_us"]["all"];
    assert_eq!((&both["operations"], &latency["count"]), (&json!(1000), &json!(1000)));
    assert_eq!(both["errors"], json!({"total": 2, "by_kind": {"timeout": 2}}));
    assert_eq!(both["ops_per_s"], json!(1000.0));
    let us = |name: &str| latency[name].as_f64().unwrap();
    assert!((us("p50") - 100.0).abs() < 1.0 && (us("p99") - 100.0).abs() < 1.0, "{latency}");
    assert!((us("p999") - 9000.0).abs() < 10.0, "{latency}");
    assert_eq!(both["verdict"], "OK");
    assert_eq!(both["members"][1]["host"], "two");
    assert_eq!(report(&out, 1)["operations"], json!(990));
    // Where there are results, none are written over.
    let again = merge(&out, &[Folder(directory.path().join("one"))]).unwrap_err().to_string();
    assert!(again.contains("--out"), "{again}");
}

/// A part that one load host could not measure is a failure of the whole, and the reason names the host.
#[test]
fn a_missing_part_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let one = folder(directory.path(), "one", &[1, 16], 100.0, &[1000]);
    let two = folder(directory.path(), "two", &[], 100.0, &[1000]);
    let out = Folder(directory.path().join("out"));
    merge(&out, &[one, two]).unwrap();
    let runs = out.read().unwrap().runs;
    let failed: Vec<String> = runs.iter().filter(|run| run.figures().is_none()).flat_map(Run::reasons).collect();
    assert_eq!(failed, ["two: did not measure it"]);
}

/// Hosts that did not measure at the same time are in doubt, and folders of different experiments are refused.
#[test]
fn measuring_apart_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let one = folder(directory.path(), "one", &[1, 16], 100.0, &[1000]);
    let two = folder(directory.path(), "two", &[16], 103.0, &[1000]);
    let out = Folder(directory.path().join("out"));
    merge(&out, &[one.clone(), two.clone()]).unwrap();
    let both = report(&out, 16);
    assert_eq!(both["verdict"], "SUSPECT");
    assert!(both["reasons"][0].as_str().unwrap().contains("3.000 s apart"), "{}", both["reasons"]);
    std::fs::write(two.experiment_file(), EXPERIMENT.replace("repeats = 1", "repeats = 2")).unwrap();
    let error = merge(&Folder(directory.path().join("other")), &[one, two]).unwrap_err().to_string();
    assert!(error.contains("different experiments"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    /// However requests fall to load hosts, the sum of their logs is the log of all of them.
    #[test]
    fn logs_add_up(latencies in proptest::collection::vec((1..60_000_000_000u64, 0..3usize), 1..200)) {
        let of = |which: Option<usize>| -> Vec<u64> {
            latencies.iter().filter(|(_, host)| which.is_none_or(|which| which == *host)).map(|(ns, _)| *ns).collect()
        };
        let mut sum = Log::default();
        for host in 0..3 {
            sum.add(&Log::parse(&log(1.0, &of(Some(host)))).unwrap()).unwrap();
        }
        let all = Log::parse(&log(1.0, &of(None))).unwrap();
        prop_assert_eq!(sum.total(&["GET", "SET"]).unwrap(), all.total(&["GET"]).unwrap());
        prop_assert_eq!(sum.seconds().unwrap()[0].count, latencies.len() as u64);
    }
}
