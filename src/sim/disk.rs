//! A disk that keeps what was synced, and of the rest whatever it likes.

use crate::wal::frame::BLOCK_BYTES;
use std::collections::{BTreeMap, BTreeSet};

/// The process has ended, or the power has: nothing that should have come next happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crashed;

/// A file, whatever it is called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Handle(usize);

#[derive(Default)]
struct File {
    /// What a process reads.
    seen: Vec<u8>,
    /// What is left when the power goes.
    durable: Vec<u8>,
    /// The blocks in which the two may differ.
    dirty: BTreeSet<usize>,
}

/// A change of names, on disk only with the directory's next sync.
enum Change {
    Create(String, Handle),
    Rename(String, String),
    Remove(String),
}

struct Write {
    file: Handle,
    offset: usize,
    bytes: Vec<u8>,
}

/// One shard's directory on a disk of its own.
pub(super) struct Disk {
    files: Vec<File>,
    /// What a process sees, and what is left when the power goes.
    names: BTreeMap<String, Handle>,
    durable_names: BTreeMap<String, Handle>,
    changes: Vec<Change>,
    in_flight: Option<Write>,
    events_left: Option<u32>,
    random: fastrand::Rng,
    /// Frames of which some blocks were left by a power failure, and some were not.
    pub(super) torn: u64,
    /// Segments that were made of spare ones.
    pub(super) used_again: u64,
}

impl Disk {
    pub(super) fn new(random: fastrand::Rng) -> Self {
        Self {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            in_flight: None,
            events_left: None,
            random,
            torn: 0,
            used_again: 0,
        }
    }

    /// Says after how many events all ends; `None` for never.
    pub(super) fn end_after(&mut self, events: Option<u32>) {
        self.events_left = events;
    }

    /// Something happens, or just does not any more. Every change of the disk is an event, but for [`submit`](Self::submit)
    /// and [`complete`](Self::complete): a frame is on its way for as long as the others take.
    pub(super) fn event(&mut self) -> Result<(), Crashed> {
        match &mut self.events_left {
            Some(0) => Err(Crashed),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The files' names and sizes, by name.
    pub(super) fn list(&self) -> Vec<(String, usize)> {
        self.names.iter().map(|(name, &file)| (name.clone(), self.length(file))).collect()
    }

    pub(super) fn open(&self, name: &str) -> Handle {
        *self.names.get(name).unwrap_or_else(|| panic!("{name}: no such file"))
    }

    pub(super) fn length(&self, file: Handle) -> usize {
        self.files[file.0].seen.len()
    }

    /// Up to `length` bytes, fewer only at the file's end.
    pub(super) fn read(&self, file: Handle, offset: usize, length: usize) -> &[u8] {
        let seen = &self.files[file.0].seen;
        let start = offset.min(seen.len());
        &seen[start..(start + length).min(seen.len())]
    }

    /// Makes an empty file, in place of any of that name.
    pub(super) fn create(&mut self, name: &str) -> Result<Handle, Crashed> {
        self.event()?;
        let file = Handle(self.files.len());
        self.files.push(File::default());
        self.names.insert(name.to_owned(), file);
        self.changes.push(Change::Create(name.to_owned(), file));
        Ok(file)
    }

    /// Renames a file, in place of any that is called so already.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<(), Crashed> {
        self.event()?;
        self.changes.push(Change::Rename(from.to_owned(), to.to_owned()));
        self.changes.last().into_iter().for_each(|change| change.apply(&mut self.names));
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<(), Crashed> {
        self.event()?;
        self.names.remove(name);
        self.changes.push(Change::Remove(name.to_owned()));
        Ok(())
    }

    /// Makes durable which files there are.
    pub(super) fn sync_directory(&mut self) -> Result<(), Crashed> {
        self.event()?;
        self.durable_names.clone_from(&self.names);
        self.changes.clear();
        Ok(())
    }

    /// Writes whole blocks that are on disk with the next sync, and perhaps before.
    pub(super) fn write(&mut self, file: Handle, offset: usize, bytes: &[u8]) -> Result<(), Crashed> {
        self.event()?;
        let file = &mut self.files[file.0];
        put(&mut file.seen, offset, bytes);
        file.dirty.extend(offset / BLOCK_BYTES..(offset + bytes.len()) / BLOCK_BYTES);
        Ok(())
    }

    pub(super) fn sync(&mut self, file: Handle) -> Result<(), Crashed> {
        self.event()?;
        let File { seen, durable, dirty } = &mut self.files[file.0];
        durable.clone_from(seen);
        dirty.clear();
        Ok(())
    }

    /// Begins a write that is on disk when it is complete, and until then in any part, in any order.
    pub(super) fn submit(&mut self, file: Handle, offset: usize, bytes: Vec<u8>) {
        assert!(self.in_flight.is_none(), "one write in flight");
        assert!(offset + bytes.len() <= self.length(file), "frames are written where there are zeros");
        self.in_flight = Some(Write { file, offset, bytes });
    }

    pub(super) fn is_writing(&self) -> bool {
        self.in_flight.is_some()
    }

    pub(super) fn complete(&mut self) {
        let Some(Write { file, offset, bytes }) = self.in_flight.take() else { return };
        let file = &mut self.files[file.0];
        put(&mut file.seen, offset, &bytes);
        put(&mut file.durable, offset, &bytes);
    }

    /// The process ends. What it did stays in the kernel's hands, and a write that is with the disk already gets there.
    pub(super) fn end_process(&mut self) {
        if self.random.bool() {
            self.complete();
        }
        self.in_flight = None;
    }

    /// The power goes: what is left is what was synced, and some of what was not.
    pub(super) fn lose_power(&mut self) {
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
        let named: BTreeSet<_> = self.names.values().map(|file| file.0).collect();
        for (number, file) in self.files.iter_mut().enumerate() {
            if !named.contains(&number) {
                *file = File::default();
                continue;
            }
            for block in std::mem::take(&mut file.dirty) {
                if self.random.bool() {
                    let range = block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
                    put(&mut file.durable, range.start, &file.seen[range]);
                }
            }
            file.seen.clone_from(&file.durable);
        }
    }

    /// Leaves of the write in flight what the disk has got round to.
    fn tear(&mut self) {
        let Some(Write { file, offset, bytes }) = self.in_flight.take() else { return };
        let blocks = bytes.len() / BLOCK_BYTES;
        let odd = self.random.usize(..blocks);
        let way = self.random.u8(..6);
        let mut left = 0;
        for block in 0..blocks {
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
                let at = block * BLOCK_BYTES;
                put(&mut self.files[file.0].durable, offset + at, &bytes[at..at + BLOCK_BYTES]);
            }
        }
        self.torn += u64::from(0 < left && left < blocks);
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, Handle>) {
        match self {
            Self::Create(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Rename(from, to) => {
                // Where the file's own name was lost, so is the new one.
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => drop(names.remove(name)),
        }
    }
}

fn put(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    assert!(offset.is_multiple_of(BLOCK_BYTES) && bytes.len().is_multiple_of(BLOCK_BYTES), "whole blocks");
    let end = offset + bytes.len();
    if offset == to.len() {
        return to.extend_from_slice(bytes);
    }
    if to.len() < end {
        to.resize(end, 0);
    }
    to[offset..end].copy_from_slice(bytes);
}
