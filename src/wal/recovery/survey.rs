//! The survey: checks of each file's header, and the first position of each segment.

use super::{Damage, Phase, Problem, Recovery, Segment};
use crate::wal::{
    Lsn, SEGMENT_NUMBERS_END,
    frame::{BLOCK_BYTES, FileHeader, FileId, FileKind, FrameHeader, Invalid},
};

impl Recovery {
    /// Takes the first block of the snapshot.
    pub(super) fn survey_snapshot(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        let (file, _) = self.snapshot_file();
        match self.header(file, bytes) {
            Ok(header) => {
                self.phase = Phase::SurveySegment(0);
                self.snapshot = Some((file, header.id));
                self.report.snapshot = Some(header.lsn);
                self.known_end = header.lsn;
                Ok(())
            }
            Err(problem) => {
                // An older snapshot, if there still is one, is better than none.
                let number = self.files[file].number;
                let snapshots = self.files.iter().enumerate().filter(|(_, file)| file.kind == FileKind::Snapshot);
                let older = snapshots.filter(|(_, file)| file.number < number).max_by_key(|(_, file)| file.number);
                self.snapshot = older.map(|(position, _)| (position, FileId::default()));
                self.phase = if older.is_some() { Phase::SurveySnapshot } else { Phase::SurveySegment(0) };
                self.lose(file, 0, problem, Lsn(0), Lsn(0))
            }
        }
    }

    /// Takes the beginning of a segment.
    pub(super) fn survey_segment(&mut self, index: usize, bytes: &[u8]) -> Result<(), Damage> {
        let file = self.numbered[index];
        self.phase = Phase::SurveySegment(index + 1);
        match self.header(file, bytes) {
            Ok(header) => {
                // The position in a frame that is not whole is ignored: it may have changed.
                let first = FrameHeader::decode(bytes.get(BLOCK_BYTES..).unwrap_or_default(), header.id);
                let first = first.ok().map(|(frame, _)| frame.lsn);
                self.segments.push(Segment { file, id: header.id, made_ready_at: header.lsn, first });
                let bytes = self.files[file].bytes;
                match header.wrong_size(bytes) {
                    // If loss is accepted, the bytes that are left are read.
                    Some(made) => self.lose(file, bytes.min(made), Problem::Resized { bytes, made }, Lsn(0), Lsn(0)),
                    None => Ok(()),
                }
            }
            Err(problem) => self.lose(file, 0, problem, Lsn(0), Lsn(0)),
        }
    }

    /// Reads a file's header and checks that it is the file that its name says, of this shard.
    fn header(&self, file: usize, bytes: &[u8]) -> Result<FileHeader, Problem> {
        let info = &self.files[file];
        if info.kind == FileKind::Segment && SEGMENT_NUMBERS_END <= info.number {
            return Err(Problem::Foreign);
        }
        let header = FileHeader::decode(bytes).map_err(|invalid| match invalid {
            Invalid::Version(version) => Problem::Version(version),
            Invalid::Short(_) => Problem::Short,
            other => Problem::Changed(other),
        })?;
        let number = if header.kind == FileKind::Snapshot { header.lsn.0 } else { header.number };
        let is_ours = header.directory == self.directory && header.shard == self.shard;
        if !is_ours || header.kind != info.kind || number != info.number {
            return Err(Problem::Foreign);
        }
        Ok(header)
    }
}
