//! A core's files, as its loop uses them: frames and values by the core's ring, and jobs that may block by its blocking thread.

use crate::{
    config::Config,
    engine::{Action, CoreFiles, Event},
    io::{
        directory::Directory,
        files::{Layout, OsFiles, Way},
        jobs::Jobs,
        recover::Reader,
        ring::{Bell, Ring},
    },
    wal::{Aligned, Done, FileInfo, files::Growth, frame::FileKind},
};
use std::{collections::BTreeMap, fs::File, io, sync::Arc};

/// A core's files.
pub(super) struct Disk {
    layout: Layout,
    reader: Reader,
    jobs: Jobs,
    /// Segments that are written to, or will be.
    segments: BTreeMap<u64, Arc<File>>,
    /// Segments that are read from.
    open: BTreeMap<u32, Arc<File>>,
    /// Reads whose segment could not be opened.
    failed_reads: Vec<(u64, Aligned, io::Error)>,
}

impl Disk {
    /// Opens a core's part of a directory, and lists what is in it.
    ///
    /// # Errors
    /// The directory can't be read or written.
    pub(super) fn open(
        directory: &Directory,
        core: u16,
        config: &Config,
        bell: Arc<Bell>,
    ) -> io::Result<(Self, CoreFiles)> {
        let files = directory.shard(core);
        let way = Way::probe(files.path()).map_err(|error| io::Error::other(files.unusable(&error)))?;
        if core == 0 {
            tracing::info!("the log is written with {way}");
        }
        let listed = files.list().map_err(|error| io::Error::other(format!("{}: {error}", files.path().display())))?;
        let layout = OsFiles { shard: files.clone(), way }.layout(config.log_segment_bytes as u64)?;
        let core_files = CoreFiles {
            path: files.path().display().to_string(),
            directory: files.directory(),
            shard: files.shard(),
            listed,
            reserve: Box::new(Growth(layout.clone())),
        };
        let jobs = Jobs::new(layout.clone(), bell);
        let (reader, failed_reads) = (Reader::new(files), Vec::new());
        Ok((Self { layout, reader, jobs, segments: BTreeMap::new(), open: BTreeMap::new(), failed_reads }, core_files))
    }

    /// Fills a buffer from a file that was listed.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn read_at_start(
        &mut self,
        position: usize,
        file: &FileInfo,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        self.reader.read((position, file), offset, buffer)
    }

    /// Shows the jobs that have ended, in order, and reads that have failed before they began. Returns how many there were.
    pub(super) fn take_events(&mut self, mut show: impl FnMut(Event<'_>)) -> usize {
        let mut events = self.failed_reads.len();
        while let Some(finished) = self.jobs.take_finished() {
            let number = match &finished.outcome {
                Ok(Done::Segment(segment)) => Some(segment.number),
                Ok(Done::LogBegun(begun)) => Some(begun.active.number),
                Ok(_) | Err(_) => None,
            };
            self.segments.extend(number.zip(finished.file));
            events += 1;
            show(Event::JobDone(finished.desk, finished.outcome));
        }
        for (token, buffer, error) in self.failed_reads.drain(..) {
            show(Event::Read(token, buffer, Err(error)));
        }
        events
    }

    /// Returns true if there are events to be taken at once.
    pub(super) fn has_events(&self) -> bool {
        !self.failed_reads.is_empty()
    }

    /// Begins what the engine wants done with the files.
    pub(super) fn perform(&mut self, ring: &mut Ring, action: Action) {
        match action {
            Action::Write { segment, offset, buffer, length } => {
                // Those before it are not written to any more.
                self.segments = self.segments.split_off(&segment);
                let file = self.segments.get(&segment).expect("a segment is made ready before it is written to");
                ring.write(file, self.layout.files.way.syncing, buffer, length, offset);
            }
            Action::Read { segment, offset, buffer, length, token } => {
                let file = match self.open.get(&segment) {
                    Some(file) => Ok(Arc::clone(file)),
                    None => self.open_segment(segment),
                };
                match file {
                    Ok(file) => ring.read(&file, buffer, length, offset, token),
                    Err(error) => self.failed_reads.push((token, buffer, error)),
                }
            }
            Action::CloseSegment(segment) => drop(self.open.remove(&segment)),
            Action::Start(desk, job) => self.jobs.start(desk, job),
            other => unreachable!("{other:?} has nothing to do with files"),
        }
    }

    fn open_segment(&mut self, segment: u32) -> io::Result<Arc<File>> {
        let files = &self.layout.files;
        let path = files.shard.path_of(FileKind::Segment, segment.into());
        let file = Arc::new(files.options(0).write(false).open(path)?);
        self.open.insert(segment, Arc::clone(&file));
        Ok(file)
    }

    /// Returns why the files can't be written, and what to do.
    pub(super) fn unusable(&self, error: &io::Error) -> String {
        self.layout.files.shard.unusable(error)
    }
}
