//! The screen, as a terminal of a certain size shows it.

use expect_test::expect;
use ratatui::{Terminal, backend::TestBackend};

use super::*;
use crate::top::{
    members::Member,
    reading::{Reading, Slot},
    screen::Key,
};

/// Three servers of two cores; the busiest is one of the second server's, and the third server's second is gone.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new(&["10.0.0.1:7000".into()]);
    let address = |server: u64, core: u64| format!("10.0.0.{server}:{}", 7001 + core);
    let places: Vec<(u64, u64)> = (1..=3).flat_map(|server| [(server, 0), (server, 1)]).collect();
    let members: Vec<_> =
        places.iter().map(|&(server, core)| Member { address: address(server, core), slots: 2730 }).collect();
    cluster.found("10.0.0.1:7000", &members);
    for second in 0..12_u64 {
        for &(server, core) in &places {
            let rate = 20_000 * server + 5_000 * core + 1_000 * (second % 4);
            let operations = second * rate;
            let busy = if (server, core) == (2, 1) { 950_000 } else { 400_000 };
            let info = format!(
                "trine_version:0.1.0\r\nrun_id:{server}\r\ncluster_enabled:1\r\ntrine_server:s{server}\r\ntrine_core:{core}\r\n\
                 trine_cores:2\r\ntotal_commands_processed:{operations}\r\nkeyspace_hits:{operations}\r\n\
                 used_memory:{}\r\nconnected_clients:50\r\ndb0:keys={}\r\ntrine_busy_usec:{}\r\n\
                 cmdstat_get:calls={operations},usec={}\r\n",
                server * 100_000_000,
                server * 300_000,
                second * busy,
                operations * 3,
            );
            let slots =
                [12_182, 5_474].map(|number| Slot { number, keys: 7, cpu_us: Some(second * u64::from(number)) });
            let mut reading = Reading { slots: slots.to_vec(), ..Reading::of(&info) };
            reading.commands.get_mut("get").expect("it is in the text").times =
                [(2, operations * 3 / 5), (8, operations * 2 / 5)].into();
            cluster.heard(&address(server, core), Duration::from_secs(second), Ok(reading));
        }
        cluster.note_interval();
    }
    cluster.heard(&address(3, 1), Duration::from_secs(12), Err("Connection refused (os error 111)".into()));
    cluster
}

fn shown(width: u16, height: u16, keys: &[Key]) -> String {
    let (cluster, mut screen, now) = (cluster(), Screen::default(), Duration::from_secs(14));
    keys.iter().for_each(|&key| assert!(screen.press(key, &cluster, now)));
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, &mut screen, &cluster, now, Duration::from_secs(1))).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n";
    (0..height).map(line).collect()
}

/// The size that a terminal has when nobody chose one.
#[test]
fn it_fits_a_small_terminal() {
    expect![[r#"
         trine top  6 nodes  1 of 6 down  255k ops/s  busy 51%  858MB  2.70M keys
         333k  ops/s, maximum 333k in 11 s                                     ▂ ▂▃▅ ▅▆█
                                                                             ▇██ ███ ███
                                                                             ███████ ███
                                                                             ███████▇███
            0                                                                ███████████
        server / node              ops/s   exec    p99  busy  memory   keys  conns  hits
        s1 (2 cores)               71.0k  3.0µs  7.9µs   40%   191MB   600k    100  100%
          0 10.0.0.1:7001          33.0k  3.0µs  7.9µs   40%  95.4MB   300k     50  100%
          1 10.0.0.1:7002          38.0k  3.0µs  7.9µs   40%  95.4MB   300k     50  100%
        s2 (2 cores)                111k  3.0µs  7.9µs   68%   381MB  1.20M    100  100%
          0 10.0.0.2:7001          53.0k  3.0µs  7.9µs   40%   191MB   600k     50  100%
          1 10.0.0.2:7002          58.0k  3.0µs  7.9µs   95%   191MB   600k     50  100%
        s3 (1 of 2 down)           73.0k  3.0µs  7.9µs   40%   286MB   900k     50  100%
          0 10.0.0.3:7001          73.0k  3.0µs  7.9µs   40%   286MB   900k     50  100%
          1 10.0.0.3:7002        down for 2 s: Connection refused (os error 111)
        commands of all                                 hottest slots
                           calls/s   exec    p50    p99   slot    keys     cpu
        get                   255k  3.0µs  1.8µs  7.9µs  12182       7    1.2%
                                                         12182       7    1.2%
                                                         12182       7    1.2%
                                                         12182       7    1.2%
                                                         12182       7    1.2%
         q quit  ? help  ←→ sort  r reverse  t rows  ↑↓ select  space pause
    "#]]
    .assert_eq(&shown(80, 24, &[]));
}

/// More room shows more: bytes, evictions, and each row's throughput over time.
#[test]
fn a_large_terminal_shows_more() {
    expect![[r#"
         trine top  6 nodes  1 of 6 down  255k ops/s  busy 51%  858MB  2.70M keys  250 connections  every 1 s
         111k  ops/s, maximum 111k in 12 s                                                                             ▁ ▁▂▄ ▄▆█
                                                                                                                     ▅▇█ ███ ███
                                                                                                                     ███▄███ ███
        55.5k                                                                                                        ███████▂███
                                                                                                                     ███████████
            0                                                                                                        ███████████
        server / node                  ops/s   exec    p99  busy  memory   keys  conns  hits   in/s  out/s  evict 0 to 151k/s
        s2 (2 cores)                    111k  3.0µs  7.9µs   68%   381MB  1.20M    100  100%     0B     0B      0    ▅▅▆▄▆▆▆▃▆▆▆
          1 10.0.0.2:7002              58.0k  3.0µs  7.9µs   95%   191MB   600k     50  100%     0B     0B      0    ▃▃▃▂▃▃▃▂▃▃▄
          0 10.0.0.2:7001              53.0k  3.0µs  7.9µs   40%   191MB   600k     50  100%     0B     0B      0    ▃▃▃▂▃▃▃▂▃▃▃
        s3 (1 of 2 down)               73.0k  3.0µs  7.9µs   40%   286MB   900k     50  100%     0B     0B      0    ▇▇█▆███▅███
          0 10.0.0.3:7001              73.0k  3.0µs  7.9µs   40%   286MB   900k     50  100%     0B     0B      0    ▄▄▄▃▄▄▄▃▄▄▄
          1 10.0.0.3:7002            down for 2 s: Connection refused (os error 111)
        s1 (2 cores)                   71.0k  3.0µs  7.9µs   40%   191MB   600k    100  100%     0B     0B      0    ▃▃▃▂▃▄▄▁▄▄▄
          1 10.0.0.1:7002              38.0k  3.0µs  7.9µs   40%  95.4MB   300k     50  100%     0B     0B      0    ▂▂▂▁▂▂▂▁▂▂▃
          0 10.0.0.1:7001              33.0k  3.0µs  7.9µs   40%  95.4MB   300k     50  100%     0B     0B      0    ▂▂▂▁▂▂▂ ▂▂▂
        commands of s2 (2 cores)                                                hottest slots
                           calls/s   exec    p50    p99                           slot    keys     cpu
        get                   111k  3.0µs  1.8µs  7.9µs                          12182       7    1.2%
                                                                                 12182       7    1.2%
                                                                                  5474       7   0.55%
                                                                                  5474       7   0.55%
















         q quit  ? help  ←→ sort  r reverse  t rows  ↑↓ select  space pause
    "#]].assert_eq(&shown(120, 40, &[Key::Char('o'), Key::Down]));
}

/// The keys, over what is below.
#[test]
fn help_lies_over_the_rows() {
    expect![[r#"
         trine top  6 nodes  1 of 6 down  255k ops/s  busy 51%  858MB  2.70M keys
         333k  ops/s, maximum 333k in 11 s                                     ▂ ▂▃▅ ▅▆█
                                                                             ▇██ ███ ███
                                                                             ███████ ███
                    ┌ keys ────────────────────────────────────────────────┐ ███████▇███
            0       │ o l 9 b   sort by ops/s, exec, p99, busy             │ ███████████
        server / nod│ m k c i   sort by memory, keys, connections, hits    │ conns  hits
        s1 (2 cores)│ n         the order of the slots                     │   100  100%
          0 10.0.0.1│ ← →       sort by the next column                    │    50  100%
          1 10.0.0.1│ r         turn the order round                       │    50  100%
        s2 (2 cores)│ t         servers and cores, servers, cores          │   100  100%
          0 10.0.0.2│ ↑ ↓ Esc   look at one row closer; at all             │    50  100%
          1 10.0.0.2│ space, p  stand still, and go on                     │    50  100%
        s3 (1 of 2 d│ ?, h      this help                                  │    50  100%
          0 10.0.0.3│ q, Ctrl-C quit                                       │    50  100%
          1 10.0.0.3│                                                      │111)
        commands of │ exec: time in a command, mean of the last interval   │
                    │ p50, p99: of that interval, from coarse buckets      │pu
        get         │ busy: time a core worked; redis-server's CPU time    │2%
                    └──────────────────────────────────────────────────────┘2%
                                                         12182       7    1.2%
                                                         12182       7    1.2%
                                                         12182       7    1.2%
         q quit  ? help  ←→ sort  r reverse  t rows  ↑↓ select  space pause
    "#]]
    .assert_eq(&shown(80, 24, &[Key::Char('?')]));
}

/// There is no panic at any size of a terminal, not even at one in which nothing can be read.
#[test]
fn any_size_is_drawn() {
    for (width, height) in (1..140).step_by(23).flat_map(|width| (1..50).step_by(6).map(move |height| (width, height)))
    {
        shown(width, height, &[Key::Up, Key::Char('?')]);
    }
}

/// Colours and letters of a terminal as a picture, in which nothing is markup that was text.
#[test]
fn a_picture_shows_what_the_terminal_shows() {
    let cluster = Cluster::new(&["<&>:1".into()]);
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let (mut screen, now) = (Screen::default(), Duration::ZERO);
    terminal.draw(|frame| draw(frame, &mut screen, &cluster, now, Duration::from_secs(1))).unwrap();
    let svg = super::super::picture::svg(terminal.backend().buffer());
    assert!(svg.contains("&lt;&amp;&gt;:1") && !svg.contains("<&>"), "{svg}");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
}
