//! For tests: a core's directory on a disk of so many blocks. It fills up, ends a process between any two operations, and
//! loses what was not synced when the power goes.

use super::Files;
use crate::wal::frame::BLOCK_BYTES;
use crate::{time::UnixMillis, wal::Lost};
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

/// A file, whatever it is called.
#[derive(Debug)]
pub(crate) struct SimFile(usize);

#[derive(Debug, Default)]
struct File {
    /// What a process reads, and what is left when the power goes.
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// The blocks in which the two may differ.
    dirty: BTreeSet<usize>,
}

/// A change of names, on disk only with the directory's next sync.
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
    /// Blocks that another process has.
    ballast: usize,
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    changes: Vec<Change>,
    in_flight: Option<Write>,
    operations_left: Option<u32>,
    random: fastrand::Rng,
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
            random: fastrand::Rng::with_seed(seed),
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
            act(disk)
        })
    }

    /// Ends the process after so many operations: they fail from then on.
    pub(crate) fn end_after(&self, operations: Option<u32>) {
        self.with(|disk| disk.operations_left = operations);
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.with(|disk| disk.operations_left == Some(0))
    }

    /// Another process takes all blocks that are free, or gives back what it has.
    pub(crate) fn fill(&self, is_full: bool) {
        self.with(|disk| {
            disk.ballast = 0;
            disk.ballast = if is_full { disk.free() } else { 0 };
        });
    }

    /// Begins a frame's write: it is on disk when it is complete, and until then in any part, in any order.
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

    /// The process ends. What it did stays in the kernel's hands, and a write that is with the disk may get there.
    pub(crate) fn end_process(&self) {
        if self.with(|disk| disk.random.bool()) {
            self.complete();
        }
        self.with(|disk| disk.in_flight = None);
    }

    /// The power goes: what is left is what was synced, and some of what was not.
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
            let seen = disk.files[file.0].seen.get(offset as usize..offset as usize + bytes.len());
            bytes.copy_from_slice(seen.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn sync(&self, file: &SimFile) -> io::Result<()> {
        self.change(|disk| {
            let File { seen, durable, dirty } = &mut disk.files[file.0];
            durable.resize(seen.len(), 0);
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
            Some(0) => Err(io::Error::other("the process has ended")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn free(&self) -> usize {
        let used = |&file: &usize| self.files[file].seen.len().div_ceil(BLOCK_BYTES);
        (self.blocks - self.ballast).saturating_sub(self.names.values().map(used).sum())
    }

    /// Gives a file blocks up to this length, if the disk has them.
    fn extend(&mut self, file: usize, length: usize) -> io::Result<()> {
        let has = self.files[file].seen.len();
        if has < length {
            if self.free() < (length - has).div_ceil(BLOCK_BYTES) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let file = &mut self.files[file];
            file.seen.resize(length, 0);
            file.dirty.extend(has / BLOCK_BYTES..length.div_ceil(BLOCK_BYTES));
        }
        Ok(())
    }

    fn lose_power(&mut self) {
        self.tear();
        // As a journal has it, or as a directory may that has none.
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
                file.durable.resize(file.seen.len(), 0);
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

    /// Leaves of the write in flight what the disk has got round to.
    fn tear(&mut self) {
        let Some(Write { file, offset, bytes }) = self.in_flight.take() else { return };
        let way = self.random.u8(..3);
        for (block, bytes) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if way == 0 || (way == 1 && self.random.bool()) {
                put(&mut self.files[file].durable, offset + block * BLOCK_BYTES, bytes);
            }
        }
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

fn put(to: &mut [u8], offset: usize, bytes: &[u8]) {
    assert!(offset.is_multiple_of(BLOCK_BYTES) && bytes.len().is_multiple_of(BLOCK_BYTES), "whole blocks");
    to[offset..offset + bytes.len()].copy_from_slice(bytes);
}
