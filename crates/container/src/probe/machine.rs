//! Cores and memory as this process may use them: the hardware, less what the limits of its cgroups (and of every group
//! above) take away.
use std::path::Path;

use super::{Machine, gpu};
use crate::limits::tree::{self, Hierarchy, Version};
use crate::sys;

pub(super) fn read() -> Machine {
    let hierarchies = tree::hierarchies();
    let word = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    Machine {
        hostname: word("/proc/sys/kernel/hostname"),
        cpu_milli: cpu_milli(&hierarchies),
        memory: memory(&hierarchies),
        gpus: gpu::read().unwrap_or_default(),
        boot_id: word("/proc/sys/kernel/random/boot_id"),
    }
}

fn cpu_milli(hierarchies: &[Hierarchy]) -> u64 {
    // What whoever started this process had chosen says nothing about the machine.
    let cores = sys::all_cores().map_or(1, |cores| cores.len());
    let all = cores.max(1) as u64 * 1000;
    along(hierarchies, "cpu", cpu_quota).fold(all, u64::min)
}

/// Thousandths of a core that a group may use.
fn cpu_quota(version: &Version, dir: &Path) -> Option<u64> {
    let word = |file: &str| std::fs::read_to_string(dir.join(file)).ok();
    let (quota, period) = match version {
        Version::Two => word("cpu.max")?.trim().split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()))?,
        Version::One(_) => (word("cpu.cfs_quota_us")?, word("cpu.cfs_period_us")?),
    };
    quota_milli(&quota, &period)
}

/// `max` and `-1` are no quota.
fn quota_milli(quota: &str, period: &str) -> Option<u64> {
    let (quota, period): (u64, u64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    quota.checked_mul(1000)?.checked_div(period)
}

fn memory(hierarchies: &[Hierarchy]) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let physical = total_memory(&text).unwrap_or(0);
    along(hierarchies, "memory", memory_limit).fold(physical, u64::min)
}

fn memory_limit(version: &Version, dir: &Path) -> Option<u64> {
    let file = match version {
        Version::Two => "memory.max",
        Version::One(_) => "memory.limit_in_bytes",
    };
    std::fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let row = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = row.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What `read` finds in the own group and every group above it that a controller's hierarchy shows.
fn along<'a>(
    hierarchies: &'a [Hierarchy],
    controller: &'a str,
    read: impl Fn(&Version, &Path) -> Option<u64> + 'a,
) -> impl Iterator<Item = u64> + 'a {
    let carrying = hierarchies.iter().filter(move |h| h.version == Version::Two || h.is_one_with(controller));
    let groups = carrying.flat_map(|h| h.ancestors().map(move |dir| (&h.version, dir)));
    groups.filter_map(move |(version, dir)| read(version, dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_thousandths_of_a_core() {
        let check = |quota, period, expected| assert_eq!(quota_milli(quota, period), expected);
        check("max", "100000", None);
        check("-1\n", "100000\n", None);
        check("150000", "100000", Some(1500));
        check("50000\n", "100000\n", Some(500));
        check("1", "0", None);
    }

    #[test]
    fn total_memory_is_bytes() {
        assert_eq!(total_memory("MemTotal:       24684092 kB\nMemFree: 1 kB"), Some(24_684_092 * 1024));
        assert_eq!(total_memory(""), None);
    }

    #[test]
    fn this_machine_has_something() {
        let machine = read();
        assert!(machine.cpu_milli > 0 && machine.memory > 1 << 20, "{machine:?}");
        assert_eq!(machine.boot_id.len(), 36);
    }
}
