use super::*;
use crate::commands::tests::Bench;
use expect_test::{expect, expect_file};

/// The text of `METRICS`.
fn text(bench: &mut Bench) -> String {
    let reply = bench.execute(&[b"METRICS".to_vec()]);
    let text = String::from_utf8(reply).expect("text");
    let (head, text) = text.split_once("\r\n").expect("a bulk string has a header");
    assert_eq!(head, format!("${}", text.len() - 2));
    text.strip_suffix("\r\n").expect("a bulk string ends so").to_owned()
}

/// The samples of some families, with what stands above them.
fn shown(bench: &mut Bench, names: &[&str]) -> String {
    let is_meant = |line: &str| {
        let line = line.strip_prefix("# HELP ").or(line.strip_prefix("# TYPE ")).unwrap_or(line);
        let name = line.split(['{', ' ']).next().expect("a first word");
        names.iter().any(|meant| name == *meant || name.strip_prefix(meant).is_some_and(|rest| rest.starts_with('_')))
    };
    text(bench).split_inclusive('\n').filter(|line| is_meant(line)).collect()
}

/// A scrape of a core has all that it has counted.
#[test]
fn a_core_tells_what_it_has_counted() {
    let mut bench = Bench::new();
    for line in ["SET a 1 EX 100", "GET a", "GET b", "INCR x y", "GETT", "HELLO 9"] {
        bench.line(line);
    }
    let names = [
        "trine_commands_total",
        "trine_error_replies_total",
        "trine_keys",
        "trine_keyspace_hits_total",
        "trine_build_info",
    ];
    expect![[r##"
        # HELP trine_build_info Always 1; the labels say what runs.
        # TYPE trine_build_info gauge
        trine_build_info{server="a",version="0.1.0",redis_version="7.2.4"} 1
        # HELP trine_commands_total Commands that were executed, by command.
        # TYPE trine_commands_total counter
        trine_commands_total{server="a",core="0",command="get"} 2
        trine_commands_total{server="a",core="0",command="incr"} 0
        trine_commands_total{server="a",core="0",command="set"} 1
        trine_commands_total{server="a",core="0",command="hello"} 1
        # HELP trine_error_replies_total Error replies, by their first word.
        # TYPE trine_error_replies_total counter
        trine_error_replies_total{server="a",core="0",code="ERR"} 2
        trine_error_replies_total{server="a",core="0",code="NOPROTO"} 1
        # HELP trine_keys Keys.
        # TYPE trine_keys gauge
        trine_keys{server="a",core="0"} 1
        # HELP trine_keys_expiring Keys that have an expiry.
        # TYPE trine_keys_expiring gauge
        trine_keys_expiring{server="a",core="0"} 1
        # HELP trine_keys_expired_total Keys that were removed because their time had come.
        # TYPE trine_keys_expired_total counter
        trine_keys_expired_total{server="a",core="0"} 0
        # HELP trine_keys_evicted_total Keys that were removed to make room.
        # TYPE trine_keys_evicted_total counter
        trine_keys_evicted_total{server="a",core="0"} 0
        # HELP trine_keyspace_hits_total Reads that found their key.
        # TYPE trine_keyspace_hits_total counter
        trine_keyspace_hits_total{server="a",core="0"} 1
    "##]]
    .assert_eq(&shown(&mut bench, &names));
}

/// Buckets are cumulative, in seconds, and the same whatever was counted; what is faster or slower than all bounds is in the
/// first, or in the one without a bound.
#[test]
fn histograms_are_cumulative() {
    let mut bench = Bench::new();
    let syncs = &mut bench.shard.core.persistence.syncs;
    syncs.note_each(0, 1);
    syncs.note_each(190, 5);
    syncs.note_each(100_000_000, 1);
    expect![[r#"
        # HELP trine_log_sync_duration_seconds How long a write of the log and its sync took.
        # TYPE trine_log_sync_duration_seconds histogram
        trine_log_sync_duration_seconds_bucket{server="a",core="0",le="0.000000125"} 1
        trine_log_sync_duration_seconds_bucket{server="a",core="0",le="0.00000025"} 1
        trine_log_sync_duration_seconds_bucket{server="a",core="0",le="0.0000005"} 1
        trine_log_sync_duration_seconds_bucket{server="a",core="0",le="0.000001"} 1
        trine_log_sync_duration_seconds_bucket{server="a",core="0",le="0.000002"} 1
        trine_log_sync_duration_seconds_bucket{server="a",core="0",le="0.000004"} 1
        trine_log_sync_duration_seconds_bucket{server="a",core="0",le="0.000008"} 1
        trine_log_sync_duration_seconds_bucket{server="a",core="0",le="0.000016"} 1
        trine_log_sync_duration_seconds_bucket{server="a",core="0",le="0.000032"} 1
        trine_log_sync_duration_seconds_bucket{server="a",core="0",le="0.000064"} 1
        trine_log_sync_duration_seconds_bucket{server="a",core="0",le="0.000128"} 1
        trine_log_sync_duration_seconds_bucket{server="a",core="0",le="0.000256"} 6
    "#]]
    .assert_eq(
        &shown(&mut bench, &["trine_log_sync_duration_seconds"])
            .lines()
            .take(14)
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    );
}

/// Every family is told once, with its kind and what it says, and every sample is one of the family above it; the names
/// follow Prometheus's conventions; no series is told twice.
#[test]
fn the_text_is_what_prometheus_reads() {
    let mut bench = Bench::new();
    bench.shard.store.keep_values_on_disk();
    for line in ["SET a 1", "GET a", "NOSUCH"] {
        bench.line(line);
    }
    let get = bench.shard.core.statistics.commands.iter().position(|row| row.name == "get").expect("a row");
    bench.shard.core.statistics.note(get as u16, 3, 2);
    let text = text(&mut bench);
    let (mut families, mut series) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a name and a text");
            assert!(!families.contains(&name), "{name} is told once");
            assert!(help.ends_with('.') && !help.contains(['\\', '|']), "{name}: {help}");
            families.push(name);
            continue;
        }
        let family = FAMILIES.iter().find(|family| Some(&family.name) == families.last()).expect("a family");
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert_eq!(kind, format!("{} {}", family.name, family.kind));
            continue;
        }
        let (labelled, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = labelled.split_once('{').expect("labels");
        let rest = name.strip_prefix(family.name).expect("the family's name");
        match family.kind {
            Kind::Histogram => assert!(["_bucket", "_sum", "_count"].contains(&rest), "{line}"),
            _ => assert_eq!(rest, "", "{line}"),
        }
        let number: f64 = value.parse().expect("a number");
        assert!(number.is_finite() && 0.0 <= number, "{line}");
        let labels: Vec<_> =
            labels.trim_end_matches('}').split(',').map(|pair| pair.split_once('=').expect("a pair").0).collect();
        let mut expected = [&["server"], family.labels].concat();
        expected.extend((rest == "_bucket").then_some("le"));
        assert_eq!(labels, expected, "{line}");
        assert!(!series.contains(&labelled), "{labelled} is told once");
        series.push(labelled);
    }
    assert_eq!(families, FAMILIES.iter().map(|family| family.name).collect::<Vec<_>>());
    for Family { name, kind, .. } in FAMILIES {
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        assert!(name.starts_with("trine_") || name.starts_with("process_"), "{name}");
        assert!(series.iter().any(|series| series.starts_with(name)), "{name} has a sample");
    }
}

/// A name may hold anything.
#[test]
fn label_values_are_escaped() {
    assert_eq!(escaped("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
}

/// While a core reads its files it can be watched doing so.
#[test]
fn metrics_are_told_while_loading() {
    let mut bench = Bench::new();
    bench.shard.core.persistence.is_loading = true;
    bench.shard.core.persistence.loaded = 0.25;
    let text = shown(&mut bench, &["trine_loading"]);
    assert!(text.contains("trine_loading{server=\"a\",core=\"0\"} 1\n"), "{text}");
    assert!(text.contains("trine_loading_progress_ratio{server=\"a\",core=\"0\"} 0.25\n"), "{text}");
}

/// The page that lists all metrics is the table. `UPDATE_EXPECT=1 cargo test -p trine --lib metrics` writes it anew.
#[test]
fn the_page_is_the_table() {
    let page = format!(
        "# What `METRICS` and `/metrics` tell\n\n\
         Written by `UPDATE_EXPECT=1 cargo test -p trine --lib metrics` from the one table in [families.rs](families.rs); \
         `trine serve --metrics` prints it.\n\
         [README.md](../README.md#what-can-be-seen-of-it) says how these are measured.\n\n{}",
        as_markdown()
    );
    expect_file!["README.md"].assert_eq(&page);
}
