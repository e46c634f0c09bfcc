//! Decisions about a shard's room on disk: when a snapshot is due, and when the log's oldest segment is worth giving up.

use super::Lsn;

/// What decides whether a snapshot is due.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotFacts {
    /// The end of the log.
    pub end: Lsn,
    /// The end of the log when the last snapshot began.
    pub saved: Lsn,
    /// The size of the last snapshot in bytes.
    pub snapshot_bytes: u64,
    /// The setting `snapshot-log-bytes`; 0 for never.
    pub after_bytes: u64,
}

/// Returns true if a snapshot is due: the records since the last one take as many bytes as the setting says, and as many as
/// that snapshot.
///
/// Records are counted, not files: a log of few large files is large without a record, and each new snapshot would be due at
/// once. Without a record since the last snapshot none is due, whatever the setting.
pub fn is_snapshot_due(facts: SnapshotFacts) -> bool {
    let SnapshotFacts { end, saved, snapshot_bytes, after_bytes } = facts;
    let grown = end.0.saturating_sub(saved.0);
    after_bytes != 0 && 0 < grown && after_bytes.max(snapshot_bytes) <= grown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only records make a snapshot due: an idle server takes none, however small the setting and however large the files.
    #[test]
    fn a_snapshot_is_due_by_records_alone() {
        for (end, saved, snapshot_bytes, after_bytes, is_due) in [
            (0, 0, 0, 1, false),
            (5000, 5000, 0, 1, false),
            (5000, 5000, 8192, 1, false),
            // The snapshot that a restart found, of a log that was lost since.
            (5000, 6000, 8192, 1, false),
            (13_191, 5000, 8192, 1, false),
            (13_192, 5000, 8192, 1, true),
            (999, 0, 0, 1000, false),
            (1000, 0, 0, 1000, true),
            (u64::MAX, 0, 0, 0, false),
        ] {
            let facts = SnapshotFacts { end: Lsn(end), saved: Lsn(saved), snapshot_bytes, after_bytes };
            assert_eq!(is_snapshot_due(facts), is_due, "{facts:?}");
        }
    }
}
