//! Limits of this process's control group, in both versions of control groups.

use std::{fs, path::Path};

const ROOT: &str = "/sys/fs/cgroup";

/// Returns the number of CPUs that the group's quota allows: the tightest quota between this group and the root.
pub(super) fn cpu_quota() -> Option<f64> {
    let two = files(None, "cpu.max").filter_map(|text| parse_cpu_max(&text));
    let quotas = files(Some("cpu"), "cpu.cfs_quota_us").zip(files(Some("cpu"), "cpu.cfs_period_us"));
    let one = quotas.filter_map(|(quota, period)| parse_cpu_max(&format!("{} {}", quota.trim(), period.trim())));
    two.chain(one).min_by(f64::total_cmp)
}

/// Returns the limit of memory, in bytes.
pub(super) fn memory_limit() -> Option<u64> {
    let texts = files(None, "memory.max").chain(files(Some("memory"), "memory.limit_in_bytes"));
    texts.filter_map(|text| text.trim().parse().ok()).min()
}

/// `quota period`, where the quota may be `max`, or -1 in the first version.
fn parse_cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (0.0 < quota && 0.0 < period).then(|| quota / period)
}

/// The texts of a file in this process's group and in all above it. A container sees its own group as the root.
fn files(controller: Option<&str>, file: &str) -> impl Iterator<Item = String> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group_of(&groups, controller).unwrap_or_default();
    let root = controller.map_or(Path::new(ROOT).to_owned(), |controller| Path::new(ROOT).join(controller));
    let place = root.join(group.trim_start_matches('/'));
    let places = place.ancestors().take_while(|place| place.starts_with(&root)).map(|place| place.join(file));
    places.filter_map(|path| fs::read_to_string(path).ok()).collect::<Vec<_>>().into_iter()
}

/// The path of the group in `/proc/self/cgroup`: of a controller of the first version, or in the second.
fn group_of(groups: &str, controller: Option<&str>) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let is_it = match controller {
            None => controllers.is_empty(),
            Some(name) => controllers.split(',').any(|controller| controller == name),
        };
        is_it.then(|| path.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_read_in_both_versions() {
        for (text, quota) in [
            ("max 100000\n", None),
            ("150000 100000\n", Some(1.5)),
            ("-1 100000", None),
            ("50000 100000", Some(0.5)),
            ("", None),
        ] {
            assert_eq!(parse_cpu_max(text), quota, "{text:?}");
        }
    }

    #[test]
    fn groups_are_found_by_controller() {
        let groups = "4:memory:/docker/a\n3:cpu,cpuacct:/docker/b\n0::/user.slice\n";
        for (controller, group) in
            [(Some("cpu"), Some("/docker/b")), (Some("memory"), Some("/docker/a")), (None, Some("/user.slice"))]
        {
            assert_eq!(group_of(groups, controller).as_deref(), group);
        }
        assert_eq!(group_of(groups, Some("cpuset")), None);
    }
}
