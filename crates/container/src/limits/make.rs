//! Makes the groups of a container and writes its limits; says in words which limit this host does not enforce.
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::cores::{self, Cores};
use super::group::{Group, PARENT, is_unit};
use super::tree::{self, Hierarchy, Version};
use super::{Cgroup, Limits, devices};
use crate::userns;

/// Groups that a new process can be put into.
#[derive(Debug)]
pub(crate) struct Made {
    /// The container's cgroup.
    pub(crate) cgroup: Cgroup,
    /// The unified group, to fork into.
    unified: Option<OwnedFd>,
    /// `tasks` of each version 1 group; a process with one thread joins by writing `0`. (Through `cgroup.procs` the kernel
    /// would first wait for an RCU grace period, some milliseconds, to hold off threads that are being made.)
    joins: Vec<File>,
    /// Whether the limit of processes is left to the kernel's count for each user of a user namespace.
    pub(crate) counts_users: bool,
    /// One sentence for each limit that is not enforced.
    pub(crate) unenforced: Vec<String>,
    /// The controllers of these limits.
    pub(crate) missing: Vec<&'static str>,
    /// Controllers of version 1 that the container is in.
    pub(crate) legacy: Vec<Vec<String>>,
    /// Whether the unified group carries a controller.
    pub(crate) unified_controls: bool,
    cores: Option<Cores>,
}

/// One limit and the files that set it.
struct Rule {
    controller: &'static str,
    what: String,
    one: Vec<(&'static str, String)>,
    two: Vec<(&'static str, String)>,
}

/// The period of the CPU quota in microseconds, the kernel's default.
const CPU_PERIOD: u64 = 100_000;

fn rules(limits: &Limits) -> Vec<Rule> {
    let memory = limits.memory.map(|bytes| Rule {
        controller: "memory",
        what: format!("memory limit of {} MiB", bytes >> 20),
        one: vec![
            ("memory.limit_in_bytes", bytes.to_string()),
            ("memory.memsw.limit_in_bytes", bytes.to_string()),
        ],
        two: vec![("memory.max", bytes.to_string()), ("memory.swap.max", "0".to_owned())],
    });
    let cpu = limits.cpu_milli.map(|milli| {
        // The kernel takes no quota below 1 ms.
        let quota = (milli * CPU_PERIOD / 1000).max(1000);
        Rule {
            controller: "cpu",
            what: format!("CPU limit of {}.{:03} cores", milli / 1000, milli % 1000),
            one: vec![("cpu.cfs_period_us", CPU_PERIOD.to_string()), ("cpu.cfs_quota_us", quota.to_string())],
            two: vec![("cpu.max", format!("{quota} {CPU_PERIOD}"))],
        }
    });
    let pids = limits.pids.map(|count| Rule {
        controller: "pids",
        what: format!("limit of {count} processes"),
        one: vec![("pids.max", count.to_string())],
        two: vec![("pids.max", count.to_string())],
    });
    [memory, cpu, pids].into_iter().flatten().collect()
}

/// Makes the groups of `unit` in every hierarchy that serves a purpose: the unified one (to kill by) and, for each limit,
/// the one that carries its controller; and restricts devices to the standard ones and `nodes`. Never fails for want of permission: what is missing is in `unenforced`.
pub(crate) fn make(unit: &str, limits: &Limits, nodes: &[PathBuf]) -> io::Result<Made> {
    if !is_unit(unit) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{unit}` cannot name a cgroup")));
    }
    let hierarchies = tree::hierarchies();
    let rules = rules(limits);
    let mut made = Made {
        cgroup: Cgroup::named(unit),
        unified: None,
        joins: Vec::new(),
        counts_users: false,
        unenforced: Vec::new(),
        missing: Vec::new(),
        legacy: Vec::new(),
        unified_controls: false,
        cores: cores::take(limits, &hierarchies),
    };
    let unified = hierarchies.iter().find(|h| h.version == Version::Two);
    let group = unified.and_then(|h| make_unified(h, unit, &rules));
    made.bind(&hierarchies, group.as_ref(), unit);
    if let Some(group) = &group {
        made.unified = Some(open_dir(&group.dir)?);
        made.unified_controls = !controllers(&group.dir).is_empty();
    }
    made.legacy_groups(&hierarchies, unit, &rules, group.is_some());
    if let Some(hierarchy) = hierarchies.iter().find(|h| h.is_one_with("devices")) {
        devices::restrict(&legacy_dir(hierarchy, unit), nodes)?;
    }
    for rule in &rules {
        made.apply(rule, &hierarchies, group.as_ref(), unit);
    }
    Ok(made)
}

impl Made {
    /// The unified group, to fork into.
    pub(crate) fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Puts the calling process into the version 1 groups.
    pub(crate) fn join(&self) -> io::Result<()> {
        self.joins.iter().try_for_each(|mut tasks| tasks.write_all(b"0"))
    }

    /// The cores that the container shall run on; nothing if it may run on all.
    pub(crate) fn cores(&self) -> Option<&[usize]> {
        self.cores.as_ref().map(|cores| &*cores.numbers)
    }

    /// Binds the groups to the container's cores where that is possible; its affinity does the same where it is not.
    fn bind(&mut self, hierarchies: &[Hierarchy], unified: Option<&Group>, unit: &str) {
        let Some(cores) = &self.cores else { return };
        match cores.bind_legacy(hierarchies, unit) {
            Ok(Some(hierarchy)) => self.enter(hierarchy, unit),
            Ok(None) => {
                let two = hierarchies.iter().find(|h| h.version == Version::Two);
                let _ = two.zip(unified).map(|(hierarchy, group)| cores.bind(hierarchy, group));
            }
            Err(_) => {}
        }
    }

    /// Makes the version 1 group, for the container to enter it. It is no failure where there can be none.
    fn enter(&mut self, hierarchy: &Hierarchy, unit: &str) {
        let dir = legacy_dir(hierarchy, unit);
        let opened = create(&dir).and_then(|()| File::options().write(true).open(dir.join("tasks")));
        if let (Ok(tasks), Version::One(list)) = (opened, &hierarchy.version) {
            self.joins.push(tasks);
            self.legacy.push(list.clone());
        }
    }

    fn legacy_groups(&mut self, hierarchies: &[Hierarchy], unit: &str, rules: &[Rule], unified: bool) {
        let wanted = |h: &&Hierarchy| {
            rules.iter().any(|r| h.is_one_with(r.controller))
                || h.is_one_with("devices")
                || (!unified && (h.is_one_with("freezer") || h.is_one_with("cpuacct")))
        };
        let bound = self.legacy.clone();
        for hierarchy in hierarchies.iter().filter(wanted) {
            // One that carries the cpuset too was entered before.
            if !bound.iter().any(|list| hierarchy.version == Version::One(list.clone())) {
                self.enter(hierarchy, unit);
            }
        }
    }

    fn apply(&mut self, rule: &Rule, hierarchies: &[Hierarchy], unified: Option<&Group>, unit: &str) {
        let legacy = hierarchies.iter().find(|h| h.is_one_with(rule.controller));
        let written = match (legacy, unified) {
            (Some(hierarchy), _) => write_all(&legacy_dir(hierarchy, unit), &rule.one),
            (None, Some(group)) => write_all(&group.dir, &rule.two),
            (None, None) => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        if let Err(e) = written {
            // The kernel does not count the processes of the machine's own root.
            if rule.controller == "pids" && userns::is_inside() {
                self.counts_users = true;
                return;
            }
            let why = match e.kind() {
                io::ErrorKind::NotFound => {
                    format!("no cgroup with the `{}` controller can be made here", rule.controller)
                }
                _ => e.to_string(),
            };
            self.missing.push(rule.controller);
            self.unenforced.push(format!("the {} is not enforced: {why}", rule.what));
        }
    }
}

pub(super) fn legacy_dir(hierarchy: &Hierarchy, unit: &str) -> PathBuf {
    hierarchy.own.join(PARENT).join(unit)
}

/// Creates a group; the common parent may be removed by the end of another container in between.
pub(super) fn create(dir: &Path) -> io::Result<()> {
    for _ in 0..16 {
        match std::fs::create_dir_all(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    Err(io::Error::from(io::ErrorKind::NotFound))
}

fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open(dir, OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}

pub(super) fn write_file(file: &Path, text: &str) -> io::Result<()> {
    File::options().write(true).open(file)?.write_all(text.as_bytes())
}

/// Writes the values; a swap file that the kernel does not offer is no limit missed (there is then no swap accounting).
fn write_all(dir: &Path, values: &[(&str, String)]) -> io::Result<()> {
    for (file, text) in values {
        match write_file(&dir.join(file), text) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && is_swap(file) => {}
            other => other?,
        }
    }
    Ok(())
}

fn is_swap(file: &str) -> bool {
    file.contains("memsw") || file.contains("swap")
}

fn controllers(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Makes the unified group: below the nearest ancestor that can hand on every controller needed (else as many as were
/// handed to us), else wherever a group can be made at all (to kill by), else nowhere.
fn make_unified(hierarchy: &Hierarchy, unit: &str, rules: &[Rule]) -> Option<Group> {
    let offered = controllers(&hierarchy.mount);
    let handed = controllers(&hierarchy.own);
    let mut needed: Vec<_> =
        rules.iter().map(|r| r.controller).filter(|c| offered.iter().any(|o| o == c)).collect();
    // A group that another user made may hand everything on, but not to us.
    let made = |dir: &Path| {
        let dir = dir.join(PARENT).join(unit);
        create(&dir).is_ok().then_some(dir)
    };
    let able = |needed: &[&str]| {
        hierarchy.ancestors().find_map(|dir| hand_on(dir, needed).ok().and_then(|()| made(dir)))
    };
    let mut dir = able(&needed);
    if dir.is_none() {
        needed.retain(|c| handed.iter().any(|h| h == c));
        dir = able(&needed);
    }
    let dir = dir
        .or_else(|| evacuate(&hierarchy.own, &needed).ok().and_then(|()| made(&hierarchy.own)))
        .or_else(|| hierarchy.ancestors().find_map(made))?;
    Some(Group { version: Version::Two, dir })
}

/// Makes `dir/vessl` and hands the controllers on through both. Refused by the kernel (EBUSY) while `dir` itself holds
/// processes. Source: Documentation/admin-guide/cgroup-v2.rst, "No Internal Process Constraint".
fn hand_on(dir: &Path, needed: &[&str]) -> io::Result<()> {
    let parent = dir.join(PARENT);
    create(&parent)?;
    let handed = [dir, &parent].iter().try_for_each(|dir| enable(dir, needed));
    if handed.is_err() {
        let _ = std::fs::remove_dir(&parent);
    }
    handed
}

pub(super) fn enable(dir: &Path, needed: &[&str]) -> io::Result<()> {
    let file = dir.join("cgroup.subtree_control");
    let already = std::fs::read_to_string(&file)?;
    let missing: Vec<_> = needed.iter().filter(|c| !already.split_whitespace().any(|a| a == **c)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    write_file(&file, &missing.iter().map(|c| format!("+{c}")).collect::<Vec<_>>().join(" "))
}

/// In a group that was delegated to us as a whole (a container's or a service's root) the processes stand where the
/// controllers must be handed on: they are moved one level down, as the kernel's documentation prescribes.
fn evacuate(own: &Path, needed: &[&str]) -> io::Result<()> {
    let leaf = own.join("vessl-host");
    std::fs::create_dir_all(&leaf)?;
    for _ in 0..8 {
        let processes = std::fs::read_to_string(own.join("cgroup.procs"))?;
        for pid in processes.lines() {
            // One that ended in between cannot be moved and need not be.
            let _ = write_file(&leaf.join("cgroup.procs"), pid);
        }
        if hand_on(own, needed).is_ok() {
            return Ok(());
        }
    }
    let _ = std::fs::remove_dir(&leaf);
    Err(io::Error::from(io::ErrorKind::ResourceBusy))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const WANTED: Limits = Limits { cpu_milli: Some(1500), memory: Some(64 << 20), pids: Some(20) };

    /// A version 2 tree of plain files: groups by path with what `cgroup.controllers` and `cgroup.subtree_control` say;
    /// where the latter is `-`, a group holds processes and hands nothing on.
    fn tree(groups: &[(&str, &str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, offered, handed) in groups {
            let group = dir.path().join(path);
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join("cgroup.controllers"), offered).unwrap();
            fs::write(group.join("cgroup.procs"), "").unwrap();
            match *handed {
                // What cannot be written to.
                "-" => {
                    std::os::unix::fs::symlink("/proc/self/status", group.join("cgroup.subtree_control"))
                        .unwrap();
                }
                text => fs::write(group.join("cgroup.subtree_control"), text).unwrap(),
            }
            for file in ["memory.max", "memory.swap.max", "cpu.max", "pids.max"] {
                fs::write(group.join(file), "max").unwrap();
            }
        }
        dir
    }

    /// The group's place below the tree, and the limits that were not enforced.
    fn made(tree: &Path, own: &str) -> (Option<String>, Vec<String>) {
        let own = tree.join(own);
        let hierarchy = Hierarchy { version: Version::Two, mount: tree.to_owned(), own };
        let rules = rules(&WANTED);
        let group = make_unified(&hierarchy, "unit", &rules);
        let mut made = Made {
            cgroup: Cgroup::named("unit"),
            unified: None,
            joins: Vec::new(),
            counts_users: false,
            unenforced: Vec::new(),
            missing: Vec::new(),
            legacy: Vec::new(),
            unified_controls: false,
            cores: None,
        };
        for rule in &rules {
            made.apply(rule, std::slice::from_ref(&hierarchy), group.as_ref(), "unit");
        }
        let place = group.map(|g| g.dir.strip_prefix(tree).unwrap().display().to_string());
        (place, made.unenforced)
    }

    const ALL: &str = "cpu memory pids";

    #[test]
    fn the_nearest_group_that_hands_controllers_on_is_used() {
        let dir = tree(&[
            ("", ALL, "memory"),
            ("vessl", ALL, "memory"),
            ("vessl/unit", ALL, ""),
            ("user", ALL, ""),
            ("user/vessl", ALL, ""),
            ("user/vessl/unit", ALL, ""),
            ("user/session", ALL, "-"),
        ]);
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(made(dir.path(), "user/session"), (Some("user/vessl/unit".to_owned()), Vec::new()));
        for group in ["user", "user/vessl"] {
            assert_eq!(read(&format!("{group}/cgroup.subtree_control")), "+memory +cpu +pids");
        }
        let limits = ["memory.max", "memory.swap.max", "cpu.max", "pids.max"]
            .map(|file| read(&format!("user/vessl/unit/{file}")));
        // A shorter text leaves the end of the longer one in a plain file.
        assert_eq!(limits, ["67108864", "0ax", "150000 100000", "20x"]);
        assert_eq!(made(dir.path(), ""), (Some("vessl/unit".to_owned()), Vec::new()));
        assert!(read("cgroup.subtree_control").starts_with("+cpu +pids"));
    }

    #[test]
    fn a_limit_whose_controller_is_not_handed_on_is_said() {
        let dir = tree(&[
            ("", "memory pids", "-"),
            ("own", "memory", ""),
            ("own/vessl", "memory", ""),
            ("own/vessl/unit", "memory", ""),
        ]);
        for file in ["cpu.max", "pids.max"] {
            fs::remove_file(dir.path().join("own/vessl/unit").join(file)).unwrap();
        }
        let (place, unenforced) = made(dir.path(), "own");
        assert_eq!(place.as_deref(), Some("own/vessl/unit"));
        let said = unenforced.join("\n");
        for (what, controller) in [("CPU limit of 1.500 cores", "cpu"), ("limit of 20 processes", "pids")] {
            let words = format!(
                "the {what} is not enforced: no cgroup with the `{controller}` controller can be made here"
            );
            assert!(said.contains(&words), "{said}");
        }
        assert_eq!(unenforced.len(), 2);
    }

    #[test]
    fn the_kernel_hands_controllers_on_and_takes_groups_away() {
        let real = tree::hierarchies().into_iter().find(|h| h.version == Version::Two);
        let root = real.expect("needs a mounted cgroup2 file system").mount;
        // One test of the machine at a time changes what the root hands on.
        let turn = File::open(&root).unwrap();
        turn.lock().unwrap();
        // With whatever controller it has; where version 1 has them all, with none.
        let offered = controllers(&root);
        let needed: Vec<_> = offered.iter().map(String::as_str).take(1).collect();
        let before = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap();
        let dir = root.join(format!("vessl-test-{}", std::process::id()));
        fs::create_dir(&dir).expect("needs root: run the tests as root");
        enable(&root, &needed).unwrap();
        hand_on(&dir, &needed).unwrap();
        let unit = dir.join(PARENT).join("unit");
        create(&unit).unwrap();
        assert!(needed.iter().all(|name| controllers(&unit).iter().any(|c| c == name)));
        let group = Group { version: Version::Two, dir: unit };
        assert!(group.is_empty());
        group.remove().unwrap();
        assert!(!dir.join(PARENT).exists(), "the last group takes the common parent along");
        fs::remove_dir(&dir).unwrap();
        for name in needed.iter().filter(|name| !before.split_whitespace().any(|b| b == **name)) {
            write_file(&root.join("cgroup.subtree_control"), &format!("-{name}")).unwrap();
        }
    }
}
