//! Logs are written, torn, recovered and continued: what was acknowledged is always there.

mod refused;
mod rot;

use super::*;
use crate::{
    time::UnixMillis,
    wal::disk::{Disk, InFlight, Keys, Writer, apply},
};

/// The effect of a command, as owned bytes.
#[derive(Clone, Debug)]
enum Change {
    Put(Vec<u8>, Vec<u8>, Option<UnixMillis>),
    Expire(Vec<u8>, Option<UnixMillis>),
    Remove(Vec<u8>),
    Clear,
}

impl Change {
    fn random(random: &mut fastrand::Rng, large: bool) -> Self {
        let key = format!("key-{}", random.u8(..30)).into_bytes();
        let expires_at = random.bool().then(|| UnixMillis(random.u64(1..1_000_000)));
        match random.u8(..20) {
            0 => Self::Clear,
            1..=3 => Self::Remove(key),
            4..=6 => Self::Expire(key, expires_at),
            7 if large => Self::Put(key, vec![random.u8(..); random.usize(900_000..3_500_000)], expires_at),
            8 => Self::Put(key, vec![random.u8(..); random.usize(..20_000)], expires_at),
            _ => Self::Put(key, vec![random.u8(..); random.usize(..100)], expires_at),
        }
    }

    fn record(&self) -> Record<'_> {
        match self {
            Self::Put(key, value, expires_at) => Record::Put { key, value, expires_at: *expires_at },
            Self::Expire(key, expires_at) => Record::Expire { key, expires_at: *expires_at },
            Self::Remove(key) => Record::Remove { key },
            Self::Clear => Record::Clear,
        }
    }
}

/// A server with its disk, and the keys that it has acknowledged.
struct Server {
    random: fastrand::Rng,
    disk: Disk,
    writer: Writer,
    has_large: bool,
    /// The keys in memory, and those on disk.
    memory: Keys,
    acknowledged: Keys,
    /// Commands that are not on disk, with their ends.
    waiting: Vec<(Lsn, Vec<Change>)>,
}

impl Server {
    fn start(mut disk: Disk, seed: u64, has_large: bool) -> Self {
        let (keys, report) = disk.recover(false).unwrap_or_else(|damage| panic!("seed {seed}: {damage}"));
        let writer = Writer::start(&mut disk, &report, seed);
        let random = fastrand::Rng::with_seed(seed);
        Self { random, writer, disk, has_large, memory: keys.clone(), acknowledged: keys, waiting: Vec::new() }
    }

    fn command(&mut self) {
        let count = if self.random.u8(..4) == 0 { self.random.usize(2..5) } else { 1 };
        let changes: Vec<_> = (0..count).map(|_| Change::random(&mut self.random, self.has_large)).collect();
        for change in &changes {
            match change.record() {
                Record::Clear => self.writer.log.append_clear(Record::Clear),
                record => self.writer.log.append(0, record),
            }
            apply(&mut self.memory, change.record());
        }
        self.writer.log.end_command();
        self.waiting.push((self.writer.log.end(), changes));
    }

    fn write(&mut self) -> bool {
        let has_written = self.writer.write(&mut self.disk);
        self.acknowledged = self.as_of(self.writer.log.persisted_end());
        self.waiting.retain(|(end, _)| self.writer.log.persisted_end() < *end);
        has_written
    }

    /// Returns the keys that recovery finds if the log is on disk up to `end`.
    fn as_of(&self, end: Lsn) -> Keys {
        let mut keys = self.acknowledged.clone();
        let changes = self.waiting.iter().take_while(|(command, _)| *command <= end).flat_map(|(_, changes)| changes);
        changes.for_each(|change| apply(&mut keys, change.record()));
        keys
    }

    /// Writes a snapshot while commands are executed, and releases the segments that it makes superfluous.
    fn snapshot(&mut self) {
        let since = self.writer.log.end();
        let is_early = |key: &[u8]| key.len().is_multiple_of(2);
        let mut seen: Keys = self.memory.clone().into_iter().filter(|(key, _)| is_early(key)).collect();
        (0..self.random.usize(..4)).for_each(|_| self.command());
        seen.extend(self.memory.clone().into_iter().filter(|(key, _)| !is_early(key)));
        let walked_at = self.writer.log.end();
        while self.write() {}
        self.disk.write_snapshot(FileId(self.random.u64(..)), &seen, since, walked_at);
        self.writer.release_before(&mut self.disk, since);
    }

    fn seal(&mut self) {
        while self.write() {}
        self.writer.seal(&mut self.disk);
    }

    fn live(&mut self, turns: usize) {
        for _ in 0..turns {
            (0..self.random.usize(1..4)).for_each(|_| self.command());
            match self.random.u8(..30) {
                0 => self.snapshot(),
                1..=3 => self.seal(),
                4..=12 => {}
                13..=20 => while self.write() {},
                _ => drop(self.write()),
            }
        }
    }

    /// Ends the server in the middle of a write, if there is one, with some of its blocks on disk. Returns that write.
    fn crash(&mut self) -> (Option<InFlight>, Keys) {
        let in_flight = self.writer.take(&mut self.disk);
        // Whole commands that end in the write.
        let handed_over = Lsn(self.writer.log.end().0 - self.writer.log.pending_bytes() as u64);
        let with_last = self.as_of(handed_over);
        if let Some(in_flight) = &in_flight {
            let random = &mut self.random;
            match random.u8(..4) {
                0 => in_flight.land(&mut self.disk, || true),
                1 => in_flight.land(&mut self.disk, || false),
                _ => in_flight.land(&mut self.disk, || random.bool()),
            }
        }
        (in_flight, with_last)
    }
}

/// Starts and crashes a server several times: each start finds what was acknowledged, or that and the whole last write.
fn check_lives(seed: u64, has_large: bool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut disk = Disk::default();
    let mut allowed = [Keys::new(), Keys::new()];
    let mut late: Option<InFlight> = None;
    for life in 0..random.usize(2..7) {
        let mut server = Server::start(disk, random.u64(..), has_large);
        let is_as_allowed = allowed.contains(&server.acknowledged);
        assert!(is_as_allowed, "seed {seed}, life {life}: neither what was acknowledged nor that and the last write");
        // The last life's write may still have been in flight when this one began.
        if let Some(late) = late.take() {
            server.command();
            server.write();
            late.land(&mut server.disk, || random.bool());
        }
        let turns = if random.u8(..4) == 0 { 0 } else { random.usize(..30) };
        server.live(turns);
        let (in_flight, with_last) = server.crash();
        late = in_flight.filter(|_| random.u8(..8) == 0);
        allowed = [server.acknowledged, with_last];
        disk = server.disk;
    }
}

#[test]
fn what_was_acknowledged_survives_every_crash() {
    (0..400).for_each(|seed| check_lives(seed, false));
}

/// Acknowledged keys survive also if commands are larger than frames and a crash comes between two frames of one.
#[test]
fn large_commands_survive_whole_or_not_at_all() {
    (0..60).for_each(|seed| check_lives(seed, true));
}

/// Whole segments may be left of a command that was cut off, and their positions are used again. They don't count: no segment
/// begins behind the beginning of the next one, or behind the log's end.
#[test]
fn segments_of_what_was_cut_off_do_not_count() {
    let mut disk = Disk::default();
    let mut large = vec![0; 5 << 20];
    for life in 0..4 {
        let (keys, report) = disk.recover(false).unwrap();
        assert_eq!(keys.len(), life);
        let firsts: Vec<_> = report.segments.iter().filter_map(|&(_, first)| first).collect();
        assert!(firsts.is_sorted() && firsts.iter().all(|&first| first <= report.end), "{report:?}");
        let void = report.segments.iter().filter(|(_, first)| first.is_none()).count();
        assert!(life == 0 || 2 <= void, "{report:?}");
        let mut writer = Writer::start(&mut disk, &report, life as u64);
        writer.log.append(0, Record::Put { key: &[life as u8], value: b"whole", expires_at: None });
        writer.log.end_command();
        while writer.write(&mut disk) {}
        // A large command follows and is cut off, so that its positions overlap with those of the next life.
        large.truncate(large.len() - (1 << 19));
        writer.log.append(0, Record::Put { key: b"large", value: &large, expires_at: None });
        writer.log.end_command();
        (0..3).for_each(|_| assert!(writer.write(&mut disk), "a frame of several"));
    }
}
