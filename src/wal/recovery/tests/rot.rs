//! Bit rot: changes of bytes on disk are noticed or have no effect.

use super::*;
use crate::wal::{
    disk::{DIRECTORY, File, SHARD},
    frame::{FRAME_HEADER_BYTES, FileHeader, VERSION},
};

/// A directory with a snapshot and several segments that ends with a seal, and its keys.
fn sealed(seed: u64, has_large: bool) -> (Disk, Keys) {
    let mut disk = Disk::default();
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..3 {
        let mut server = Server::start(disk, random.u64(..), has_large);
        server.live(random.usize(1..20));
        if random.bool() {
            server.snapshot();
        }
        server.crash();
        disk = server.disk;
    }
    let mut server = Server::start(disk, random.u64(..), has_large);
    server.snapshot();
    server.live(random.usize(2..40));
    server.seal();
    (server.disk, server.acknowledged)
}

/// Changes one bit of one file, every other time in the beginning of a block, where headers are.
fn flip(disk: &mut Disk, random: &mut fastrand::Rng) -> String {
    let file = random.usize(..disk.files.len());
    let bytes = &mut disk.files[file].bytes;
    let mut at = random.usize(..bytes.len());
    if random.bool() {
        at = at / BLOCK_BYTES * BLOCK_BYTES + at % 64;
    }
    let bit = random.u8(..8);
    bytes[at] ^= 1 << bit;
    format!("bit {bit} of byte {at} of {}", disk.infos()[file].name)
}

/// Checks that flips of bits are noticed or have no effect. Returns the number of those that were noticed.
fn check_flips(seed: u64, has_large: bool, flips: usize) -> usize {
    let (disk, keys) = sealed(seed, has_large);
    assert_eq!(disk.recover(false).map(|(keys, _)| keys), Ok(keys.clone()), "seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut noticed = 0;
    for _ in 0..flips {
        let mut disk = disk.clone();
        let what = flip(&mut disk, &mut random);
        match disk.recover(false) {
            Ok((found, _)) => assert!(found == keys, "seed {seed}: {what} went unnoticed"),
            Err(damage) => {
                noticed += 1;
                check_accepted(&disk, &keys, &damage, &format!("seed {seed}: {what}"));
            }
        }
    }
    noticed
}

/// Checks that damage is reported and does not stop a start that accepts loss, unless a newer version wrote the file.
fn check_accepted(disk: &Disk, keys: &Keys, damage: &Damage, what: &str) {
    match disk.recover(true) {
        Ok((found, report)) => {
            assert_eq!(report.lost.first().map(|lost| &lost.damage), Some(damage), "{what}");
            // Lost records are before those that are written next.
            assert!(
                report.lost.iter().all(|lost| lost.damage.file.starts_with("snap") || lost.to <= report.end),
                "{what}"
            );
            drop((found, keys));
        }
        Err(Damage { problem: Problem::Version(_), .. }) => {}
        Err(damage) => panic!("{what}: not accepted: {damage}"),
    }
}

/// A change of any bit of any file is noticed or has no effect.
#[test]
fn a_changed_bit_is_noticed_or_harmless() {
    let noticed: usize = (0..40).map(|seed| check_flips(seed, false, 250)).sum();
    assert!(2_000 < noticed, "{noticed} of 10,000");
}

#[test]
fn a_changed_bit_in_a_large_record_is_noticed_or_harmless() {
    let noticed: usize = (0..12).map(|seed| check_flips(seed, true, 25)).sum();
    assert!(60 < noticed, "{noticed} of 300");
}

/// Without a seal, a changed bit may cost the last write; in all other places it is noticed or has no effect.
#[test]
fn without_a_seal_only_the_last_write_is_at_risk() {
    let mut at_risk = 0;
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut server = Server::start(sealed(seed, false).0, seed, false);
        // The segment that is made ready after the first write says that that one was on disk.
        server.command();
        while server.write() {}
        let before = server.acknowledged.clone();
        server.command();
        server.write();
        for _ in 0..100 {
            let mut disk = server.disk.clone();
            let what = flip(&mut disk, &mut random);
            if let Ok((found, _)) = disk.recover(false) {
                assert!(found == server.acknowledged || found == before, "seed {seed}: {what}");
                at_risk += usize::from(found != server.acknowledged);
            }
        }
    }
    assert!(0 < at_risk && at_risk < 200, "{at_risk}");
}

/// Recovery from files with any contents ends with a result.
#[test]
fn garbage_is_read_to_an_end() {
    let mut answers = [0, 0];
    for seed in 0..1_500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut disk = Disk::default();
        disk.files.extend((0..random.u64(1..5)).map(|number| garbage(&mut random, number)));
        answers[usize::from(disk.recover(false).is_ok())] += 1;
        if let Err(damage) = disk.recover(true) {
            assert!(matches!(damage.problem, Problem::Version(_)), "seed {seed}: {damage}");
        }
    }
    assert!(answers.iter().all(|&count| 20 < count), "{answers:?}");
}

/// Returns a file of random blocks and of frames whose checksums are right.
fn garbage(random: &mut fastrand::Rng, number: u64) -> File {
    let id = FileId(random.u64(..3));
    let kind = if random.u8(..4) == 0 { FileKind::Snapshot } else { FileKind::Segment };
    let (shard, lsn) = (SHARD, if kind == FileKind::Snapshot { Lsn(number) } else { Lsn(random.u64(..100)) });
    let mut bytes =
        FileHeader { version: VERSION, kind, shard, directory: DIRECTORY, id, number, lsn, bytes: 0 }.encode().to_vec();
    if random.u8(..8) == 0 {
        (0..random.usize(..8)).for_each(|_| bytes[random.usize(..64)] = random.u8(..));
    }
    let mut next = Lsn(random.u64(..2) * number);
    for _ in 0..random.usize(..6) {
        let mut block = vec![0; BLOCK_BYTES];
        let kind = [FrameKind::Records, FrameKind::Continued, FrameKind::Seal][random.usize(..3)];
        let mut records = Vec::new();
        while kind != FrameKind::Seal && random.bool() {
            Change::random(random, false).record().encode(&mut records);
        }
        records.truncate(random.usize(..3_000));
        if random.u8(..4) == 0 {
            records.iter_mut().for_each(|byte| *byte = random.u8(..10));
        }
        block[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + records.len()].copy_from_slice(&records);
        let lsn = if random.u8(..4) == 0 { Lsn(random.u64(..)) } else { next };
        let synced = Lsn(random.u64(..200));
        FrameHeader { kind, file: id, lsn, synced, length: records.len() as u32 }.seal(&mut block);
        next = Lsn(lsn.0.saturating_add(records.len() as u64));
        match random.u8(..8) {
            0 => random.fill(&mut block),
            1 => block.fill(0),
            2 => block[random.usize(..BLOCK_BYTES)] ^= 1,
            _ => {}
        }
        bytes.extend_from_slice(&block);
    }
    if random.u8(..4) == 0 {
        bytes.truncate(random.usize(..=bytes.len()));
    }
    File { kind, number, bytes }
}
