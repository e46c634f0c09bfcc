//! Delays of wrong passwords, by the address that they came from.
//!
//! Each wrong one makes the next wait longer; the session waits, and nobody else. A right one is taken all the same, after the wait:
//! an address may be that of many clients, and one of them must not lock the others out.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The wait after the first wrong password, in microseconds; it doubles with each further one. Who mistypes does not notice.
const FIRST_US: u64 = 10_000;
/// The delay at which doubling ends: one that a client may reasonably wait for when it connects. An attacker with one
/// connection gets one guess a second.
const DOUBLED_US_MAX: u64 = 1_000_000;
/// From 100 wrong passwords on the wait is this long for each, so that guesses by many connections are slow too: each waits by itself, and so makes one guess in that time.
const EACH_US: u64 = 10_000;
/// The longest wait.
const US_MAX: u64 = 10_000_000;
/// The time in which half of the wrong passwords are forgotten.
const HALF_LIFE_US: u64 = 60_000_000;
/// Addresses that are remembered, some 100 KiB of them. Where there are more, the one with the fewest wrong passwords is forgotten.
const ADDRESSES_MAX: usize = 1024;

/// Wrong passwords by address. Each core counts its own.
#[derive(Clone, Debug, Default)]
pub struct Brake {
    addresses: BTreeMap<IpAddr, Failures>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    /// The time at which they were halved last, or the first was counted.
    since_us: u64,
}

impl Failures {
    /// Returns how many are remembered.
    fn left(self, now_us: u64) -> u32 {
        let halvings = now_us.saturating_sub(self.since_us) / HALF_LIFE_US;
        self.count.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0)
    }
}

impl Brake {
    /// Returns true if no address has sent a wrong password lately.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Returns how many microseconds a password waits that comes from this address (`host:port`) now.
    pub fn delay_us(&self, address: &str, now_us: u64) -> u64 {
        let count = self.addresses.get(&source(address)).map_or(0, |failures| failures.left(now_us));
        match count {
            0 => 0,
            count => {
                let doubled = FIRST_US << (count - 1).min(16);
                doubled.min(DOUBLED_US_MAX).max(u64::from(count) * EACH_US).min(US_MAX)
            }
        }
    }

    /// Notes that a wrong password came from this address (`host:port`).
    pub fn note_failure(&mut self, address: &str, now_us: u64) {
        let source = source(address);
        if !self.addresses.contains_key(&source) && ADDRESSES_MAX <= self.addresses.len() {
            self.make_room(now_us);
        }
        let failures = self.addresses.entry(source).or_insert(Failures { count: 0, since_us: now_us });
        let left = failures.left(now_us);
        if left != failures.count {
            *failures = Failures { count: left, since_us: now_us };
        }
        failures.count = failures.count.saturating_add(1);
    }

    /// Forgets those whose wrong passwords are forgotten, or else the one with the fewest.
    fn make_room(&mut self, now_us: u64) {
        self.addresses.retain(|_, failures| failures.left(now_us) != 0);
        let fewest = self.addresses.iter().min_by_key(|(_, failures)| (failures.left(now_us), failures.since_us));
        let fewest = fewest.map(|(&address, _)| address).filter(|_| ADDRESSES_MAX <= self.addresses.len());
        fewest.map(|address| self.addresses.remove(&address));
    }
}

/// Returns what stands for all addresses that one client can easily have: those of a loopback network, or of an IPv6 network of 64
/// bits.
fn source(address: &str) -> IpAddr {
    let Ok(address) = address.parse::<SocketAddr>() else { return Ipv4Addr::UNSPECIFIED.into() };
    match address.ip().to_canonical() {
        address if address.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    /// Each wrong password makes the next wait longer, up to a limit; those of another address don't.
    #[test]
    fn the_delay_grows_with_wrong_passwords() {
        let mut brake = Brake::default();
        assert!(brake.is_empty());
        let mut delays = Vec::new();
        for _ in 0..10 {
            delays.push(brake.delay_us("10.0.0.1:50000", 0) / 1000);
            brake.note_failure("10.0.0.1:50001", 0);
        }
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(brake.delay_us("10.0.0.2:50000", 0), 0);
        (0..290).for_each(|_| brake.note_failure("10.0.0.1:1", 0));
        assert_eq!(brake.delay_us("10.0.0.1:1", 0), 3 * SECOND);
        (0..100_000).for_each(|_| brake.note_failure("10.0.0.1:1", 0));
        assert_eq!(brake.delay_us("10.0.0.1:1", 0), 10 * SECOND);
        assert!(!brake.is_empty());
    }

    /// Half of them are forgotten each minute, though more may come meanwhile.
    #[test]
    fn wrong_passwords_are_forgotten() {
        let mut brake = Brake::default();
        (0..8).for_each(|_| brake.note_failure("[::1]:1", 0));
        let delays: Vec<_> = (0..5).map(|minute| brake.delay_us("127.0.0.9:1", minute * 60 * SECOND) / 1000).collect();
        assert_eq!(delays, [1000, 80, 20, 10, 0]);
        brake.note_failure("127.0.0.1:1", 60 * SECOND);
        assert_eq!(brake.delay_us("127.0.0.1:1", 60 * SECOND) / 1000, 160, "four and one");
        assert_eq!(brake.delay_us("127.0.0.1:1", 119 * SECOND) / 1000, 160);
        assert_eq!(brake.delay_us("127.0.0.1:1", u64::MAX), 0);
    }

    /// Addresses that one client can have many of count as one.
    #[test]
    fn an_address_stands_for_those_that_a_client_can_have() {
        let same = [
            ["127.0.0.1:1", "127.9.9.9:2"],
            ["127.0.0.1:1", "[::1]:2"],
            ["[2001:db8::1]:1", "[2001:db8::ffff:2]:2"],
            ["10.0.0.1:1", "[::ffff:10.0.0.1]:1"],
            ["?:0", ""],
        ];
        for [one, other] in same {
            assert_eq!(source(one), source(other));
        }
        for [one, other] in [["10.0.0.1:1", "10.0.0.2:1"], ["[2001:db8::1]:1", "[2001:db8:0:1::1]:1"]] {
            assert_ne!(source(one), source(other));
        }
    }

    /// So many addresses are remembered and no more; the one that guesses most is the last to be forgotten.
    #[test]
    fn the_table_is_bounded() {
        let mut brake = Brake::default();
        (0..3).for_each(|_| brake.note_failure("9.9.9.9:1", 0));
        for number in 0..5000_u32 {
            brake.note_failure(&SocketAddr::new(Ipv4Addr::from_bits(0x0a00_0000 + number).into(), 1).to_string(), 1);
            assert!(brake.addresses.len() <= ADDRESSES_MAX);
        }
        assert_eq!(brake.delay_us("9.9.9.9:2", 1), 40_000);
        brake.note_failure("8.8.8.8:1", 600 * SECOND);
        assert_eq!(brake.addresses.len(), 1, "all others are forgotten by then");
    }
}
