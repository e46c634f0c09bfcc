//! Metrics of a server, and the dashboard that shows them.

mod prometheus;

use crate::{
    harness::{Server, eventually},
    skip::skip,
    wire::{Reply, Wire},
};
use prometheus::Prometheus;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Command, Stdio},
};

/// The dashboard as ansible ships it.
fn dashboard() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../ansible/roles/metrics/files/trine-dashboard.json");
    let text = fs::read_to_string(path).expect("the dashboard lies there");
    serde_json::from_str(&text).expect("it is JSON")
}

/// The queries of the dashboard, each with the name of the panel that it is in, as Grafana would send them.
fn queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("there are panels");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let targets = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (text(&panel["title"]), text(&target["expr"])))
    });
    let annotations = dashboard["annotations"]["list"].as_array().expect("there are annotations").iter();
    let annotations =
        annotations.filter_map(|annotation| Some((text(&annotation["name"]), annotation["expr"].as_str()?.to_owned())));
    let filled = |query: String| {
        let query =
            query.replace("$__rate_interval", "10s").replace("\"$server\"", "\".*\"").replace("\"$core\"", "\".*\"");
        assert!(!query.contains('$'), "a variable that nobody fills: {query}");
        query
    };
    targets.chain(annotations).map(|(title, query)| (title, filled(query))).collect()
}

/// A server with something of everything to tell: two cores, values on disk, hits and misses, errors, a snapshot.
fn talkative(directory: &tempfile::TempDir) -> Server {
    let directory = directory.path().to_str().expect("a path is text");
    let server = Server::start(2, &["--dir", directory, "--values", "disk", "--max-memory", "1gb", "--name", "s1"]);
    keep_talking(&server);
    let mut wire = server.connect();
    assert_eq!(wire.ask("SAVE"), "+OK");
    server
}

/// Some of every kind of traffic, by the gateway and by a core's port.
fn keep_talking(server: &Server) {
    let mut wire = server.connect();
    for number in 0..20 {
        wire.ask(&format!("SET key:{number} {} EX 1000", "x".repeat(100)));
        wire.ask(&format!("GET key:{number}"));
        wire.ask(&format!("GET none:{number}"));
    }
    wire.ask("INCR key:1");
    wire.ask("GET");
    Wire::connect(server.core(0)).ask("GET foo"); // MOVED
}

/// The text of METRICS by this port.
fn metrics(port: u16) -> String {
    match Wire::connect(port).request(&[b"METRICS"]) {
        Reply::Bulk(text) => String::from_utf8(text).expect("text"),
        reply => panic!("no text: {reply}"),
    }
}

/// Of each name of a sample, the names of the labels it may have.
fn told(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once('{').expect("every sample has labels");
        let labels = told.entry(name.to_owned()).or_default();
        // What stands before each `="`, back to the last comma.
        let mut parts: Vec<_> = rest.split("=\"").collect();
        parts.pop();
        labels.extend(parts.iter().filter_map(|part| Some(part.rsplit(',').next()?.to_owned())));
    }
    told
}

/// The names of metrics in a query, each with the labels that are asked of it; and the labels that are summed by.
fn asked(query: &str) -> (Vec<(String, Vec<String>)>, Vec<String>) {
    let words =
        ["by", "or", "and", "unless", "time", "vector", "sum", "min", "max", "rate", "changes", "histogram_quantile"];
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut metrics, mut labels) = (Vec::new(), Vec::new());
    let mut rest = query;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '[') {
        // A number such as 0.99 has no letter; a range such as [10s] has one, and is no name.
        if rest[start..].starts_with('[') {
            rest = &rest[start + rest[start..].find(']').expect("a range ends")..];
            continue;
        }
        let word = &rest[start..];
        let word = &word[..word.find(|c| !is_part(c)).unwrap_or(word.len())];
        rest = &rest[start + word.len()..];
        if word == "by" {
            let (list, behind) = rest.trim_start().trim_start_matches('(').split_once(')').expect("a list of labels");
            labels.extend(list.split(',').map(|label| label.trim().to_owned()));
            rest = behind;
        } else if !words.contains(&word) {
            let mut of = Vec::new();
            if let Some(selector) = rest.strip_prefix('{') {
                let (selector, behind) = selector.split_once('}').expect("a selector ends");
                of.extend(selector.split(',').map(|pair| pair.split(['=', '!']).next().expect("a label").to_owned()));
                rest = behind;
            }
            metrics.push((word.to_owned(), of));
        }
    }
    (metrics, labels)
}

/// Every metric and label that the dashboard asks for is in what a server tells.
#[test]
fn the_dashboard_asks_for_what_a_server_tells() {
    let directory = tempfile::tempdir().expect("a folder");
    let server = talkative(&directory);
    let told = told(&metrics(server.port));
    let queries = queries();
    assert!(50 < queries.len(), "{}", queries.len());
    let mut seen = BTreeSet::new();
    for (title, query) in &queries {
        let (metrics, by) = asked(query);
        for (name, labels) in &metrics {
            let known = told.get(name).unwrap_or_else(|| panic!("{title}: nobody tells of {name}"));
            for label in labels.iter().chain(&by) {
                assert!(known.contains(label), "{title}: {name} has no label {label}, but {known:?}");
            }
            seen.insert(name.clone());
        }
    }
    // What matters most is shown.
    for name in
        ["trine_command_duration_seconds_bucket", "trine_queue_delay_seconds_bucket", "trine_busy_seconds_total"]
    {
        assert!(seen.contains(name), "{name} is shown");
    }
    for variable in dashboard()["templating"]["list"].as_array().expect("there are variables") {
        let Some(query) = variable["definition"].as_str() else { continue };
        let (selector, label) = query
            .strip_prefix("label_values(")
            .and_then(|rest| rest.trim_end_matches(')').rsplit_once(", "))
            .expect("label_values");
        let name = selector.split('{').next().expect("a name");
        assert!(told[name].contains(label), "{query}");
    }
    // The panels stand beside and below each other.
    let mut cells = BTreeSet::new();
    for panel in dashboard()["panels"].as_array().expect("panels") {
        let number = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        for x in number("x")..number("x") + number("w") {
            for y in number("y")..number("y") + number("h") {
                assert!(x < 24 && cells.insert((x, y)), "{} lies on another panel", panel["title"]);
            }
        }
    }
}

/// Prometheus's own linter has nothing to say against what a server and each of its cores tell.
#[test]
fn promtool_finds_no_fault_with_the_metrics() {
    let directory = tempfile::tempdir().expect("a folder");
    let server = talkative(&directory);
    for port in server.ports() {
        let command =
            Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let Ok(mut promtool) = command else {
            return skip("promtool is not installed (Debian: apt-get install prometheus)");
        };
        let mut input = promtool.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut input, metrics(port).as_bytes()).expect("it reads");
        drop(input);
        let output = promtool.wait_with_output().expect("it ends");
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A real Prometheus scrapes a server, and answers every query of the dashboard with something.
#[test]
fn prometheus_answers_every_query_of_the_dashboard() {
    let directory = tempfile::tempdir().expect("a folder");
    let server = talkative(&directory);
    let Some(prometheus) = Prometheus::start(&directory, server.port) else {
        return skip("prometheus is not installed (Debian: apt-get install prometheus)");
    };
    // Errors and refusals of commands have no rate while nobody makes any, and a restart is a change that did not happen.
    let may_be_empty = ["Restarts"];
    for (title, query) in queries() {
        if may_be_empty.contains(&title.as_str()) {
            prometheus.ask(&query).unwrap_or_else(|error| panic!("{title}: {error}: {query}"));
            continue;
        }
        eventually(&format!("{title}: {query}"), || {
            keep_talking(&server);
            let values = prometheus.ask(&query).unwrap_or_else(|error| panic!("{title}: {error}: {query}"));
            values.iter().any(|value| value.is_finite()).then_some(())
        });
    }
    // What is summed over cores is what the server has.
    let keys = server.connect().ask("DBSIZE").trim_start_matches(':').parse::<f64>().expect("a number");
    eventually("the sum of keys", || (prometheus.ask("sum(trine_keys)") == Ok(vec![keys])).then_some(()));
    let up = prometheus.ask("count(trine_uptime_seconds{core=\"\"}) == count(up)").expect("a query");
    assert_eq!(up, [1.0], "what is the process's is told once a server");
}

/// A core's port tells of that core, the gateway of all; both while nobody has asked for anything yet.
#[test]
fn the_gateway_tells_of_all_cores() {
    let server = Server::start(3, &[]);
    let cores = |port| {
        let text = metrics(port);
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("trine_keys{")).map(str::to_owned).collect();
        let mut lines: Vec<_> =
            lines.iter().map(|line| line.split("core=").nth(1).expect("a core").to_owned()).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(cores(server.core(1)), ["\"1\"} 0"]);
    assert_eq!(cores(server.port), ["\"0\"} 0", "\"1\"} 0", "\"2\"} 0"]);
}

/// Time of the core goes to the slots that took it: nearly all to the one that is asked for all the time, by the gateway
/// as by the core's port; and its key is the hottest.
#[test]
fn slots_and_keys_that_are_busy_are_told() {
    let server = Server::start(2, &[]);
    let mut wire = Wire::connect(server.core(1));
    let value = "x".repeat(1000);
    assert_eq!(wire.ask(&format!("SET foo {value}")), "+OK");
    assert_eq!(server.connect().ask("SET {b} 1"), "+OK");
    for _ in 0..100 {
        let requests = "GET foo\r\n".repeat(200);
        wire.send(requests.as_bytes());
        (0..200).for_each(|_| assert_eq!(wire.reply(), Reply::Bulk(value.clone().into_bytes())));
    }
    let stats = wire.ask("CLUSTER SLOT-STATS ORDERBY CPU-USEC LIMIT 1");
    let number = |text: &str, name: &str| -> f64 {
        let rest = text.split(&format!("{name} ")).nth(1).unwrap_or_else(|| panic!("{name} in {text}"));
        rest.split([' ', ']']).next().expect("a word").trim_start_matches(':').parse().expect("a number")
    };
    assert!(stats.starts_with("[[:12182 [key-count :1 cpu-usec"), "{stats}");
    // 20,000 replies of a kilobyte; an estimate.
    let bytes = number(&stats, "network-bytes-out");
    assert!((10e6..40e6).contains(&bytes), "{stats}");
    assert!(1.0 <= number(&stats, "cpu-usec"), "{stats}");
    let hot = server.connect().ask("HOTKEYS COUNT 1");
    assert!(hot.starts_with("[[foo [slot :12182 ops-per-sec "), "{hot}");
    assert!(90.0 < number(&hot, "percent"), "{hot}");
    let both = server.connect().ask("HOTKEYS");
    assert!(both.contains("[{b} [slot :3300"), "the other core's too: {both}");
}

/// A value that takes long to copy stands in the slow log with its own time, whatever came with it.
#[test]
fn large_values_are_in_the_slow_log() {
    let server = Server::start(1, &["--slowlog-log-slower-than", "500"]);
    let mut wire = server.connect();
    let value = vec![b'x'; 32 << 20];
    assert_eq!(wire.request(&[b"SET", b"large", &value]), Reply::Simple("OK".into()));
    let mut pipeline = Vec::new();
    for _ in 0..10 {
        crate::wire::encode(&mut pipeline, &[b"SET", b"small", b"1"]);
    }
    crate::wire::encode(&mut pipeline, &[b"GET", b"large"]);
    wire.send(&pipeline);
    (0..10).for_each(|_| assert_eq!(wire.reply(), Reply::Simple("OK".into())));
    assert_eq!(wire.reply(), Reply::Bulk(value));
    let slow = wire.ask("SLOWLOG GET -1");
    assert!(slow.contains("[SET large xxx") && slow.contains("[GET large]") && !slow.contains("small"), "{slow}");
}
