//! The probes of `vessl doctor`. Each says in one sentence what was found, or what is missing and what to do about it.
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use nix::unistd::Uid;
use vessl_core::network::Pool;

use super::trial::{self, As};
use super::{Probe, gpu};
use crate::limits::tree::{self, Version};
use crate::limits::{Limits, make};
use crate::rootfs::layer;
use crate::{network, sys, userns};

pub(super) fn all(data_dir: &Path) -> Vec<Probe> {
    let mut probes = vec![kernel(), openat2(), seccomp(), user_namespace(), subordinate_ids(), id_programs()];
    probes.extend([
        overlayfs(data_dir),
        layers(data_dir),
        cgroup(),
        limits(),
        disk(data_dir),
        git(),
        own_network(),
        nvidia(),
    ]);
    probes
}

fn own_network() -> Probe {
    let outcome = match network::look(Pool::default()) {
        Ok(()) => Ok("runs can have a network of their own (`network` in the settings)".to_owned()),
        Err(error) => Err(format!("runs have the network of this machine: {error}")),
    };
    probe("network", Needed::Wanted, outcome)
}

#[derive(Clone, Copy)]
enum Needed {
    Always,
    /// Runs work without it, worse.
    Wanted,
}

fn probe(name: &'static str, needed: Needed, outcome: Result<String, String>) -> Probe {
    let ok = outcome.is_ok();
    let (Ok(says) | Err(says)) = outcome;
    Probe { name, ok, required: matches!(needed, Needed::Always), says }
}

/// Whether this process mounts as root, or in a user namespace.
fn who() -> As {
    let mounts = sys::permitted().is_ok_and(|bits| bits & (1 << sys::CAP_SYS_ADMIN) != 0);
    if Uid::effective().is_root() && mounts { As::Root } else { As::User }
}

/// `mount_setattr`, the newest call we cannot do without.
const OLDEST: (u32, u32) = (5, 12);

fn kernel() -> Probe {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let new_enough = version(release).is_some_and(|found| found >= OLDEST);
    probe(
        "kernel",
        Needed::Always,
        if new_enough {
            Ok(format!("Linux {release}"))
        } else {
            Err(format!("Linux {release} is too old: {}.{} or newer is needed", OLDEST.0, OLDEST.1))
        },
    )
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-', '+']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn openat2() -> Probe {
    let tried = vessl_data::dir::open_plain(Path::new("/"), OFlag::O_PATH);
    probe("openat2", Needed::Always, tried.map(|_| "paths are resolved inside their root".to_owned()).map_err(|e| {
        format!("`openat2` does not work ({e}): a sandbox around this process forbids it, or the kernel is older than 5.6")
    }))
}

fn seccomp() -> Probe {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let able = ["allow", "errno", "kill_process"]
        .iter()
        .all(|a| actions.split_whitespace().any(|found| found == *a));
    probe(
        "seccomp",
        Needed::Always,
        if able {
            Ok("system calls of runs are filtered".to_owned())
        } else {
            Err("the kernel was built without seccomp filters (CONFIG_SECCOMP_FILTER)".to_owned())
        },
    )
}

fn user_namespace() -> Probe {
    let needed = if who() == As::Root { Needed::Wanted } else { Needed::Always };
    let tried = trial::run(As::User, || Ok(()));
    probe("user-namespaces", needed, tried.map(|()| "user namespaces can be made".to_owned()).map_err(|e| {
        format!(
            "no user namespace can be made ({e}): look at `sysctl user.max_user_namespaces`, \
             `kernel.unprivileged_userns_clone` and `kernel.apparmor_restrict_unprivileged_userns`; runs work as root only"
        )
    }))
}

fn subordinate_ids() -> Probe {
    if Uid::effective().is_root() {
        return probe("subordinate-ids", Needed::Wanted, Ok("not needed as root".to_owned()));
    }
    let found = userns::Ranges::of(Uid::effective());
    probe("subordinate-ids", Needed::Wanted, match found {
        Ok(Some(ranges)) => Ok(format!("{} users and {} groups", total(&ranges.uids), total(&ranges.gids))),
        Ok(None) => Err("`/etc/subuid` or `/etc/subgid` has no row for this user, so a container knows one user only: \
                         add one with `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`"
            .to_owned()),
        Err(e) => Err(e.to_string()),
    })
}

fn total(ranges: &[(u32, u32)]) -> u64 {
    ranges.iter().map(|(_, count)| u64::from(*count)).sum()
}

fn id_programs() -> Probe {
    if Uid::effective().is_root() {
        return probe("newuidmap", Needed::Wanted, Ok("not needed as root".to_owned()));
    }
    let missing: Vec<_> =
        ["newuidmap", "newgidmap"].into_iter().filter(|name| program(name).is_none()).collect();
    probe(
        "newuidmap",
        Needed::Wanted,
        if missing.is_empty() {
            Ok("`newuidmap` and `newgidmap` are there".to_owned())
        } else {
            Err(format!(
                "`{}` is missing, so a container knows one user only: install the package `uidmap`",
                missing.join("`, `")
            ))
        },
    )
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok() && file.is_file())
}

/// The data directory, or what exists of the way to it.
fn existing(dir: &Path) -> &Path {
    dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"))
}

fn overlayfs(data_dir: &Path) -> Probe {
    let dir = existing(data_dir);
    let kind = if who() == As::Root { "as root" } else { "in a user namespace" };
    probe(
        "overlayfs",
        Needed::Always,
        match try_overlay(dir) {
            Ok(()) => Ok(format!("works {kind} on the file system of `{}`", dir.display())),
            Err(e) => Err(format!(
                "does not work {kind} on the file system of `{}` ({e}): put the data directory on ext4, xfs or btrfs{}",
                dir.display(),
                if who() == As::User { " and use Linux 5.13 or newer" } else { "" },
            )),
        },
    )
}

fn try_overlay(dir: &Path) -> io::Result<()> {
    let scratch = tempfile::Builder::new().prefix(".probe-").tempdir_in(dir)?;
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(scratch.path().join(name))?;
    }
    let mut options = "lowerdir=lower,upperdir=upper,workdir=work".to_owned();
    if who() == As::User {
        options.push_str(",userxattr");
    }
    let (options, place) = (CString::new(options)?, CString::new(scratch.path().as_os_str().as_bytes())?);
    let tried = trial::run(who(), move || {
        nix::unistd::chdir(place.as_c_str())?;
        nix::mount::mount(
            Some(c"overlay"),
            c"merged",
            Some(c"overlay"),
            MsFlags::empty(),
            Some(options.as_c_str()),
        )
    });
    // overlayfs leaves this directory without any permission; an ordinary user could not remove it.
    let _ = std::fs::set_permissions(scratch.path().join("work/work"), PermissionsExt::from_mode(0o700));
    tried
}

/// Whether what imports brought can be shown to an image of any user without a copy.
fn layers(data_dir: &Path) -> Probe {
    let outcome = match who() {
        As::User => Ok("imports are copied for an image whose user is not root: only root can show files as \
                        another user's"
            .to_owned()),
        As::Root => try_layer(existing(data_dir))
            .map(|()| "imports are shown without a copy, to an image of any user".to_owned())
            .map_err(|e| {
                format!(
                    "imports are copied for an image whose user is not root, because files cannot be shown as another \
                     user's ({e}): put the data directory on ext4, xfs or btrfs and use Linux 5.19 or newer"
                )
            }),
    };
    probe("layers", Needed::Wanted, outcome)
}

fn try_layer(dir: &Path) -> io::Result<()> {
    let scratch = tempfile::Builder::new().prefix(".probe-").tempdir_in(dir)?;
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(scratch.path().join(name))?;
    }
    let lower = sys::open_path(&scratch.path().join("lower"))?;
    // Any user but root will do. The clone is seen nowhere until the child attaches it.
    let tree = layer::clone_for(&lower, &userns::root_is((1000, 1000))?)?;
    let place = CString::new(scratch.path().as_os_str().as_bytes())?;
    let tried = trial::run(As::Root, move || {
        nix::unistd::chdir(place.as_c_str())?;
        // Opened anew, in the mounts of the child.
        let lower = nix::fcntl::open(c"lower", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        sys::move_mount(tree.as_fd(), lower.as_fd())
            .map_err(|e| nix::Error::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
        nix::mount::mount(
            Some(c"overlay"),
            c"merged",
            Some(c"overlay"),
            MsFlags::empty(),
            Some(c"lowerdir=lower,upperdir=upper,workdir=work"),
        )
    });
    let _ = std::fs::set_permissions(scratch.path().join("work/work"), PermissionsExt::from_mode(0o700));
    tried
}

fn cgroup() -> Probe {
    let hierarchies = tree::hierarchies();
    let has =
        |controller: &&str| hierarchies.iter().any(|h| h.is_one_with(controller) || h.offers(controller));
    let (found, missing): (Vec<_>, Vec<_>) = ["memory", "cpu", "pids"].iter().partition(|c| has(c));
    let legacy = hierarchies.iter().any(|h| h.version != Version::Two);
    let unified = hierarchies.iter().any(|h| h.version == Version::Two);
    let version = match (legacy, unified) {
        (true, true) => "versions 1 and 2 side by side",
        (true, false) => "version 1",
        (false, true) => "version 2",
        (false, false) => "not mounted",
    };
    probe(
        "cgroup",
        Needed::Wanted,
        if missing.is_empty() {
            Ok(format!("{version}, with {}", join(&found)))
        } else {
            Err(format!(
                "{version}, without the controllers {}: limits of these kinds cannot be enforced",
                join(&missing)
            ))
        },
    )
}

fn join(names: &[&&str]) -> String {
    names.iter().map(|name| **name).collect::<Vec<_>>().join(", ")
}

/// Makes a group with every limit and removes it.
fn limits() -> Probe {
    let unit = format!("vessl-probe-{}", std::process::id());
    let wanted = Limits { cpu_milli: Some(1000), memory: Some(64 << 20), pids: Some(64) };
    let tried = make::make(&unit, &wanted, &[]).and_then(|made| made.cgroup.remove().map(|()| made.missing));
    let outcome = tried.map_err(|e| format!("no limit can be set: {e}")).and_then(|missing| {
        let legacy = missing.iter().any(|name| tree::hierarchies().iter().any(|h| h.is_one_with(name)));
        limits_words(&missing, who(), if legacy { Tree::One } else { Tree::Two })
    });
    probe("limits", Needed::Wanted, outcome)
}

/// The kind of cgroup that a limit is missing from.
#[derive(Clone, Copy)]
enum Tree {
    One,
    Two,
}

/// What is limited where groups cannot carry the limits of the controllers `missing`.
fn limits_words(missing: &[&str], who: As, tree: Tree) -> Result<String, String> {
    // An ordinary user's runs are in a user namespace, where the kernel itself counts the processes of each user.
    let limited = |name: &str| !missing.contains(&name) || (name == "pids" && who == As::User);
    let kinds = [("memory", "memory"), ("cpu", "CPU time"), ("pids", "number of processes")];
    let (held, free): (Vec<_>, Vec<_>) = kinds.into_iter().partition(|(name, _)| limited(name));
    let list = |kinds: Vec<(&str, &'static str)>| {
        kinds.into_iter().map(|(_, words)| words).collect::<Vec<_>>().join(", ")
    };
    if free.is_empty() {
        return Ok("memory, CPU time and number of processes of each run are limited".to_owned());
    }
    let remedy = match (who, tree) {
        (As::User, Tree::One) => "with cgroup version 1 only root may set limits: run the server as root",
        (As::User, Tree::Two) => {
            "start the server where cgroups are delegated: with `systemd-run --user --scope -p Delegate=yes vessl \
             server run`, or as a user service with `Delegate=yes`"
        }
        (As::Root, _) => "start the server in a cgroup that has the controllers `memory`, `cpu` and `pids`",
    };
    let limited = if held.is_empty() { String::new() } else { format!(" (limited: {})", list(held)) };
    Err(format!("not limited on this host for a run: {}{limited}; {remedy}", list(free)))
}

/// Below this an image hardly fits.
const LITTLE: u64 = 5 << 30;

fn disk(data_dir: &Path) -> Probe {
    let dir = existing(data_dir);
    let free = nix::sys::statvfs::statvfs(dir).map(|s| s.blocks_available() * s.fragment_size());
    let gib = |bytes: u64| format!("{}.{} GiB", bytes >> 30, (bytes >> 20) % 1024 * 10 / 1024);
    probe(
        "disk",
        Needed::Wanted,
        match free {
            Ok(free) if free >= LITTLE => Ok(format!("{} free at `{}`", gib(free), dir.display())),
            Ok(free) => {
                Err(format!("only {} free at `{}`: `vessl image prune` makes room", gib(free), dir.display()))
            }
            Err(e) => Err(format!("cannot look at `{}`: {e}", dir.display())),
        },
    )
}

fn git() -> Probe {
    probe(
        "git",
        Needed::Wanted,
        match program("git") {
            Some(path) => Ok(format!("`{}`", path.display())),
            None => Err("`git` is missing, so git imports do not work: install the package `git`".to_owned()),
        },
    )
}

fn nvidia() -> Probe {
    probe(
        "nvidia",
        Needed::Wanted,
        match (gpu::driver(), gpu::read()) {
            (Ok(Some(driver)), Ok(gpus)) => Ok(format!("driver {driver}, {} GPU(s)", gpus.len())),
            (Ok(None), _) => Ok("no NVIDIA driver: runs use the CPU".to_owned()),
            (Err(e), _) | (_, Err(e)) => Err(format!("the NVIDIA driver does not answer: {e}")),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_compare_as_numbers() {
        let check = |release, expected| assert_eq!(version(release), expected, "{release}");
        check("6.18.44-fc-v657", Some((6, 18)));
        check("5.4.0", Some((5, 4)));
        check("5.15-generic", Some((5, 15)));
        check("x", None);
        assert!(version("5.4.0") < Some(OLDEST) && version("5.12.1") >= Some(OLDEST));
    }

    #[test]
    fn limits_are_said_as_they_are_with_a_remedy_that_fits() {
        let check = |missing: &[&str], who, tree, expected: &[&str]| {
            let said = limits_words(missing, who, tree).unwrap_or_else(|said| format!("limited: {said}"));
            for words in expected {
                assert!(said.contains(words), "{missing:?}: {said}");
            }
        };
        let all = ["memory", "cpu", "pids"];
        let user = "not limited on this host for a run: memory, CPU time (limited: number of processes); ";
        check(
            &[],
            As::User,
            Tree::Two,
            &["memory, CPU time and number of processes of each run are limited"],
        );
        check(&all, As::User, Tree::One, &[user, "run the server as root"]);
        check(&all, As::User, Tree::Two, &[user, "`systemd-run --user"]);
        check(&["pids"], As::User, Tree::Two, &["of each run are limited"]);
        check(
            &["cpu"],
            As::User,
            Tree::Two,
            &["for a run: CPU time (limited: memory, number of processes); "],
        );
        let root = "for a run: memory, CPU time, number of processes; start the server in a cgroup";
        check(&all, As::Root, Tree::One, &[root]);
    }

    #[test]
    fn every_probe_says_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let probes = all(&dir.path().join("not/there"));
        for probe in &probes {
            assert!(!probe.says.is_empty() && !probe.says.contains('\n'), "{probe:?}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a probe left something behind");
    }
}
