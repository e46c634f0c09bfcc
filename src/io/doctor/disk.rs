//! The directory that data is to be kept in: its file system, and how long a write takes until it is on disk.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::super::files::{Way, has_fua};
use crate::{
    doctor::readings::Disk,
    wal::{aligned::Aligned, frame::BLOCK_BYTES},
};

/// The most writes that are measured: enough for a 99th percentile to be more than a guess.
const WRITES_MAX: usize = 64;
/// The longest time for all writes together. A disk that takes longer has shown enough.
const TIME_MAX: Duration = Duration::from_secs(1);

/// Looks at the directory, or at the nearest above it that exists: `trine serve` makes its own.
pub(super) fn read(directory: &Path) -> Disk {
    let path = directory.display().to_string();
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let place = absolute.ancestors().find(|place| place.is_dir()).unwrap_or(Path::new("/"));
    let way = match Way::probe(place) {
        Ok(way) => way,
        Err(error) => return Disk { path, refused: Some(error.to_string()), ..Disk::default() },
    };
    let (free_bytes, total_bytes) = rustix::fs::statvfs(place)
        .map(|seen| (seen.f_bavail * seen.f_frsize, seen.f_blocks * seen.f_frsize))
        .unwrap_or_default();
    let has_fua = has_fua(place);
    let (refused, mut sync_us) = match measure(place, way.is_direct, has_fua) {
        Ok(times) => (None, times),
        Err(error) => (Some(error.to_string()), Vec::new()),
    };
    sync_us.sort_unstable();
    let file_system = file_system_of(place).unwrap_or_else(|| "unknown file system".into());
    Disk { path, refused, file_system, is_direct: way.is_direct, has_fua, sync_us, free_bytes, total_bytes }
}

/// A file that goes when we do.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Overwrites blocks, as the log does, and returns how long each took until it was on disk, in microseconds.
fn measure(place: &Path, is_direct: bool, has_fua: bool) -> io::Result<Vec<u64>> {
    let scratch = Scratch(place.join(format!("doctor-{}.tmp", std::process::id())));
    let prepare = || {
        let file = File::create(&scratch.0)?;
        file.write_all_at(&vec![0; BLOCK_BYTES * WRITES_MAX], 0)?;
        file.sync_all()
    };
    prepare()?;
    let is_synced_itself = is_direct && has_fua;
    let flags = if is_direct { libc::O_DIRECT } else { 0 } | if is_synced_itself { libc::O_DSYNC } else { 0 };
    let file = OpenOptions::new().write(true).custom_flags(flags).open(&scratch.0)?;
    let mut block = Aligned::new(BLOCK_BYTES);
    block.bytes_mut().fill(0x5a);
    let (began, mut times) = (Instant::now(), Vec::new());
    while times.len() < WRITES_MAX && began.elapsed() < TIME_MAX {
        let since = Instant::now();
        file.write_all_at(block.bytes(), (times.len() * BLOCK_BYTES) as u64)?;
        if !is_synced_itself {
            file.sync_data()?;
        }
        times.push(since.elapsed().as_micros() as u64);
    }
    Ok(times)
}

fn file_system_of(place: &Path) -> Option<String> {
    let place = fs::canonicalize(place).ok()?;
    parse_mounts(&fs::read_to_string("/proc/self/mountinfo").ok()?, &place)
}

/// The type of the file system that a path is in: that of the longest mount point above it, and of several there the last.
fn parse_mounts(mounts: &str, place: &Path) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        // 36 35 98:0 /root /mount/point options… - type device options (proc_pid_mountinfo(5))
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?.replace("\\040", " ");
        let kind = after.split(' ').next()?;
        if place.starts_with(&point) && best.is_none_or(|(length, _)| length <= point.len()) {
            best = Some((point.len(), kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
                      30 22 0:25 / /tmp rw - tmpfs tmpfs rw\n\
                      31 22 8:2 / /data\\040two rw master:1 - xfs /dev/sdb rw\n";
        for (path, kind) in [("/tmp/a", "tmpfs"), ("/tmpfile", "ext4"), ("/data two/x", "xfs"), ("/", "ext4")] {
            assert_eq!(parse_mounts(mounts, Path::new(path)).as_deref(), Some(kind), "{path}");
        }
    }

    /// The measurement ends, tells of each write, and leaves nothing behind.
    #[test]
    fn a_directory_is_measured_and_left_as_it_was() {
        let place = std::env::temp_dir().join(format!("trine-doctor-{}", std::process::id()));
        fs::create_dir(&place).unwrap();
        let disk = read(&place.join("not/yet"));
        let left = fs::read_dir(&place).unwrap().count();
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(disk.refused, None);
        assert!((1..=WRITES_MAX).contains(&disk.sync_us.len()), "{disk:?}");
        assert!(disk.sync_us.is_sorted());
        assert!(!disk.file_system.contains("unknown"), "{disk:?}");
        assert_eq!(left, 0);
    }
}
