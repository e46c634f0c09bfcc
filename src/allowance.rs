//! CPU quotas of control groups, which limit the CPU time of a process.
//!
//! A container that was given "1.5 CPUs" still sees every CPU of its host. The limit is a quota of time in each period, in the
//! files of its control group: `cpu.max` in version 2, `cpu.cfs_quota_us` and `cpu.cfs_period_us` in version 1.

use std::{
    num::NonZeroU64,
    path::{Component, Path, PathBuf},
};

/// So much CPU time in each period.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quota {
    /// The time of all threads together in a period.
    pub quota_us: u64,
    /// The period.
    pub period_us: NonZeroU64,
}

impl Quota {
    /// Reads `cpu.max`: `150000 100000`, or `max 100000` where there is no limit.
    pub fn from_v2(cpu_max: &str) -> Option<Self> {
        let (quota, period) = cpu_max.trim().split_once(' ')?;
        Self::from_v1(quota, period)
    }

    /// Reads `cpu.cfs_quota_us`, which is -1 where there is no limit, and `cpu.cfs_period_us`.
    pub fn from_v1(quota: &str, period: &str) -> Option<Self> {
        Some(Self { quota_us: quota.trim().parse().ok()?, period_us: period.trim().parse().ok()? })
    }

    /// Returns the number of CPUs that can work under it: a part of a CPU counts as one.
    pub fn cpus(self) -> usize {
        usize::try_from(self.quota_us.div_ceil(self.period_us.get())).unwrap_or(usize::MAX).max(1)
    }
}

/// The directory of a process's control group, and the version of its files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Group {
    /// Version 1, with the controllers `cpu` and others.
    V1(PathBuf),
    /// Version 2.
    V2(PathBuf),
}

/// Finds the folders whose limits hold for a process: its own group's, and those that this lies in, as far as they can be seen.
/// `cgroup` is /proc/self/cgroup, `mountinfo` /proc/self/mountinfo (proc(5), cgroups(7)).
pub fn groups(cgroup: &str, mountinfo: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for line in cgroup.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(hierarchy), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let is_v2 = hierarchy == "0" && controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|controller| controller == "cpu") {
            continue;
        }
        for (root, point) in mounts(mountinfo, is_v2) {
            let make = if is_v2 { Group::V2 } else { Group::V1 };
            groups.extend(folders(Path::new(group), root, point).into_iter().map(make));
        }
    }
    groups
}

/// The control groups that are mounted: which group, and where.
fn mounts(mountinfo: &str, v2: bool) -> impl Iterator<Item = (&Path, &Path)> {
    mountinfo.lines().filter_map(move |line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        let is_wanted = match v2 {
            true => kind == "cgroup2",
            false => kind == "cgroup" && options.split(',').any(|option| option == "cpu"),
        };
        is_wanted.then(|| (Path::new(root), Path::new(point)))
    })
}

/// The folders of a group and of those above it, below a mount that shows `root` at `point`. A container's namespace may
/// hide where its group lies (`/../..`): then the mount itself is what it has.
fn folders(group: &Path, root: &Path, point: &Path) -> Vec<PathBuf> {
    let below = group.strip_prefix(root).unwrap_or(Path::new(""));
    let is_plain = below.components().all(|part| matches!(part, Component::Normal(_)));
    let below = if is_plain { below } else { Path::new("") };
    below.ancestors().map(|part| if part == Path::new("") { point.to_owned() } else { point.join(part) }).collect()
}

/// Returns the number of cores to use of `cpus` that the process may run on, with these quotas.
pub fn cores(cpus: usize, quotas: &[Quota]) -> usize {
    quotas.iter().map(|quota| quota.cpus()).fold(cpus, usize::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shard for each CPU that can be kept busy, or busy in part; never none, never more than may be run on.
    #[test]
    fn cores_follow_the_quota() {
        for (cpus, cpu_max, expected) in [
            (8, "max 100000", 8),
            (8, "800000 100000", 8),
            (8, "400000 100000\n", 4),
            (8, "150000 100000", 2),
            (8, "50000 100000", 1),
            (8, "1000 100000", 1),
            (8, "0 100000", 1),
            (2, "1600000 100000", 2),
            (8, "25000 50000", 1),
            (8, "nonsense", 8),
            (8, "100000 0", 8),
            (8, "", 8),
        ] {
            let quotas: Vec<_> = Quota::from_v2(cpu_max).into_iter().collect();
            assert_eq!(cores(cpus, &quotas), expected, "{cpus} CPUs, {cpu_max}");
        }
        assert_eq!(Quota::from_v1("-1\n", "100000\n"), None);
        assert_eq!(Quota::from_v1("150000\n", "100000\n").map(Quota::cpus), Some(2));
        let quotas = ["300000 100000", "200000 100000"].map(|text| Quota::from_v2(text).unwrap());
        assert_eq!(cores(8, &quotas), 2, "the smallest of those above each other counts");
    }

    const V1_MOUNTS: &str = "\
        31 25 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n\
        32 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct\n";

    #[test]
    fn groups_are_found_in_both_versions() {
        let v2 = |path: &str| Group::V2(path.into());
        let v1 = |path: &str| Group::V1(path.into());
        let v2_mount = "30 24 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        for (cgroup, mountinfo, expected) in [
            // A service of systemd's.
            (
                "0::/system.slice/trine.service\n",
                v2_mount,
                vec![
                    v2("/sys/fs/cgroup/system.slice/trine.service"),
                    v2("/sys/fs/cgroup/system.slice"),
                    v2("/sys/fs/cgroup"),
                ],
            ),
            // A container with a namespace of its own.
            ("0::/\n", v2_mount, vec![v2("/sys/fs/cgroup")]),
            ("0::/../other\n", v2_mount, vec![v2("/sys/fs/cgroup")]),
            // On a host with version 1.
            (
                "5:memory:/a\n4:cpu,cpuacct:/docker/17\n0::/x\n",
                V1_MOUNTS,
                vec![
                    v1("/sys/fs/cgroup/cpu,cpuacct/docker/17"),
                    v1("/sys/fs/cgroup/cpu,cpuacct/docker"),
                    v1("/sys/fs/cgroup/cpu,cpuacct"),
                ],
            ),
            // In a container with version 1: its own group is all that is mounted.
            (
                "4:cpu,cpuacct:/docker/17\n",
                "32 25 0:28 /docker/17 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n",
                vec![v1("/sys/fs/cgroup/cpu,cpuacct")],
            ),
            ("4:cpuset:/a\n", V1_MOUNTS, vec![]),
            ("", "", vec![]),
        ] {
            assert_eq!(groups(cgroup, mountinfo), expected, "{cgroup}");
        }
    }
}
