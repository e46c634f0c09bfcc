//! A cluster of texts: what nodes said, and what is shown of it.

use super::{
    cluster::{Cluster, Health},
    members::{Member, completed, members, split},
    rates::{Rates, percentile_us},
    reading::{Histogram, Reading, Slot, histograms, slots},
    row::{Condition, Shape, Sort, rows, total},
    screen::{Key, Screen},
    table::{self, bytes, count, micros, spark},
};
use crate::reply::{Decoder, Reply};
use expect_test::expect;
use std::time::Duration;

/// Returns a reading like that of a core of Trine.
fn core(server: &str, core: u16, operations: u64, run: &str) -> Reading {
    let (hits, busy, us) = (operations / 4, operations * 5, operations * 2);
    let mut reading = Reading::of(&format!(
        "# Server\r\nredis_version:7.2.4\r\ntrine_version:0.1.0\r\nrun_id:{run}\r\nuptime_in_seconds:9\r\nconnected_clients:51\r\n\
         used_memory:{}\r\nloading:0\r\ntotal_commands_processed:{operations}\r\ntotal_net_input_bytes:{}\r\n\
         total_net_output_bytes:{}\r\nevicted_keys:0\r\nkeyspace_hits:{hits}\r\nkeyspace_misses:{}\r\nrole:master\r\n\
         used_cpu_sys:1.5\r\nused_cpu_user:2.5\r\ncluster_enabled:1\r\ndb0:keys={},expires=0,avg_ttl=0\r\n\
         trine_server:{server}\r\ntrine_core:{core}\r\ntrine_cores:2\r\ntrine_busy_usec:{busy}\r\n\
         cmdstat_get:calls={hits},usec={us},usec_per_call=4.00,rejected_calls=0,failed_calls=0\r\n",
        operations * 100,
        operations * 60,
        operations * 90,
        operations / 12,
        operations / 10,
    ));
    let get = reading.commands.get_mut("get").expect("it is in the text");
    get.times = Histogram::from([(8, hits / 2), (16, hits / 2)]);
    reading
}

/// A server's texts are shown, and move no terminal's cursor.
#[test]
fn a_terminal_does_not_obey_a_servers_texts() {
    let reading = Reading::of("redis_version:7\u{9b}2J\r\ntrine_server:\x1b]0;mine\x07\r\ntrine_core:1\r\n");
    assert_eq!((reading.program.as_str(), reading.core), ("redis 7\\u009b2J", Some(1)));
    assert_eq!(reading.server, "\\u001b]0;mine\\u0007");
}

/// Two servers, one with two cores and one with one, and a redis-server; all answer twice, a second apart.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new(&["10.0.0.1:7000".into(), "10.0.0.9:6379".into()]);
    let member = |address: &str, slots| Member { address: address.into(), slots };
    let found = [member("10.0.0.1:7001", 5461), member("10.0.0.1:7002", 5461), member("10.0.0.2:7001", 5462)];
    cluster.found("10.0.0.1:7000", &found);
    for (second, factor) in [(0, 1), (1, 2)] {
        let at = Duration::from_secs(second);
        cluster.heard("10.0.0.1:7001", at, Ok(core("s1", 0, 40_000 * factor, "a")));
        cluster.heard("10.0.0.1:7002", at, Ok(core("s1", 1, 90_000 * factor, "a")));
        cluster.heard("10.0.0.2:7001", at, Ok(core("s2", 0, 60_000 * factor, "b")));
        let redis = format!(
            "redis_version:7.0.15\r\nrun_id:c\r\ntotal_commands_processed:{}\r\nused_cpu_user_main_thread:{factor}.25\r\n\
             used_cpu_sys_main_thread:0.25\r\nused_memory:1048576\r\nconnected_clients:1\r\n",
            factor * 10
        );
        cluster.heard("10.0.0.9:6379", at, Ok(Reading::of(&redis)));
    }
    cluster.note_interval();
    cluster
}

const NOW: Duration = Duration::from_secs(3);

fn shown(cluster: &Cluster, shape: Shape, sort: Sort, is_reversed: bool) -> String {
    table::text(&rows(cluster, shape, sort, is_reversed, NOW), &total(cluster, NOW), 78)
}

/// Servers with their cores below them; what is not of Trine stands among them.
#[test]
fn rows_say_what_each_node_did() {
    expect![[r#"
        server / node            ops/s   exec    p99  busy  memory   keys  conns  hits
        10.0.0.9:6379               10      -      -  100%  1.00MB      0      1     -
        s1 (2 cores)              130k  8.0µs   16µs   32%  24.8MB  26.0k    102   75%
          0 10.0.0.1:7001        40.0k  8.0µs   16µs   20%  7.63MB  8.00k     51   75%
          1 10.0.0.1:7002        90.0k  8.0µs   16µs   45%  17.2MB  18.0k     51   75%
        s2 10.0.0.2:7001         60.0k  8.0µs   16µs   30%  11.4MB  12.0k     51   75%
        all                       190k  8.0µs   16µs   49%  37.2MB  38.0k    154   75%
    "#]]
    .assert_eq(&shown(&cluster(), Shape::Tree, Sort::Found, false));
}

/// The busiest server first, and in it the busiest core; reversed, the other way round.
#[test]
fn rows_can_be_sorted_and_folded() {
    let cluster = cluster();
    let first = |shape, sort, is_reversed| {
        let rows = rows(&cluster, shape, sort, is_reversed, NOW);
        rows.iter().map(|row| row.label.trim().to_owned()).collect::<Vec<_>>().join(" | ")
    };
    expect!["s1 (2 cores) | 1 10.0.0.1:7002 | 0 10.0.0.1:7001 | s2 10.0.0.2:7001 | 10.0.0.9:6379"].assert_eq(&first(
        Shape::Tree,
        Sort::Operations,
        false,
    ));
    expect!["10.0.0.9:6379 | s2 10.0.0.2:7001 | s1 (2 cores) | 0 10.0.0.1:7001 | 1 10.0.0.1:7002"].assert_eq(&first(
        Shape::Tree,
        Sort::Operations,
        true,
    ));
    expect!["10.0.0.9:6379 | s1 (2 cores) | s2 10.0.0.2:7001"].assert_eq(&first(Shape::Servers, Sort::Busy, false));
    assert_eq!(rows(&cluster, Shape::Nodes, Sort::Found, false, NOW).len(), 4);
}

/// A node that does not answer is shown with the reason and for how long, its server as partly down; when it comes back, under
/// another run id, its first answer gives no rates and its second does.
#[test]
fn nodes_go_away_and_come_back() {
    let mut cluster = cluster();
    for second in [1, 2] {
        cluster.heard("10.0.0.1:7002", Duration::from_secs(second), Err("Connection refused".into()));
    }
    expect![[r#"
        server / node            ops/s   exec    p99  busy  memory   keys  conns  hits
        10.0.0.9:6379               10      -      -  100%  1.00MB      0      1     -
        s1 (1 of 2 down)         40.0k  8.0µs   16µs   20%  7.63MB  8.00k     51   75%
          0 10.0.0.1:7001        40.0k  8.0µs   16µs   20%  7.63MB  8.00k     51   75%
          1 10.0.0.1:7002      down for 2 s: Connection refused
        s2 10.0.0.2:7001         60.0k  8.0µs   16µs   30%  11.4MB  12.0k     51   75%
        all                       100k  8.0µs   16µs   50%  20.1MB  20.0k    103   75%
    "#]]
    .assert_eq(&shown(&cluster, Shape::Tree, Sort::Found, false));
    cluster.heard("10.0.0.1:7002", Duration::from_secs(3), Ok(core("s1", 1, 10, "z")));
    assert_eq!(cluster.nodes[2].health, Health::Up);
    assert_eq!(cluster.nodes[2].rates, None);
    cluster.heard("10.0.0.1:7002", Duration::from_secs(5), Ok(core("s1", 1, 30, "z")));
    assert_eq!(cluster.nodes[2].rates.as_ref().map(|rates| rates.operations), Some(10.0));
}

/// A node that leaves the cluster leaves the screen; one that was asked for by name and is of no cluster stays.
#[test]
fn members_come_and_go() {
    let mut cluster = cluster();
    cluster.found("10.0.0.1:7000", &[Member { address: "10.0.0.3:7001".into(), slots: 16_384 }]);
    let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.address.as_str()).collect();
    assert_eq!(addresses, ["10.0.0.9:6379", "10.0.0.3:7001"]);
    assert!(!cluster.is_settled(), "it has not been heard");
    cluster.heard("10.0.0.1:7002", NOW, Err("late".into()));
}

/// A restart between two answers, or counters that were reset, give no rates rather than wrong ones.
#[test]
fn counters_that_begin_again_give_no_rates() {
    let [before, after] = [core("s", 0, 100, "a"), core("s", 0, 400, "a")];
    let rates = Rates::between(&before, &after, 2.0).unwrap();
    assert_eq!((rates.operations, rates.hit_share()), (150.0, Some(0.75)));
    assert_eq!((rates.busy, rates.cores), (300.0 * 5.0 / 1e6 / 2.0, 1.0));
    assert_eq!(rates.us_per_call(), Some(8.0));
    assert_eq!(Rates::between(&after, &before, 2.0), None);
    assert_eq!(Rates::between(&before, &core("s", 0, 400, "b"), 2.0), None);
    assert_eq!(Rates::between(&before, &after, 0.0), None);
}

/// If CPU time is counted by slot, the hottest of the interval comes first, not the hottest so far.
#[test]
fn the_hottest_slot_is_that_of_the_interval() {
    let with = |slots: &[(u16, u64)]| {
        let slots = slots.iter().map(|&(number, us)| Slot { number, keys: 3, cpu_us: Some(us) }).collect();
        Reading { slots, ..core("s", 0, 1, "a") }
    };
    let rates = Rates::between(&with(&[(7, 900_000), (9, 100)]), &with(&[(7, 900_100), (9, 500_100), (11, 5)]), 1.0);
    let hot: Vec<_> = rates.unwrap().slots.iter().map(|slot| (slot.slot, slot.cpu_share)).collect();
    assert_eq!(hot, [(9, Some(0.5)), (7, Some(0.0001)), (11, None)]);
}

fn decoded<T>(bytes: &[u8], show: impl FnOnce(&Reply<'_>) -> T) -> T {
    show(&Decoder::default().decode(bytes).unwrap().expect("it is whole").0)
}

/// In both versions of the protocol, with metrics that nobody here knows.
#[test]
fn slots_are_read_from_their_reply() {
    for map in ["*4", "%2"] {
        let bytes = format!("*1\r\n*2\r\n:9\r\n{map}\r\n$9\r\nkey-count\r\n:4\r\n$8\r\ncpu-usec\r\n:77\r\n");
        let found = decoded(bytes.as_bytes(), slots);
        assert_eq!(found, [Slot { number: 9, keys: 4, cpu_us: Some(77) }]);
    }
    assert_eq!(decoded(b"-ERR no\r\n", slots), []);
    assert_eq!(decoded(b"*1\r\n:1\r\n", slots), []);
}

/// Owners, and those that copy them; a host that is not told is the one that was asked.
#[test]
fn members_are_read_from_cluster_slots() {
    let bytes =
        b"*2\r\n*4\r\n:0\r\n:99\r\n*3\r\n$0\r\n\r\n:7001\r\n$2\r\nid\r\n*4\r\n$3\r\n::1\r\n:7002\r\n$2\r\nid\r\n*0\r\n\
                  *3\r\n:100\r\n:16383\r\n*3\r\n$-1\r\n:7001\r\n$2\r\nid\r\n";
    let found = decoded(bytes, |reply| members(reply, "10.0.0.1"));
    let member = |address: &str, slots| Member { address: address.into(), slots };
    assert_eq!(found, Some(vec![member("10.0.0.1:7001", 16_384), member("[::1]:7002", 0)]));
    for bytes in [
        &b"*0\r\n"[..],
        b"-ERR This instance has cluster support disabled\r\n",
        b"*1\r\n*2\r\n:0\r\n:-7\r\n",
        b"*1\r\n:1\r\n",
    ] {
        assert_eq!(decoded(bytes, |reply| members(reply, "h")), None, "{}", bytes.escape_ascii());
    }
}

#[test]
fn addresses_are_taken_apart() {
    assert_eq!(split("[::1]:7000"), Ok(("::1", 7000)));
    assert_eq!(split("lab-1:7000"), Ok(("lab-1", 7000)));
    for text in ["", "7000", ":7000", "lab-1:", "lab-1:0", "lab-1:70000"] {
        assert!(split(text).is_err(), "{text}");
    }
}

/// People write a port, a host or both.
#[test]
fn addresses_are_completed() {
    for (text, address) in [
        ("7000", "127.0.0.1:7000"),
        ("lab-1", "lab-1:7000"),
        ("10.0.0.7", "10.0.0.7:7000"),
        ("lab-1:7100", "lab-1:7100"),
        ("::1", "[::1]:7000"),
        ("[::1]", "[::1]:7000"),
        ("[::1]:7100", "[::1]:7100"),
    ] {
        assert_eq!(completed(text).as_deref(), Ok(address), "{text}");
    }
    for text in ["", "0", "70000", ":7000", "lab-1:", "lab-1:0", "lab-1:70000", "http://lab-1", "lab 1", "[::1"] {
        assert!(completed(text).is_err(), "{text}");
    }
}

/// A server that was slow for an hour and is fast now is fast: percentiles are those of the interval, as the mean is.
#[test]
fn percentiles_are_of_the_interval_that_the_mean_is_of() {
    let with = |slow: u64, fast: u64, info: u64| {
        let calls = slow + fast;
        let mut reading = Reading::of(&format!(
            "run_id:a\r\ntotal_commands_processed:{calls}\r\ncmdstat_get:calls={calls},usec={}\r\n\
             cmdstat_info:calls={info},usec={}\r\n",
            slow * 1000 + fast * 3,
            info * 9000,
        ));
        reading.commands.get_mut("get").unwrap().times = Histogram::from([(4, fast), (1024, slow)]);
        reading.commands.get_mut("info").unwrap().times = Histogram::from([(16_384, info)]);
        reading
    };
    let rates = Rates::between(&with(1_000_000, 0, 1), &with(1_000_000, 100, 2), 1.0).unwrap();
    let get = &rates.commands["get"];
    assert_eq!((get.us / get.calls, percentile_us(&get.times, 50.0)), (3.0, Some(3.0)));
    // Who watches is not what is watched.
    assert_eq!((rates.us_per_call(), rates.p99_us()), (Some(3.0), Some(3.98)));
    let mut both = rates.clone();
    both.add(&Rates::between(&with(0, 0, 1), &with(100, 0, 2), 1.0).unwrap());
    assert_eq!(percentile_us(&both.commands["get"].times, 75.0), Some(768.0), "of all servers' calls");
    assert_eq!(percentile_us(&Histogram::new(), 50.0), None);
}

/// A larger percentile is never smaller, for all counts and bounds.
#[test]
fn a_larger_percentile_is_never_smaller() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..1000 {
        let times: Histogram = (0..random.u64(1..9)).map(|_| (random.u64(0..200), random.u64(0..5))).collect();
        let found: Vec<_> = (0..=1000).filter_map(|part| percentile_us(&times, f64::from(part) / 10.0)).collect();
        assert!(found.is_sorted(), "{times:?}: {found:?}");
        assert_eq!(found.is_empty(), times.values().sum::<u64>() == 0);
    }
}

/// A slot with neither keys nor work is not shown.
#[test]
fn slots_with_nothing_in_them_are_left_out() {
    let with = |slots: [(u16, u64, u64); 3]| {
        let slots = slots.iter().map(|&(number, keys, us)| Slot { number, keys, cpu_us: Some(us) }).collect();
        Reading { slots, ..core("s", 0, 1, "a") }
    };
    let rates = Rates::between(&with([(1, 0, 7), (2, 0, 7), (3, 1, 7)]), &with([(1, 0, 7), (2, 0, 9), (3, 1, 7)]), 1.0);
    assert_eq!(rates.unwrap().slots.iter().map(|slot| slot.slot).collect::<Vec<_>>(), [2, 3]);
}

/// In both versions of the protocol; what counts otherwise, or not at all, has no histograms.
#[test]
fn histograms_are_read_from_their_reply() {
    for map in ["*4", "%2"] {
        let outer = map.replace('4', "2").replace("%2", "%1");
        let bytes = format!(
            "{outer}\r\n$10\r\nconfig|get\r\n{map}\r\n$5\r\ncalls\r\n:9\r\n$14\r\nhistogram_usec\r\n{map}\r\n:2\r\n:4\r\n:33\r\n:9\r\n"
        );
        let found = decoded(bytes.as_bytes(), histograms).unwrap();
        assert_eq!(found["config|get"], Histogram::from([(2, 4), (33, 5)]));
    }
    for bytes in [&b"-ERR unknown subcommand\r\n"[..], b":1\r\n", b"*2\r\n$3\r\nget\r\n:1\r\n"] {
        assert_eq!(decoded(bytes, histograms), None);
    }
}

/// Three digits, whatever the size.
#[test]
fn figures_are_short() {
    for (number, text) in [(0.0, "0"), (999.0, "999"), (999.6, "1.00k"), (12_345.0, "12.3k"), (2.5e6, "2.50M")] {
        assert_eq!(count(number), text);
    }
    for (number, text) in [(512.0, "512B"), (1023.0, "1.00KB"), (1_500_000.0, "1.43MB")] {
        assert_eq!(bytes(number), text);
    }
    for (us, text) in
        [(Some(0.42), "0.4µs"), (Some(45.0), "45µs"), (Some(1234.0), "1.2ms"), (Some(2.5e6), "2.5s"), (None, "-")]
    {
        assert_eq!(micros(us), text);
    }
    assert_eq!(spark(&[9.0, 0.0, 1.0, 4.0, 8.0], 4, 8.0), " ▁▄█");
    assert_eq!(spark(&[4.0, 99.0], 2, 16.0), "▂█");
    assert_eq!(spark(&[0.0], 3, 0.0), "   ");
}

/// Keys choose the order, fold rows, walk, stop time and end.
#[test]
fn keys_do_what_the_help_says() {
    let cluster = cluster();
    let mut screen = Screen::default();
    let press = |screen: &mut Screen, key| screen.press(key, &cluster, NOW);
    assert!(press(&mut screen, Key::Char('b')) && screen.sort == Sort::Busy);
    assert!(press(&mut screen, Key::Right) && screen.sort == Sort::Memory);
    assert!(press(&mut screen, Key::Char('r')) && screen.is_reversed);
    assert!(press(&mut screen, Key::Char('n')) && screen.sort == Sort::Found && !screen.is_reversed);
    assert!(press(&mut screen, Key::Left) && screen.sort == Sort::Hits);
    press(&mut screen, Key::Char('n'));
    for _ in 0..4 {
        press(&mut screen, Key::Down);
    }
    // Two lines for the rows: the chosen one is in sight.
    let picture = screen.picture(&cluster, NOW, 2);
    assert_eq!((picture.selected, picture.first), (Some(3), 2));
    assert_eq!(picture.focus().label, "  1 10.0.0.1:7002");
    press(&mut screen, Key::Char(' '));
    let frozen = screen.picture(&Cluster::default(), NOW, 9);
    assert_eq!(frozen.rows.len(), 5, "time stands still");
    press(&mut screen, Key::Char('p'));
    assert_eq!(screen.picture(&Cluster::default(), NOW, 0).rows.len(), 0);
    assert!(press(&mut screen, Key::Escape), "first it lets go of the row");
    assert!(press(&mut screen, Key::Char('?')) && screen.has_help);
    assert!(press(&mut screen, Key::Escape) && !screen.has_help);
    assert!(!press(&mut screen, Key::Escape));
    assert!(!press(&mut screen, Key::Char('q')));
}

/// At any width, lines are as wide as they may be, and the titles stand above their columns.
#[test]
fn rows_fit_any_width() {
    let cluster = cluster();
    let rows = rows(&cluster, Shape::Tree, Sort::Found, false, NOW);
    assert!(rows.iter().all(|row| row.state == Condition::Up));
    for width in 1..200 {
        let layout = table::Layout::of(width);
        let titles: usize = layout.titles().iter().map(|(title, _)| title.chars().count()).sum();
        assert!(titles <= width, "{titles} of {width}");
        for row in &rows {
            let length: usize = layout.cells(row).iter().map(|cell| cell.chars().count()).sum();
            assert_eq!(length, titles, "at {width}: {row:?}");
        }
    }
}
