//! Disks of a test's own: small ones, slow ones, ones that fail. Made of what root may do; elsewhere their tests say that they
//! skip.

use crate::{
    harness::{Process, eventually},
    skip::skip,
};
use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// The reason why a test can't run here.
#[derive(Debug)]
pub enum Skip {
    /// Something is missing that `.ci/run` installs, or does not work: a failure where `TRINE_REQUIRE_ALL` is set.
    Missing(String),
    /// This machine does not allow it: no root, no loop devices, no Docker engine.
    Impossible(String),
}

impl Skip {
    /// Reports that a test skips, or fails where nothing may be missing.
    #[track_caller]
    pub fn report(&self) {
        match self {
            Self::Missing(what) => skip(what),
            Self::Impossible(why) => eprintln!("SKIPPED: {why}"),
        }
    }

    /// Adds what the reason is about.
    pub fn about(self, subject: &str) -> Self {
        match self {
            Self::Missing(what) => Self::Missing(format!("{subject}: {what}")),
            Self::Impossible(why) => Self::Impossible(format!("{subject}: {why}")),
        }
    }
}

/// Runs a command; its error is its standard error.
pub fn run(command: &str, arguments: &[&str]) -> Result<String, Skip> {
    let output = Command::new(command).args(arguments).output();
    let output = output.map_err(|error| Skip::Missing(format!("{command}: {error}")))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => {
            let error = String::from_utf8_lossy(&output.stderr);
            Err(Skip::Missing(format!("{command} {arguments:?}: {}", error.trim())))
        }
    }
}

/// Returns an error if this process may not use a device of the kernel.
fn has_device(path: &str) -> Result<(), Skip> {
    let device = fs::File::options().read(true).write(true).open(path);
    device.map(drop).map_err(|error| Skip::Impossible(format!("{path}: {error}")))
}

/// A file system that is mounted, and unmounted when dropped.
pub struct Mount {
    folder: TempDir,
    is_mounted: bool,
}

impl Mount {
    /// A file system in memory of so many MiB.
    pub fn tmpfs(mib: usize) -> Result<Self, Skip> {
        let size = format!("size={mib}m");
        Self::with(&["-t", "tmpfs", "-o", &size, "tmpfs"])
    }

    /// Mounts an ext4 that is on a block device, or in a file.
    pub fn ext4(device: &Path) -> Result<Self, Skip> {
        Self::ext4_with(device, "rw")
    }

    /// Mounts one with some of ext4's options.
    pub fn ext4_with(device: &Path, options: &str) -> Result<Self, Skip> {
        let is_device = device.starts_with("/dev");
        if !is_device {
            has_device("/dev/loop-control")?;
        }
        let options = format!("{}{options}", if is_device { "" } else { "loop," });
        Self::with(&["-t", "ext4", "-o", &options, device.to_str().expect("a path of ours")])
    }

    fn with(arguments: &[&str]) -> Result<Self, Skip> {
        if !rustix::process::geteuid().is_root() {
            return Err(Skip::Impossible("mounting a file system takes root".into()));
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().to_str().expect("a path of ours");
        run("mount", &[arguments, &[path]].concat()).map_err(|skip| match skip {
            // Root without the capability, as in a container.
            Skip::Missing(what) if what.contains("permission denied") => Skip::Impossible(what),
            skip => skip,
        })?;
        Ok(Self { folder, is_mounted: true })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path in it, as text.
    pub fn join(&self, name: &str) -> String {
        self.path().join(name).to_str().expect("a path of ours").to_owned()
    }

    /// Unmounts it, as soon as nobody uses it any more.
    pub fn unmount(mut self) {
        self.try_unmount();
    }

    fn try_unmount(&mut self) {
        if std::mem::take(&mut self.is_mounted) {
            let path = self.path().to_str().expect("a path of ours").to_owned();
            // A process that has been killed lets go of its files a moment later.
            eventually("it can be unmounted", || run("umount", &[&path]).ok());
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.try_unmount();
        } else if self.is_mounted {
            let _best_effort = run("umount", &["--lazy", self.path().to_str().expect("a path of ours")]);
        }
    }
}

/// A file with an empty ext4 file system of so many MiB.
pub fn image(path: &Path, mib: u64) -> Result<(), Skip> {
    let file = fs::File::create(path).and_then(|file| file.set_len(mib << 20));
    file.map_err(|error| Skip::Impossible(format!("{}: {error}", path.display())))?;
    // Without the inode tables' lazy initialisation nothing is written to it but what we write.
    let options = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", path.to_str().expect("a path of ours")];
    run("mkfs.ext4", &options).map(drop)
}

/// A block device that does what an nbdkit filter makes of a file: it fails, stands still, forgets.
pub struct Device {
    /// The block device.
    pub path: PathBuf,
    folder: TempDir,
    nbdkit: Option<Process>,
    nbdfuse: Option<Process>,
}

impl Device {
    /// A device that can be paused, and a file system on it.
    pub fn pausing(image: &Path) -> Result<(Mount, Self), Skip> {
        let device = Self::new(image, &["pause"], &["pause-control=FOLDERcontrol"])?;
        // Otherwise a write may wait for the journal before it is even under way, to note when the file was changed.
        Ok((Mount::ext4_with(&device.path, "lazytime")?, device))
    }

    /// `filters` and `parameters` as nbdkit takes them. In parameters, `FOLDER` stands for a folder of the device's own.
    pub fn new(image: &Path, filters: &[&str], parameters: &[&str]) -> Result<Self, Skip> {
        has_device("/dev/fuse")?;
        has_device("/dev/loop-control")?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path_of = |name: &str| folder.path().join(name).to_str().expect("a path of ours").to_owned();
        let (socket, disk) = (path_of("socket"), path_of("disk"));
        let mut command = Command::new("nbdkit");
        command.args(["--foreground", "--unix", &socket]);
        command.args(filters.iter().map(|filter| format!("--filter={filter}")));
        command.arg("file").arg(format!("file={}", image.display()));
        command.args(parameters.iter().map(|parameter| parameter.replace("FOLDER", &path_of(""))));
        let nbdkit = start(&mut command)?;
        eventually("nbdkit listens", || Path::new(&socket).exists().then_some(()));
        fs::write(&disk, []).expect("a temporary folder can be written to");
        let mut command = Command::new("nbdfuse");
        let mut nbdfuse = start(command.args([&disk, &format!("nbd+unix:///?socket={socket}")]))?;
        let is_there = eventually("nbdfuse shows the disk", || {
            let is_there = fs::metadata(&disk).is_ok_and(|metadata| metadata.len() != 0);
            (is_there || nbdfuse.has_ended().is_some()).then_some(is_there)
        });
        if !is_there {
            return Err(Skip::Missing(format!("nbdfuse: {}", nbdfuse.said())));
        }
        // Past the kernel's cache: a loop device that writes through it tells whoever syncs first of a write that failed, and
        // whoever syncs next that all is well.
        let device = run("losetup", &["--find", "--show", "--direct-io=on", &disk])?;
        // Linux 6.18's loop device takes a write for whole of which FUSE has written the first pieces and failed at the next
        // one. So it is given no larger pieces than FUSE writes at once.
        let name = device.trim_start_matches("/dev/");
        let limit = fs::write(format!("/sys/block/{name}/queue/max_sectors_kb"), "64");
        limit.map_err(|error| Skip::Impossible(format!("{device}'s limits can't be set: {error}")))?;
        Ok(Self { path: device.into(), folder, nbdkit: Some(nbdkit), nbdfuse: Some(nbdfuse) })
    }

    /// The path of a file in the device's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Lets nothing through, by the pause filter, until the answer is dropped: also when a test fails, since a process that
    /// waits for its disk can't be killed.
    #[must_use]
    pub fn pause(&self) -> Pause<'_> {
        self.tell(b'p');
        Pause(self)
    }

    fn tell(&self, what: u8) {
        let mut control = UnixStream::connect(self.file("control")).expect("nbdkit's pause filter listens");
        control.write_all(&[what]).expect("it can be told");
        // It answers when it is so.
        control.read_exact(&mut [0]).expect("it answers");
    }

    /// The machine that the disk is in loses power: what was not synced is gone.
    pub fn lose_power(&mut self) {
        drop(self.nbdkit.take());
    }
}

/// A device that stands still.
pub struct Pause<'a>(&'a Device);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.tell(b'r');
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _best_effort = run("losetup", &["--detach", self.path.to_str().expect("a path of ours")]);
        drop(self.nbdfuse.take());
        let _best_effort = run("fusermount3", &["-u", "-z", self.file("disk").to_str().expect("a path of ours")]);
        drop(self.nbdkit.take());
    }
}

fn start(command: &mut Command) -> Result<Process, Skip> {
    let name = command.get_program().to_string_lossy().into_owned();
    run(&name, &["--version"])?;
    Ok(Process::start(command.stdout(Stdio::null())))
}
