//! Where the cgroup hierarchies of this process are mounted, found by controller and not by mount: version 1 and 2 may
//! stand side by side, and the version 2 tree may carry no controller. It reads and never writes.
use std::path::{Path, PathBuf};

use crate::rootfs::mountinfo::{self, MountEntry};

/// One hierarchy as this process can reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Version 1 or 2.
    pub(crate) version: Version,
    /// Where its file system is mounted.
    pub(crate) mount: PathBuf,
    /// The directory of this process's own group.
    pub(crate) own: PathBuf,
}

/// Kind of a hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Version 1 with the controllers bound to it.
    One(Vec<String>),
    /// The unified hierarchy.
    Two,
}

impl Hierarchy {
    /// Whether this is a version 1 hierarchy with `controller`.
    pub(crate) fn is_one_with(&self, controller: &str) -> bool {
        matches!(&self.version, Version::One(list) if list.iter().any(|c| c == controller))
    }

    /// Whether this is the unified hierarchy and `controller` is to be had in it.
    pub(crate) fn offers(&self, controller: &str) -> bool {
        let text = std::fs::read_to_string(self.mount.join("cgroup.controllers")).unwrap_or_default();
        self.version == Version::Two && text.split_whitespace().any(|c| c == controller)
    }

    /// The own group's directory and its ancestors up to the mount.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &Path> {
        self.own.ancestors().take_while(|dir| dir.starts_with(&self.mount))
    }
}

/// Every hierarchy that is mounted here.
pub(crate) fn hierarchies() -> Vec<Hierarchy> {
    let positions = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    from_text(&positions, &mountinfo::read().unwrap_or_default())
}

/// `positions` is the text of `/proc/self/cgroup`. Source: cgroups(7).
fn from_text(positions: &str, mounts: &[MountEntry]) -> Vec<Hierarchy> {
    positions.lines().filter_map(|line| from_line(line, mounts)).collect()
}

fn from_line(line: &str, mounts: &[MountEntry]) -> Option<Hierarchy> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, position) = (fields.next()?, Path::new(fields.next()?));
    let version = match controllers {
        "" => Version::Two,
        named if named.starts_with("name=") => return None,
        list => Version::One(list.split(',').map(str::to_owned).collect()),
    };
    let entry = mounts.iter().find(|m| carries(m, &version))?;
    // A position outside what is mounted (`/..`, or another subtree) leaves the mount's own root.
    let below = position.strip_prefix(&entry.root).unwrap_or(Path::new(""));
    let outside = below.components().any(|c| c.as_os_str() == "..");
    let own = if outside { entry.point.clone() } else { entry.point.iter().chain(below.iter()).collect() };
    Some(Hierarchy { version, mount: entry.point.clone(), own })
}

fn carries(mount: &MountEntry, version: &Version) -> bool {
    match version {
        Version::Two => mount.fstype == "cgroup2",
        Version::One(list) => {
            mount.fstype == "cgroup" && list.iter().all(|c| mount.options.split(',').any(|o| o == c))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(positions: &str, mounts: &str, expected: &[(&str, &str)]) {
        let found = from_text(positions, &mountinfo::parse(mounts));
        let found: Vec<_> = found
            .iter()
            .map(|h| {
                let name = match &h.version {
                    Version::One(list) => list.join(","),
                    Version::Two => "v2".to_owned(),
                };
                (name, h.own.display().to_string())
            })
            .collect();
        let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn hierarchies_are_found_by_controller() {
        let unified = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        check("0::/user.slice/a.scope\n", unified, &[("v2", "/sys/fs/cgroup/user.slice/a.scope")]);
        check("0::/\n", unified, &[("v2", "/sys/fs/cgroup")]);
        check("0::/../x\n", unified, &[("v2", "/sys/fs/cgroup")]);
        let hybrid = "32 31 0:29 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /cg/unified rw - cgroup2 cgroup2 rw\n";
        check(
            "4:memory:/a/b\n3:cpu,cpuacct:/\n2:pids:/\n1:name=systemd:/\n0::/\n",
            hybrid,
            &[("memory", "/cg/memory/a/b"), ("cpu,cpuacct", "/cg/cpu,cpuacct"), ("v2", "/cg/unified")],
        );
        let nested = "35 31 0:32 /docker/1 /cg/memory ro - cgroup cgroup rw,memory\n";
        check("4:memory:/docker/1\n", nested, &[("memory", "/cg/memory")]);
        check("4:memory:/docker/1/x\n", nested, &[("memory", "/cg/memory/x")]);
    }
}
