//! Power that is lost, for real: to a file system, and to a disk with a write cache.
//!
//! `experiments/power-loss` runs this longer.

use super::{
    ledger::{Door, HABITS, Ledger},
    machine::{Device, Mount, Skip, image, run},
    modes::kill,
};
use crate::harness::{Server, random};
use std::{fs, path::Path, sync::atomic::AtomicBool, thread, time::Duration};

/// The number of power losses in each of the two ways. `LAB_POWER_LOSSES` asks for more, and then nothing may be skipped.
const LOSSES: usize = 3;

fn losses() -> Option<usize> {
    std::env::var("LAB_POWER_LOSSES").ok().and_then(|text| text.parse().ok())
}

fn check(outcome: Result<(), Skip>) {
    match outcome {
        Ok(()) => {}
        Err(reason) if losses().is_some() => panic!("{reason:?}"),
        Err(reason) => reason.report(),
    }
}

/// A file system that stops in the middle of everything loses what was not synced. Whatever a server with `always`
/// acknowledged until then is there when the file system has replayed its journal.
#[test]
fn power_loss_to_a_file_system_loses_nothing_acknowledged() {
    // With data=journal all writes go through the kernel's cache, be they direct or not.
    let options = ["rw", "data=journal"];
    let mount = |file: &Path, life: usize| Ok((Mount::ext4_with(file, options[life % 2])?, ()));
    check(lose_power("file system", mount, |mount, ()| {
        run("xfs_io", &["-x", "-c", "shutdown", &mount.join("")]).expect("it was tried before");
    }));
}

/// Power losses lose nothing acknowledged even if the disk beneath loses its write cache.
#[test]
fn power_loss_to_a_disk_loses_nothing_acknowledged() {
    check(loses_its_cache().and_then(|()| lose_power("disk", |file, _| caching(file), |_, disk| disk.lose_power())));
}

/// A file system on a disk that keeps in its cache what nobody has asked it to write.
fn caching(file: &Path) -> Result<(Mount, Device), Skip> {
    let device = Device::new(file, &["cache"], &["cache=writeback"])?;
    Ok((Mount::ext4(&device.path)?, device))
}

/// Makes sure that the disk does lose what was not synced: a test on one that doesn't would show nothing.
fn loses_its_cache() -> Result<(), Skip> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("disk");
    image(&file, 64)?;
    let (mount, mut device) = caching(&file)?;
    let path = mount.join("canary");
    let write = |more: &[&str]| {
        let to = format!("of={path}");
        run("dd", &[&["if=/dev/urandom", &to, "bs=4096", "count=1", "oflag=direct", "conv=notrunc"], more].concat())
    };
    write(&["conv=notrunc,fsync"])?;
    let synced = fs::read(&path).unwrap();
    write(&[])?;
    assert_ne!(fs::read(&path).unwrap(), synced);
    device.lose_power();
    mount.unmount();
    drop(device);
    let mount = Mount::ext4(&file)?;
    assert_eq!(fs::read(mount.path().join("canary")).unwrap(), synced, "the cache was not lost");
    Ok(())
}

fn lose_power<Disk>(
    what: &str,
    make: impl Fn(&Path, usize) -> Result<(Mount, Disk), Skip>,
    lose: impl Fn(&Mount, &mut Disk),
) -> Result<(), Skip> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("disk");
    image(&file, 512)?;
    run("xfs_io", &["-V"])?;
    let (mut random, mut ledgers) = (random(), Vec::new());
    let losses = losses().unwrap_or(LOSSES);
    for loss in 0..=losses {
        let (mount, mut disk) = make(&file, loss)?;
        let directory = mount.join("data");
        // Now with values in memory, now with values on disk: a directory may be started either way.
        let values = if loss % 4 < 2 { "memory" } else { "disk" };
        let settings = ["--dir", &directory, "--log-segment-bytes", "4mb", "--snapshot-log-bytes", "8mb"];
        let settings = [&settings[..], &["--values", values]].concat();
        let server = Server::start(2, &settings);
        for (name, door) in [("a", Door::Gateway), ("b", Door::Core(0)), ("c", Door::Core(1)), ("d", Door::Gateway)] {
            if loss == 0 {
                ledgers.push(Ledger::new(name, 60, door, &server, HABITS, random.u64(..)));
            }
        }
        ledgers.iter_mut().for_each(|ledger| ledger.check(&server));
        let acknowledged: u64 = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
        if loss == losses {
            eprintln!("{what}: power was lost {loss} times, and all of {acknowledged} acknowledged writes were there");
            assert!(50 * losses as u64 <= acknowledged, "{acknowledged} writes");
            kill(server);
            mount.unmount();
            break;
        }
        let life = Duration::from_millis(random.u64(200..1200));
        let watchers: Vec<_> = ledgers.iter().map(|ledger| (ledger.door.port(&server), ledger.watcher())).collect();
        let never = &AtomicBool::new(false);
        thread::scope(|scope| {
            for (port, watcher) in &watchers {
                let random = random.fork();
                scope.spawn(move || drop(watcher.watch(*port, never, random)));
            }
            for ledger in &mut ledgers {
                let port = ledger.door.port(&server);
                scope.spawn(move || drop(ledger.write(port, never)));
            }
            thread::sleep(life);
            if loss % 3 != 2 {
                lose(&mount, &mut disk);
                // What it still acknowledged would be missed below; most likely it has ended.
                thread::sleep(Duration::from_millis(random.u64(..50)));
            }
            kill(server);
        });
        if loss % 3 == 2 {
            // What the next server finds it tells, so it has to be there again when the power goes right then.
            let server = Server::start(2, &settings);
            ledgers.iter_mut().for_each(|ledger| ledger.check(&server));
            lose(&mount, &mut disk);
            kill(server);
        }
        mount.unmount();
        drop(disk);
    }
    Ok(())
}
