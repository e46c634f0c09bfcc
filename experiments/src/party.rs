//! Several load hosts that measure one target together: which part of a point each takes, and that all begin at once.
//!
//! They meet at the target itself: each adds one to a counter there, and begins when all have. So they need no way to
//! each other, and no clock in common.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt as _;
use std::str::FromStr;
use std::time::{Duration, Instant};

use trine_client::blocking::Client;
use trine_client::reply::Value;
use trine_client::{Error, Options};

use crate::point::Point;
use crate::process::Interrupt;

/// The number of this load host among all of them, such as `2/3`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Member {
    /// From 1.
    pub number: u32,
    pub of: u32,
}

/// More would not find the counter in time.
const MEMBERS_MAX: u32 = 1000;

impl FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((number, of)) if 1 <= number && number <= of && of <= MEMBERS_MAX => Ok(Self { number, of }),
            _ => Err("write NUMBER/COUNT, as in 2/3 for the second of three load hosts".to_owned()),
        }
    }
}

impl Member {
    /// Returns what this member does of a point: its share of the connections, and of the rate in the same proportion.
    /// `None` where there are fewer connections than members, and none is left for this one.
    pub fn part(self, point: &Point) -> Option<Point> {
        let concurrency = point.concurrency / self.of + u32::from(self.number <= point.concurrency % self.of);
        let share = f64::from(concurrency) / f64::from(point.concurrency);
        let rate = point.rate.map(|rate| rate * share);
        (0 < concurrency).then(|| Point { concurrency, rate, ..point.clone() })
    }

    /// Returns true if it writes the keys that all of them use.
    pub fn writes_keys(self) -> bool {
        self.number == 1
    }

    /// Returns the seed of its draws: another one than any other member's and any other repeat's.
    pub fn seed(self, seed: u64) -> u64 {
        seed.wrapping_add(u64::from(self.number - 1) << 32)
    }
}

/// A place at the target where the members meet before each measurement.
pub struct Meeting {
    member: Member,
    /// Tells this measuring from every other, also from an earlier one that was interrupted.
    name: String,
    client: Client,
}

/// The number that a member adds if it can't take part, so that the others do not wait.
const ABANDONED: i64 = 1 << 32;
/// The time between two reads of the counter: members begin within so much of each other.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Counters go away by themselves.
const KEPT_S: &str = "86400";

impl Meeting {
    /// Connects to the target. The password is the load generator's, from TRINE_PASSWORD.
    pub fn connect(member: Member, name: String, address: &str) -> Result<Self, MeetingError> {
        let password =
            std::env::var_os("TRINE_PASSWORD").map(OsString::into_vec).filter(|password| !password.is_empty());
        let client = Client::connect_with(address, Options { password, ..Options::default() });
        Ok(Self { member, name, client: client.map_err(MeetingError::Target)? })
    }

    fn key(&self, what: &str) -> String {
        format!("trine-lab:meeting:{}:{what}", self.name)
    }

    /// Says that this member is ready for `what`, and waits until all are, for at most `patience`.
    pub fn arrive(&mut self, what: &str, patience: Duration, interrupt: &Interrupt) -> Result<(), MeetingError> {
        let key = self.key(what);
        let mut here = self.add(&key, 1)?;
        let began = Instant::now();
        while here < i64::from(self.member.of) {
            if interrupt.is_set() {
                self.add(&key, ABANDONED)?;
                return Err(MeetingError::Interrupted);
            }
            if patience < began.elapsed() {
                return Err(MeetingError::Alone { here, of: self.member.of, patience });
            }
            std::thread::sleep(LOOK_EVERY);
            here = self.count(&key)?;
        }
        if ABANDONED <= here { Err(MeetingError::Abandoned) } else { Ok(()) }
    }

    /// Says that this member will not come, and the others need not wait.
    pub fn abandon(&mut self, what: &str) -> Result<(), MeetingError> {
        let key = self.key(what);
        self.add(&key, ABANDONED).map(drop)
    }

    fn add(&mut self, key: &str, count: i64) -> Result<i64, MeetingError> {
        let added = self.client.command(&["INCRBY", key, &count.to_string()]).map_err(MeetingError::Target)?;
        self.client.command(&["EXPIRE", key, KEPT_S]).map_err(MeetingError::Target)?;
        match added {
            Value::Integer(here) => Ok(here),
            _ => Err(MeetingError::NoCounter),
        }
    }

    fn count(&mut self, key: &str) -> Result<i64, MeetingError> {
        let bytes = self.client.get(key).map_err(MeetingError::Target)?.unwrap_or_default();
        String::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).ok_or(MeetingError::NoCounter)
    }
}

/// Why the members do not measure together.
#[derive(Debug)]
pub enum MeetingError {
    /// The target could not be asked.
    Target(Error),
    /// The counter's key has another value, or was deleted.
    NoCounter,
    /// Some did not come. Are they all running, with the same `--meeting`?
    Alone {
        here: i64,
        of: u32,
        patience: Duration,
    },
    /// One has said that it can't.
    Abandoned,
    Interrupted,
}

impl std::error::Error for MeetingError {}

impl fmt::Display for MeetingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(error) => write!(formatter, "the load hosts meet at the target, which failed: {error}"),
            Self::NoCounter => {
                formatter.write_str("the load hosts' counter at the target is gone: is somebody flushing it?")
            }
            Self::Alone { here, of, patience } => write!(
                formatter,
                "only {here} of {of} load hosts came within {} s: start all with the same --meeting and file",
                patience.as_secs()
            ),
            Self::Abandoned => formatter.write_str("another load host could not take part; its own results say why"),
            Self::Interrupted => formatter.write_str("interrupted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::prelude::*;

    /// `2/3` is the second of three; what is no member is told how to write one.
    #[test]
    fn members_are_numbered_from_one() {
        assert_eq!("2/3".parse(), Ok(Member { number: 2, of: 3 }));
        for wrong in ["", "2", "0/3", "4/3", "1/0", "a/b", "1/2/3", "1/1001"] {
            assert!(wrong.parse::<Member>().unwrap_err().contains("2/3"), "{wrong}");
        }
    }

    proptest! {
        /// All parts together are the point: no connection and no request is lost or made twice, and parts differ by one
        /// connection at most.
        #[test]
        fn parts_add_up(concurrency in 1..5000u32, of in 1..20u32, rate in proptest::option::of(1.0..1e6f64)) {
            let point = Point { rate, ..sample::point(concurrency, 0.5) };
            let parts: Vec<Point> = (1..=of).filter_map(|number| Member { number, of }.part(&point)).collect();
            prop_assert_eq!(parts.iter().map(|part| part.concurrency).sum::<u32>(), concurrency);
            prop_assert_eq!(parts.len(), of.min(concurrency) as usize);
            let each = |part: &Point| part.concurrency;
            prop_assert!(parts.iter().map(each).max().unwrap() <= parts.iter().map(each).min().unwrap() + 1);
            if let Some(rate) = rate {
                let sum: f64 = parts.iter().filter_map(|part| part.rate).sum();
                prop_assert!((sum / rate - 1.0).abs() < 1e-9, "{sum} instead of {rate}");
            }
        }
    }

    /// Members and repeats draw from seeds of their own.
    #[test]
    fn seeds_differ() {
        let mut seeds: Vec<u64> =
            (1..=9).flat_map(|number| (0..9).map(move |repeat| Member { number, of: 9 }.seed(1 + repeat))).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 81);
    }
}
