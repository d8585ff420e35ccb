//! Which cores a container runs on that has whole ones: programs count the cores that they may run on and start so many threads.
//! Cores that no other container has are taken first. Nobody keeps a list: what the others have, the kernel says of their init.
//!
//! ```text
//! a turn (a lock, so that two that start do not take the same) → cores → cpuset of the group, and affinity of init
//! ```
//! Where there is no group with a cpuset the affinity alone has the same effect, until a program changes its own.
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Limits;
use super::group::{Group, PARENT};
use super::kill::{INIT_PREFIX, is_first};
use super::make::{create, enable, legacy_dir, write_file};
use super::tree::{Hierarchy, Version};
use crate::sys::all_cores;

/// Longest wait for a turn. Without one two containers may share a core, which is all.
const TURN: Duration = Duration::from_millis(200);

/// The cores of one container, in ascending order.
#[derive(Debug)]
pub(crate) struct Cores {
    pub(crate) numbers: Vec<usize>,
    /// Held until init runs, where others see what it has.
    _turn: Option<File>,
}

/// Takes cores for a container that is limited to whole ones; nothing if it may use all that there are, or a fraction.
pub(crate) fn take(limits: &Limits, hierarchies: &[Hierarchy]) -> Option<Cores> {
    let milli = limits.cpu_milli.filter(|milli| *milli > 0 && milli % 1000 == 0)?;
    let wanted = usize::try_from(milli / 1000).ok()?;
    // A machine that does not say which there are has the quota alone.
    let all = all_cores().ok()?;
    if wanted >= all.len() {
        return None;
    }
    let turn = hierarchies.first().and_then(|hierarchy| turn(&hierarchy.mount));
    Some(Cores { numbers: pick(&all, &taken(), wanted), _turn: turn })
}

/// A lock on a directory that everybody who starts containers has.
fn turn(dir: &Path) -> Option<File> {
    let dir = File::open(dir).ok()?;
    let deadline = Instant::now() + TURN;
    while dir.try_lock().is_err() {
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Some(dir)
}

/// `wanted` of `all`, those first that the fewest others have. Who has all of them has not chosen any.
fn pick(all: &[usize], taken: &[Vec<usize>], wanted: usize) -> Vec<usize> {
    let chosen = |cores: &&Vec<usize>| cores.len() < all.len();
    let users = |core: usize| taken.iter().filter(chosen).filter(|cores| cores.contains(&core)).count();
    let mut order = all.to_vec();
    order.sort_by_key(|core| (users(*core), *core));
    order.truncate(wanted);
    order.sort_unstable();
    order
}

/// The cores of every container on this machine.
fn taken() -> Vec<Vec<usize>> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| of_init(&entry.path())).collect()
}

/// The cores of a process, if it is an init.
fn of_init(process: &Path) -> Option<Vec<usize>> {
    let command = std::fs::read(process.join("cmdline")).ok()?;
    if !command.starts_with(INIT_PREFIX.as_bytes()) {
        return None;
    }
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    is_first(&status).then(|| parse(list.trim())).flatten()
}

/// A list of the kernel's like `0-2,5`.
fn parse(list: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        all.extend(from.parse::<usize>().ok()?..=to.parse().ok()?);
    }
    Some(all)
}

impl Cores {
    fn list(&self) -> String {
        self.numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// Binds a version 1 group to these cores, if there is a hierarchy for it, and returns that.
    pub(crate) fn bind_legacy<'h>(
        &self,
        hierarchies: &'h [Hierarchy],
        unit: &str,
    ) -> io::Result<Option<&'h Hierarchy>> {
        let Some(hierarchy) = hierarchies.iter().find(|h| h.is_one_with("cpuset")) else { return Ok(None) };
        // The common parent may be removed by the end of another container in between.
        for _ in 0..16 {
            match self.fill(hierarchy, unit) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                done => return done.map(|()| Some(hierarchy)),
            }
        }
        Ok(None)
    }

    /// A new version 1 group has neither cores nor memory, and takes no process until it has.
    fn fill(&self, hierarchy: &Hierarchy, unit: &str) -> io::Result<()> {
        let parent = hierarchy.own.join(PARENT);
        let dir = legacy_dir(hierarchy, unit);
        create(&dir)?;
        let inherit = |from: &Path, to: &Path, file: &str| {
            let text = std::fs::read_to_string(from.join(file))?;
            write_file(&to.join(file), text.trim())
        };
        inherit(&hierarchy.own, &parent, "cpuset.cpus")?;
        inherit(&hierarchy.own, &parent, "cpuset.mems")?;
        inherit(&parent, &dir, "cpuset.mems")?;
        write_file(&dir.join("cpuset.cpus"), &self.list())
    }

    /// Binds a version 2 group to these cores. The controller is handed on from the top, as far as this process may.
    pub(crate) fn bind(&self, hierarchy: &Hierarchy, group: &Group) -> io::Result<()> {
        let above: Vec<_> =
            group.dir.ancestors().skip(1).take_while(|dir| dir.starts_with(&hierarchy.mount)).collect();
        debug_assert_eq!(hierarchy.version, Version::Two);
        above.into_iter().rev().try_for_each(|dir| enable(dir, &["cpuset"]))?;
        write_file(&group.dir.join("cpuset.cpus"), &self.list())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn cores_that_nobody_has_come_first() {
        let check = |all: &[usize], taken: &[&[usize]], wanted, expected: &[usize]| {
            let taken: Vec<_> = taken.iter().map(|cores| cores.to_vec()).collect();
            assert_eq!(pick(all, &taken, wanted), expected, "{wanted} of {all:?}, taken {taken:?}");
        };
        check(&[0, 1, 2, 3], &[], 2, &[0, 1]);
        check(&[0, 1, 2, 3], &[&[0, 1]], 2, &[2, 3]);
        check(&[0, 1, 2, 3], &[&[0, 2]], 2, &[1, 3]);
        check(&[0, 1, 2, 3], &[&[0, 1, 3]], 2, &[0, 2]);
        check(&[4, 6, 9], &[&[4], &[4], &[6]], 2, &[6, 9]);
        check(&[0, 1], &[&[0], &[1]], 1, &[0]);
        check(&[0, 1], &[&[0, 1], &[0, 1], &[0]], 1, &[1]);
    }

    #[test]
    fn lists_of_the_kernel() {
        assert_eq!(parse("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse("7"), Some(vec![7]));
        assert_eq!(parse(""), None);
        assert_eq!(parse("a-b"), None);
    }

    #[test]
    fn a_fraction_of_a_core_and_all_of_them_are_no_choice() {
        let of = |cpu_milli| {
            take(&Limits { cpu_milli, ..Limits::default() }, &[]).map(|cores| cores.numbers.len())
        };
        let all = all_cores().unwrap().len();
        assert_eq!([None, Some(0), Some(1500), Some(all as u64 * 1000)].map(of), [None; 4]);
        assert_eq!(of(Some(1000)), (all > 1).then_some(1));
    }

    fn cores() -> Cores {
        Cores { numbers: vec![1, 3], _turn: None }
    }

    #[test]
    fn a_version_2_group_has_the_controller_from_the_top() {
        let tree = tempfile::tempdir().unwrap();
        let dir = tree.path().join("user.slice/vessl/unit");
        fs::create_dir_all(&dir).unwrap();
        for above in ["", "user.slice", "user.slice/vessl"] {
            fs::write(tree.path().join(above).join("cgroup.subtree_control"), "").unwrap();
        }
        fs::write(dir.join("cpuset.cpus"), "").unwrap();
        let (mount, own) = (tree.path().to_owned(), tree.path().join("user.slice/session"));
        let hierarchy = Hierarchy { version: Version::Two, mount, own };
        let group = Group { version: Version::Two, dir: dir.clone() };
        cores().bind(&hierarchy, &group).unwrap();
        assert_eq!(fs::read_to_string(dir.join("cpuset.cpus")).unwrap(), "1,3");
        for above in ["", "user.slice", "user.slice/vessl"] {
            let text = fs::read_to_string(tree.path().join(above).join("cgroup.subtree_control")).unwrap();
            assert_eq!(text, "+cpuset", "{above}");
        }
        // Where it is not handed on, the affinity alone has to do.
        fs::remove_file(tree.path().join("user.slice/cgroup.subtree_control")).unwrap();
        cores().bind(&hierarchy, &group).unwrap_err();
    }

    #[test]
    fn a_version_1_group_takes_the_memory_of_the_one_above() {
        let tree = tempfile::tempdir().unwrap();
        let dir = tree.path().join("own/vessl/unit");
        fs::create_dir_all(&dir).unwrap();
        for (name, cpus, mems) in
            [("own", "0-3\n", "0-1\n"), ("own/vessl", "", ""), ("own/vessl/unit", "", "")]
        {
            fs::write(tree.path().join(name).join("cpuset.cpus"), cpus).unwrap();
            fs::write(tree.path().join(name).join("cpuset.mems"), mems).unwrap();
        }
        let own = tree.path().join("own");
        let version = Version::One(vec!["cpuset".to_owned()]);
        let hierarchies = [Hierarchy { version, mount: tree.path().to_owned(), own }];
        assert!(cores().bind_legacy(&hierarchies, "unit").unwrap().is_some());
        let read = |name: &str| fs::read_to_string(tree.path().join(name)).unwrap();
        assert_eq!([read("own/vessl/cpuset.cpus"), read("own/vessl/cpuset.mems")], ["0-3", "0-1"]);
        assert_eq!([read("own/vessl/unit/cpuset.cpus"), read("own/vessl/unit/cpuset.mems")], ["1,3", "0-1"]);
        assert!(cores().bind_legacy(&[], "unit").unwrap().is_none());
    }
}
