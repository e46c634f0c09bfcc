//! Processes that use this machine's CPUs, as /proc shows them.

use std::{collections::BTreeMap, fs, path::Path, process, time::Instant};

/// The unit of /proc/PID/stat: USER_HZ, which Linux fixes at 100 for all programs (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;
/// A word of a command line is shown up to this length: a longer one is an argument, not a subcommand.
const WORD_BYTES_MAX: usize = 24;

/// The CPU time that every thread had used at one instant.
#[derive(Debug)]
pub struct Snapshot {
    at: Instant,
    /// By process and thread: ticks, and the CPU that it ran on last.
    threads: BTreeMap<(u32, u32), Used>,
}

/// The ticks that a thread had used, and the CPU that it ran on last.
type Used = (u64, usize);

/// A process that used a CPU between two snapshots.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// Its number.
    pub pid: u32,
    /// Its program, with the subcommand.
    pub name: String,
    /// The CPUs that its threads ran on last, ascending.
    pub cpus: Vec<usize>,
    /// CPU time over time: 1 is a whole CPU.
    pub share: f64,
}

impl Snapshot {
    /// Reads all threads that can be seen. Those of this process are left out.
    pub fn take() -> Self {
        let at = Instant::now();
        let mut threads = BTreeMap::new();
        for (pid, path) in numbered("/proc").filter(|(pid, _)| *pid != process::id()) {
            for (tid, path) in numbered(path.join("task")) {
                let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
                threads.extend(parse(&stat).map(|used| ((pid, tid), used)));
            }
        }
        Self { at, threads }
    }

    /// Returns the processes that used CPUs since an earlier snapshot, the busiest first. With `only` a CPU, no more than what
    /// threads used that ran there last.
    pub fn since(&self, earlier: &Self, only: Option<usize>) -> Vec<User> {
        let seconds = self.at.duration_since(earlier.at).as_secs_f64();
        let mut used: BTreeMap<u32, (u64, Vec<usize>)> = BTreeMap::new();
        for (id, &(ticks, cpu)) in &self.threads {
            let ticks = ticks.saturating_sub(earlier.threads.get(id).map_or(0, |(ticks, _)| *ticks));
            if 0 < ticks && only.is_none_or(|only| only == cpu) {
                let (sum, cpus) = used.entry(id.0).or_default();
                *sum += ticks;
                cpus.push(cpu);
            }
        }
        let mut users: Vec<User> = Vec::new();
        for (pid, (ticks, mut cpus)) in used {
            cpus.sort_unstable();
            cpus.dedup();
            let name = Some(name(pid)).filter(|name| !name.is_empty()).unwrap_or_else(|| "it has ended".into());
            users.push(User { pid, name, cpus, share: ticks as f64 / TICKS_PER_SECOND / seconds.max(1e-3) });
        }
        users.sort_by(|a, b| b.share.total_cmp(&a.share));
        users
    }
}

/// Returns a process's program, with its subcommand: `trine serve`. A kernel's thread has a name alone; a process that has
/// ended has none.
pub fn name(pid: u32) -> String {
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    called(&command_line).unwrap_or_else(|| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim().into()
    })
}

/// Returns the program and subcommand of a command line, whose words end with a zero each. Other words are nobody's business:
/// passwords are among them.
fn called(command_line: &[u8]) -> Option<String> {
    let mut words = command_line.split(|&byte| byte == 0).map(String::from_utf8_lossy);
    let program = words.next().filter(|program| !program.is_empty())?;
    let program = program.split(' ').next().unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned();
    let is_plain = |word: &str| {
        word.len() <= WORD_BYTES_MAX
            && word.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
    };
    match words.next().filter(|word| is_plain(word)) {
        Some(word) => Some(format!("{program} {word}")),
        None => Some(program),
    }
}

/// Returns the entries of a folder that have numbers for names.
fn numbered(folder: impl AsRef<Path>) -> impl Iterator<Item = (u32, std::path::PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

/// Returns every process that can be seen, with its folder in /proc.
pub fn all() -> impl Iterator<Item = (u32, std::path::PathBuf)> {
    numbered("/proc")
}

/// Reads ticks and the last CPU of /proc/PID/task/TID/stat. The name stands in parentheses and may hold any character.
fn parse(stat: &str) -> Option<Used> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // proc(5) counts from 1; `rest` begins with the third, the state.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some((number(14)? + number(15)?, usize::try_from(number(39)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_of_a_thread_is_read() {
        let head = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 0 0 0 31 11 0 0 20 0 1 0 5 6 7";
        assert_eq!(parse(&format!("{head} 8 9 0 0 0 0 0 0 0 0 0 0 0 17 3 0 0")), Some((42, 3)));
        assert_eq!(parse("42 (short) S 7"), None);
    }

    /// A name has the program and the subcommand, and no argument: it may be a secret.
    #[test]
    fn names_have_no_arguments() {
        for (line, expected) in [
            (&b"/usr/bin/trine\0serve\0--requirepass\0secret\0"[..], Some("trine serve")),
            (b"redis-server *:6379\0", Some("redis-server")),
            (b"/bin/curl\0-u\0me:secret\0", Some("curl")),
            (b"mysql\0p@ssword\0", Some("mysql")),
            (b"", None),
        ] {
            assert_eq!(called(line).as_deref(), expected);
        }
    }

    /// Work between two snapshots is found with its process, its CPU and no more.
    #[test]
    fn work_shows_between_snapshots() {
        let now = Instant::now();
        let snapshot = |millis, threads: &[((u32, u32), Used)]| Snapshot {
            at: now + std::time::Duration::from_millis(millis),
            threads: threads.iter().copied().collect(),
        };
        let ended = u32::MAX;
        let before = snapshot(0, &[((ended, 1), (100, 0)), ((ended, 2), (5, 1)), ((ended - 1, 3), (9, 1))]);
        let after = snapshot(
            2000,
            &[((ended, 1), (160, 0)), ((ended, 2), (45, 1)), ((ended - 1, 3), (9, 1)), ((ended - 2, 4), (20, 1))],
        );
        let users: Vec<_> =
            after.since(&before, None).into_iter().map(|user| (user.pid, user.cpus, user.share)).collect();
        assert_eq!(users, [(ended, vec![0, 1], 0.5), (ended - 2, vec![1], 0.1)]);
        let users: Vec<_> = after.since(&before, Some(1)).into_iter().map(|user| (user.pid, user.share)).collect();
        assert_eq!(users, [(ended, 0.2), (ended - 2, 0.1)]);
        assert!(Snapshot::take().threads.keys().all(|(pid, _)| *pid != process::id()));
    }
}
