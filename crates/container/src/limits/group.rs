//! One directory of one hierarchy that stands for a container. It knows the files of both versions.
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::tree::{self, Hierarchy, Version};

/// The directory that holds the groups of all containers below one position.
pub(crate) const PARENT: &str = "vessl";

/// How deep below a hierarchy's root a group is looked for.
const DEPTH: usize = 16;

/// A container's group in one hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) version: Version,
    pub(crate) dir: PathBuf,
}

/// The groups called `unit` in every hierarchy. The own position and its ancestors are looked at first; another session
/// may have made them elsewhere, so else the whole tree is walked.
pub(crate) fn find(unit: &str) -> Vec<Group> {
    if !is_unit(unit) {
        return Vec::new();
    }
    tree::hierarchies().iter().filter_map(|hierarchy| find_in(hierarchy, unit)).collect()
}

/// Whether `unit` can be the name of a directory.
pub(crate) fn is_unit(unit: &str) -> bool {
    !unit.is_empty() && unit.len() <= 200 && !unit.starts_with('.') && !unit.contains(['/', '\0', '\n'])
}

fn find_in(hierarchy: &Hierarchy, unit: &str) -> Option<Group> {
    let name = Path::new(PARENT).join(unit);
    let near = hierarchy.ancestors().map(|dir| dir.join(&name)).find(|dir| dir.is_dir());
    let dir = near.or_else(|| search(&hierarchy.mount, &name, DEPTH))?;
    Some(Group { version: hierarchy.version.clone(), dir })
}

fn search(dir: &Path, name: &Path, depth: usize) -> Option<PathBuf> {
    let found = dir.join(name);
    if found.is_dir() {
        return Some(found);
    }
    let below = depth.checked_sub(1)?;
    children(dir).into_iter().find_map(|child| search(&child, name, below))
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let is_dir = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_dir).map(|entry| entry.path()).collect()
}

impl Group {
    /// Whether no process is in it or below it.
    pub(crate) fn is_empty(&self) -> bool {
        match self.version {
            Version::Two => read_key(&self.dir.join("cgroup.events"), "populated").is_none_or(|n| n == 0),
            Version::One(_) => self.processes().is_empty(),
        }
    }

    /// The processes in it and below it, as this PID namespace numbers them.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        let mut todo = vec![self.dir.clone()];
        while let Some(dir) = todo.pop() {
            let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            todo.extend(children(&dir));
        }
        found
    }

    /// How often the kernel killed a process of it for memory; 0 without the memory controller.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = match self.version {
            Version::Two => "memory.events",
            Version::One(_) => "memory.oom_control",
        };
        read_key(&self.dir.join(file), "oom_kill").unwrap_or(0)
    }

    /// Most bytes of memory that it had at one time. The kernel counts that from 5.19 on in version 2.
    pub(crate) fn memory_peak(&self) -> Option<u64> {
        read_number(&self.dir.join(match self.version {
            Version::Two => "memory.peak",
            Version::One(_) => "memory.max_usage_in_bytes",
        }))
    }

    /// Microseconds of processor time. In version 2 every group counts them.
    pub(crate) fn cpu_micros(&self) -> Option<u64> {
        match self.version {
            Version::Two => read_key(&self.dir.join("cpu.stat"), "usage_usec"),
            Version::One(_) => read_number(&self.dir.join("cpuacct.usage")).map(|nanos| nanos / 1000),
        }
    }

    /// Removes it and what is below it, then the common parent if that was the last one.
    pub(crate) fn remove(&self) -> io::Result<()> {
        remove_tree(&self.dir)?;
        if let Some(parent) = self.dir.parent() {
            // Refused while other containers are in it.
            let _ = std::fs::remove_dir(parent);
        }
        Ok(())
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in children(dir) {
        remove_tree(&child)?;
    }
    // The kernel may still be letting go of the last process.
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match std::fs::remove_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => {
                return Err(io::Error::new(
                    e.kind(),
                    format!("cannot remove cgroup `{}`: {e}", dir.display()),
                ));
            }
            Ok(()) => return Ok(()),
        }
    }
}

fn read_number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number after `key` in a file of `key number` lines.
pub(crate) fn read_key(file: &Path, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_read_in_both_versions() {
        let check = |version: Version, files: &[(&str, &str)], expected: (Option<u64>, Option<u64>)| {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in files {
                std::fs::write(dir.path().join(name), text).unwrap();
            }
            let group = Group { version, dir: dir.path().to_owned() };
            assert_eq!((group.memory_peak(), group.cpu_micros()), expected, "{files:?}");
        };
        let one = || Version::One(vec!["memory".to_owned()]);
        check(
            Version::Two,
            &[("memory.peak", "4096\n"), ("cpu.stat", "usage_usec 1500\nuser_usec 1\n")],
            (Some(4096), Some(1500)),
        );
        check(Version::Two, &[("memory.current", "1\n")], (None, None));
        check(one(), &[("memory.max_usage_in_bytes", "8192\n")], (Some(8192), None));
        check(one(), &[("cpuacct.usage", "2500000\n")], (None, Some(2500)));
        check(one(), &[("memory.max_usage_in_bytes", "max\n")], (None, None));
    }
}
