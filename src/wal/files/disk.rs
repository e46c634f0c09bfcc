//! For tests: a core's directory on a disk of a limited number of blocks. It fills up, ends a process between any two
//! operations, and loses what was not synced when the power fails.

use super::{Files, UNWRITTEN, names};
use crate::{
    time::UnixMillis,
    wal::{Lost, frame::BLOCK_BYTES},
};
#[expect(clippy::disallowed_types, reason = "files are shared with a core's blocking thread")]
use std::sync::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct SimFiles {
    #[expect(clippy::disallowed_types, reason = "see the import")]
    disk: Arc<Mutex<Disk>>,
}

/// A file, by its position in [`Disk::files`], which does not depend on its name.
#[derive(Debug)]
pub(crate) struct SimFile(usize);

#[derive(Debug, Default)]
struct File {
    /// The bytes that a process reads.
    seen: Vec<u8>,
    /// The bytes that are left when the power fails.
    durable: Vec<u8>,
    /// The blocks in which the two may differ.
    dirty: BTreeSet<usize>,
}

/// A change of names, which is durable after the directory's next sync.
#[derive(Debug)]
enum Change {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug)]
struct Write {
    file: usize,
    offset: usize,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Disk {
    blocks: usize,
    /// The number of blocks that another process has allocated.
    ballast: usize,
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    changes: Vec<Change>,
    in_flight: Option<Write>,
    operations_left: Option<u32>,
    fault: Fault,
    random: fastrand::Rng,
    counts: Counts,
}

/// The way in which a disk fails, until it is changed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Fault {
    /// It works.
    #[default]
    None,
    /// Reads fail.
    Reads,
    /// Writes, syncs and changes of names fail, each with these odds of 256.
    Changes(u8),
}

/// Counts of events on a disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Frames of which some blocks were on disk after a power failure, and some were not.
    pub(crate) torn: u64,
    /// Segments that were made from spare ones which had been written to.
    pub(crate) used_again: u64,
    /// Operations that found no room.
    pub(crate) full: u64,
    /// Operations that failed.
    pub(crate) failed: u64,
}

impl SimFiles {
    pub(crate) fn new(blocks: usize, seed: u64) -> Self {
        let disk = Disk {
            blocks,
            ballast: 0,
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            in_flight: None,
            operations_left: None,
            fault: Fault::None,
            random: fastrand::Rng::with_seed(seed),
            counts: Counts::default(),
        };
        #[expect(clippy::disallowed_types, reason = "see the import")]
        let disk = Mutex::new(disk);
        Self { disk: Arc::new(disk) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Disk) -> T) -> T {
        act(&mut self.disk.lock().expect("no test goes on behind a panic"))
    }

    fn change<T>(&self, act: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        self.with(|disk| {
            disk.operation()?;
            let outcome = act(disk);
            let is_full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
            disk.counts.full += u64::from(outcome.as_ref().is_err_and(is_full));
            outcome
        })
    }

    /// Ends the process after this number of operations: all later ones fail.
    pub(crate) fn end_after(&self, operations: Option<u32>) {
        self.with(|disk| disk.operations_left = operations);
    }

    /// Returns true if the process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.with(|disk| disk.operations_left == Some(0))
    }

    /// Lets another process allocate all free blocks, or free those that it has.
    pub(crate) fn fill(&self, is_full: bool) {
        self.with(|disk| {
            disk.ballast = 0;
            disk.ballast = if is_full { disk.free() } else { 0 };
        });
    }

    /// Begins a frame's write. It is on disk when it is complete; until then, any of its blocks may be.
    pub(crate) fn submit(&self, file: &SimFile, offset: u64, bytes: &[u8]) {
        self.with(|disk| {
            assert!(disk.in_flight.is_none(), "one write in flight");
            let offset = offset as usize;
            assert!(offset + bytes.len() <= disk.files[file.0].seen.len(), "frames are written where there are blocks");
            disk.in_flight = Some(Write { file: file.0, offset, bytes: bytes.to_vec() });
        });
    }

    pub(crate) fn complete(&self) {
        self.with(|disk| {
            let Some(Write { file, offset, bytes }) = disk.in_flight.take() else { return };
            put(&mut disk.files[file].seen, offset, &bytes);
            put(&mut disk.files[file].durable, offset, &bytes);
        });
    }

    /// Ends a frame's write. If it fails, the frame may be on disk or not.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn finish(&self) -> io::Result<()> {
        let outcome = self.with(Disk::check_change);
        if outcome.is_ok() {
            self.complete()
        } else {
            self.end_process()
        }
        outcome
    }

    /// Ends the process. Its completed operations stay with the kernel; a write in flight may reach the kernel, or the disk, or
    /// not.
    pub(crate) fn end_process(&self) {
        match self.with(|disk| disk.random.u8(..3)) {
            // The write is lost.
            0 => {}
            // The kernel has it, and the disk not yet.
            1 => self.with(|disk| {
                let Some(Write { file, offset, bytes }) = disk.in_flight.take() else { return };
                let file = &mut disk.files[file];
                put(&mut file.seen, offset, &bytes);
                file.dirty.extend(offset / BLOCK_BYTES..(offset + bytes.len()) / BLOCK_BYTES);
            }),
            _ => self.complete(),
        }
        self.with(|disk| disk.in_flight = None);
    }

    /// Sets the way in which operations fail from now on.
    pub(crate) fn fail(&self, fault: Fault) {
        self.with(|disk| disk.fault = fault);
    }

    /// Returns the counts of events.
    pub(crate) fn counts(&self) -> Counts {
        self.with(|disk| disk.counts)
    }

    /// Reads a file into `to`, as far as the file goes. Returns the number of bytes read.
    ///
    /// # Errors
    /// If there is no such file, or the disk fails.
    pub(crate) fn read_to(&self, name: &str, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        self.with(|disk| {
            disk.check_read()?;
            let seen = &disk.files[disk.find(name)?].seen;
            let start = (offset as usize).min(seen.len());
            let read = to.len().min(seen.len() - start);
            to[..read].copy_from_slice(&seen[start..start + read]);
            Ok(read)
        })
    }

    /// Loses power: what was synced is left, and some of what was not.
    pub(crate) fn lose_power(&self) {
        self.with(Disk::lose_power);
    }

    pub(crate) fn read(&self, name: &str, offset: u64, length: usize) -> Vec<u8> {
        self.with(|disk| {
            let seen = &disk.files[disk.names[name]].seen;
            let start = (offset as usize).min(seen.len());
            seen[start..(start + length).min(seen.len())].to_vec()
        })
    }
}

impl Files for SimFiles {
    type File = SimFile;

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.with(|disk| disk.names.keys().cloned().collect()))
    }

    fn size_of(&self, name: &str) -> io::Result<u64> {
        self.with(|disk| Ok(disk.files[disk.find(name)?].seen.len() as u64))
    }

    fn path(&self, name: &str) -> String {
        name.to_owned()
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        self.change(|disk| {
            let file = disk.files.len();
            disk.files.push(File::default());
            disk.names.insert(name.to_owned(), file);
            disk.changes.push(Change::Create(name.to_owned(), file));
            Ok(SimFile(file))
        })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        self.with(|disk| disk.find(name).map(SimFile))
    }

    fn open_segment(&self, name: &str) -> io::Result<SimFile> {
        self.open(name)
    }

    fn reserve(&self, file: &SimFile, bytes: u64) -> io::Result<bool> {
        self.change(|disk| disk.extend(file.0, bytes as usize).map(|()| true))
    }

    fn size(&self, file: &SimFile) -> io::Result<u64> {
        Ok(self.with(|disk| disk.files[file.0].seen.len() as u64))
    }

    fn resize(&self, file: &SimFile, bytes: u64) -> io::Result<()> {
        self.change(|disk| {
            disk.extend(file.0, bytes as usize)?;
            disk.files[file.0].seen.truncate(bytes as usize);
            Ok(())
        })
    }

    fn write_at(&self, file: &SimFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(|disk| {
            let (offset, end) = (offset as usize, offset as usize + bytes.len());
            disk.extend(file.0, end)?;
            let file = &mut disk.files[file.0];
            put(&mut file.seen, offset, bytes);
            file.dirty.extend(offset / BLOCK_BYTES..end / BLOCK_BYTES);
            Ok(())
        })
    }

    fn read_at(&self, file: &SimFile, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(|disk| {
            disk.check_read()?;
            let seen = disk.files[file.0].seen.get(offset as usize..offset as usize + bytes.len());
            bytes.copy_from_slice(seen.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn sync(&self, file: &SimFile) -> io::Result<()> {
        self.change(|disk| {
            let File { seen, durable, dirty } = &mut disk.files[file.0];
            fit(durable, seen.len());
            for block in std::mem::take(dirty) {
                let range = block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
                if let Some(bytes) = seen.get(range.clone()) {
                    durable[range].copy_from_slice(bytes);
                }
            }
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|disk| {
            disk.find(from)?;
            let is_used_again = names::read_spare(from).is_some_and(|number| number < UNWRITTEN);
            disk.counts.used_again += u64::from(is_used_again);
            let change = Change::Rename(from.to_owned(), to.to_owned());
            change.apply(&mut disk.names);
            disk.changes.push(change);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|disk| {
            disk.find(name)?;
            disk.names.remove(name);
            disk.changes.push(Change::Remove(name.to_owned()));
            Ok(())
        })
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.change(|disk| {
            disk.durable_names.clone_from(&disk.names);
            disk.changes.clear();
            Ok(())
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.with(|disk| (disk.free() * BLOCK_BYTES) as u64))
    }

    fn modified_at(&self, _name: &str) -> io::Result<UnixMillis> {
        Ok(UnixMillis(1))
    }

    fn write_lost(&self, lost: &[Lost], _unix_seconds: u64) -> io::Result<String> {
        panic!("a disk loses what was not synced, and damages nothing: {lost:?}")
    }
}

impl Disk {
    fn operation(&mut self) -> io::Result<()> {
        match &mut self.operations_left {
            Some(0) => return Err(io::Error::other("the process has ended")),
            Some(left) => *left -= 1,
            None => {}
        }
        self.check_change()
    }

    fn check_change(&mut self) -> io::Result<()> {
        match self.fault {
            Fault::Changes(odds) if self.random.u8(..) < odds => self.failure(),
            _ => Ok(()),
        }
    }

    fn check_read(&mut self) -> io::Result<()> {
        if self.fault == Fault::Reads { self.failure() } else { Ok(()) }
    }

    fn failure(&mut self) -> io::Result<()> {
        self.counts.failed += 1;
        Err(io::Error::other("the disk has failed"))
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn free(&self) -> usize {
        let used = |&file: &usize| self.files[file].seen.len().div_ceil(BLOCK_BYTES);
        (self.blocks - self.ballast).saturating_sub(self.names.values().map(used).sum())
    }

    /// Allocates a file's blocks up to this length, if the disk has them.
    fn extend(&mut self, file: usize, length: usize) -> io::Result<()> {
        let has = self.files[file].seen.len();
        if has < length {
            if self.free() < (length - has).div_ceil(BLOCK_BYTES) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let file = &mut self.files[file];
            fit(&mut file.seen, length);
            file.dirty.extend(has / BLOCK_BYTES..length.div_ceil(BLOCK_BYTES));
        }
        Ok(())
    }

    fn lose_power(&mut self) {
        self.tear();
        // With a journal the first changes are durable; without one, any of them may be.
        let journal = self.random.bool();
        let kept = self.random.usize(..=self.changes.len());
        for (position, change) in self.changes.drain(..).enumerate() {
            if if journal { position < kept } else { self.random.bool() } {
                change.apply(&mut self.durable_names);
            }
        }
        self.names.clone_from(&self.durable_names);
        let named: BTreeSet<_> = self.names.values().copied().collect();
        for (number, file) in self.files.iter_mut().enumerate() {
            if !named.contains(&number) {
                *file = File::default();
                continue;
            }
            // A size that was not synced may be on disk or not.
            if file.durable.len() != file.seen.len() && self.random.bool() {
                fit(&mut file.durable, file.seen.len());
            }
            for block in std::mem::take(&mut file.dirty) {
                let range = block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
                if let Some((durable, seen)) = file.durable.get_mut(range.clone()).zip(file.seen.get(range))
                    && self.random.bool()
                {
                    durable.copy_from_slice(seen);
                }
            }
            file.seen.clone_from(&file.durable);
        }
    }

    /// Keeps a random part of the blocks of the write in flight.
    fn tear(&mut self) {
        let Some(Write { file, offset, bytes }) = self.in_flight.take() else { return };
        let blocks = bytes.len() / BLOCK_BYTES;
        let (odd, way, mut left) = (self.random.usize(..blocks), self.random.u8(..6), 0);
        for (block, bytes) in bytes.chunks(BLOCK_BYTES).enumerate() {
            let is_left = match way {
                0 => false,
                1 => true,
                2 => block < odd,
                3 => block != odd,
                4 => block == odd,
                _ => self.random.bool(),
            };
            if is_left {
                left += 1;
                put(&mut self.files[file].durable, offset + block * BLOCK_BYTES, bytes);
            }
        }
        self.counts.torn += u64::from(0 < left && left < blocks);
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Rename(from, to) => {
                // If the file's own name was lost, so is the new one.
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => drop(names.remove(name)),
        }
    }
}

/// Truncates or extends a file: faster than `resize` in a build without optimization.
fn fit(bytes: &mut Vec<u8>, length: usize) {
    if bytes.len() == length {
        return;
    }
    let mut fitting = vec![0; length];
    let kept = bytes.len().min(length);
    fitting[..kept].copy_from_slice(&bytes[..kept]);
    *bytes = fitting;
}

fn put(to: &mut [u8], offset: usize, bytes: &[u8]) {
    assert!(offset.is_multiple_of(BLOCK_BYTES) && bytes.len().is_multiple_of(BLOCK_BYTES), "whole blocks");
    to[offset..offset + bytes.len()].copy_from_slice(bytes);
}
