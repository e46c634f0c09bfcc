//! Servers that are killed, over and over, and come back.

use super::ledger::{Door, HABITS, Habits, Ledger};
use crate::{
    harness::{Server, random},
    wire::Wire,
};
use rustix::process::Signal;
use std::{collections::BTreeSet, fs, path::Path, sync::atomic::AtomicBool, thread, time::Duration};

/// The number of times that a server is killed, in each of two directories: one with values in memory, one with values on disk.
/// `LAB_KILLS` asks for more.
const KILLS: usize = 110;

/// Counts of what happened to the servers of a directory; a test that got nowhere passes all checks.
#[derive(Debug, Default)]
struct Story {
    /// Lives that ended while clients wrote, while a snapshot was asked for besides, and while files were read.
    under_load: usize,
    saving: usize,
    starting: usize,
    acknowledged: u64,
    /// Starts that found a write which had not come to its end.
    cuts: usize,
    /// Snapshots and segments that were there at the end of a life.
    snapshots: BTreeSet<String>,
    segments: BTreeSet<String>,
    hints: BTreeSet<String>,
    /// The most values that were on disk alone.
    away: u64,
}

/// A server with `always` is killed at random instants, under load, while it takes a snapshot, while it starts. Whatever was
/// acknowledged to its writer or shown to anybody is there afterwards.
#[test]
fn what_was_acknowledged_survives_kills() {
    let mut random = random();
    let kills = std::env::var("LAB_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let runs = [(Values::InMemory, random.u64(..)), (Values::OnDisk, random.u64(..))];
    let stories = thread::scope(|scope| {
        let run = |(values, seed)| {
            let story = scope.spawn(move || kill_over_and_over(kills, values, fastrand::Rng::with_seed(seed)));
            (values, story)
        };
        runs.map(run).map(|(values, story)| (values, story.join().unwrap()))
    });
    for (values, story) in stories {
        let Story { under_load, saving, starting, acknowledged, cuts, snapshots, segments, hints, away } = story;
        eprintln!(
            "{values:?}: {under_load} killed under load, {saving} saving, {starting} starting; {acknowledged} writes acknowledged, {cuts} \
             cuts, {} snapshots, {} segments, {} hints, {away} values away",
            snapshots.len(),
            segments.len(),
            hints.len()
        );
        assert_eq!(under_load + saving + starting, kills);
        assert!(10_000 < acknowledged, "{acknowledged} writes");
        assert!(10 < snapshots.len() && 40 < segments.len(), "{snapshots:?} {segments:?}");
        assert_eq!(10 < away, values == Values::OnDisk, "{away} values");
        assert_eq!(10 < hints.len(), values == Values::OnDisk, "{hints:?}");
    }
}

/// The place of values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Values {
    InMemory,
    OnDisk,
}

impl Values {
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::InMemory => &["--values", "memory"],
            // Not much more than what two empty cores take: most values are away.
            Self::OnDisk => &["--values", "disk", "--max-memory", MEMORY],
        }
    }

    fn habits(self) -> Habits {
        match self {
            Self::InMemory => HABITS,
            // Above a mebibyte they would stay in memory.
            Self::OnDisk => Habits { large_in: 0, ..HABITS },
        }
    }
}

const MEMORY: &str = "1800000";

fn kill_over_and_over(kills: usize, values: Values, mut random: fastrand::Rng) -> Story {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    let settings = ["--dir", directory, "--durability", "always", "--log-segment-bytes", "4mb"];
    let settings = [&settings[..], &["--snapshot-log-bytes", "8mb"], values.settings()].concat();
    let mut story = Story::default();
    let mut ledgers = Vec::new();
    for life in 0..kills {
        if life % 10 == 9 {
            let server = Server::launch(2, &settings);
            thread::sleep(Duration::from_micros(random.u64(..60_000)));
            server.process.signal(Signal::KILL);
            story.starting += 1;
            continue;
        }
        let server = Server::start(2, &settings);
        story.cuts += server.process.said().matches("was cut").count();
        if life == 0 {
            ledgers = open_ledgers(&server, &values.habits(), &mut random);
        }
        ledgers.iter_mut().for_each(|ledger| ledger.check(&server));
        story.away = story.away.max(values_away(&server));
        let is_saving = life % 10 == 4;
        live(&server, &mut ledgers, is_saving, &mut random);
        *(if is_saving { &mut story.saving } else { &mut story.under_load }) += 1;
        for shard in ["shard-0", "shard-1"] {
            note_files(&folder.path().join(shard), &mut story);
        }
    }
    let server = Server::start(2, &settings);
    ledgers.iter_mut().for_each(|ledger| ledger.check(&server));
    story.acknowledged = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
    story
}

fn values_away(server: &Server) -> u64 {
    let info = Wire::connect(server.port).ask("INFO persistence");
    let away = info.lines().find_map(|line| line.strip_prefix("trine_values_away:"));
    away.map_or(0, |away| away.trim().parse().expect("a number"))
}

fn open_ledgers(server: &Server, habits: &Habits, random: &mut fastrand::Rng) -> Vec<Ledger> {
    let single = Habits { pipeline: 1..2, large_in: 0, ..habits.clone() };
    let writers = [
        ("a", Door::Gateway, habits.clone()),
        ("b", Door::Gateway, single.clone()),
        ("c", Door::Core(0), habits.clone()),
        ("d", Door::Core(1), habits.clone()),
        ("e", Door::Core(1), single),
    ];
    writers.map(|(name, door, habits)| Ledger::new(name, 60, door, server, habits, random.u64(..))).into()
}

/// Has the writers write, and strangers read, until the server is killed after a while.
fn live(server: &Server, ledgers: &mut [Ledger], is_saving: bool, random: &mut fastrand::Rng) {
    let stop = &AtomicBool::new(false);
    // The instant is what is random here; nothing is waited for.
    let life = Duration::from_millis(random.u64(100..400));
    let before_kill = Duration::from_micros(random.u64(..30_000));
    let watchers: Vec<_> = ledgers.iter().map(|ledger| (ledger.door.port(server), ledger.watcher())).collect();
    thread::scope(|scope| {
        for (port, watcher) in &watchers {
            let random = random.fork();
            // All of these end with their connection, when the server is killed.
            scope.spawn(move || drop(watcher.watch(*port, stop, random)));
        }
        for ledger in ledgers {
            let port = ledger.door.port(server);
            scope.spawn(move || drop(ledger.write(port, stop)));
        }
        thread::sleep(life);
        if is_saving {
            let answer = Wire::connect(server.port).ask("BGSAVE");
            assert!(answer == "+Background saving started" || answer.contains("in progress"), "{answer}");
            thread::sleep(before_kill);
        }
        server.process.signal(Signal::KILL);
    });
}

fn note_files(shard: &Path, story: &mut Story) {
    for entry in fs::read_dir(shard).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = format!("{} {name}", shard.display());
        match name.split('-').next() {
            Some("snapshot") if !name.ends_with(".tmp") => story.snapshots.insert(path),
            Some("log") if !name.ends_with(".tmp") => story.segments.insert(path),
            Some("hint") if !name.ends_with(".tmp") => story.hints.insert(path),
            _ => false,
        };
    }
}
