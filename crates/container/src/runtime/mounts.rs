//! What a container finds mounted besides its files: `/proc`, `/dev`, `/sys`, its cgroup, and what of them it must not
//! see or change. Everything is attached by descriptor below the new root, before it becomes the root.
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use vessl_data::dir::{Dir, Links};

use super::{Bundle, show};
use crate::error::{StartError, os};
use crate::limits::make::Made;
use crate::rootfs::inside::{self, Make};
use crate::sys::{self, Attr, Reach};
use crate::userns;

const NO_PROGRAMS: Attr = Attr::NO_SUID.and(Attr::NO_DEV).and(Attr::NO_EXEC);
const LOOK_ONLY: Attr = NO_PROGRAMS.and(Attr::READ_ONLY);

/// Device files every container has. Only these and the ones it was given work: everything else is mounted without
/// devices, so that a node made by the container itself opens nothing.
const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Links in `/dev`.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Covered: they tell about, or change, the whole machine. Source: Docker's default for masked paths.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Not to be changed. Source: Docker's default for read-only paths.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Mounts everything below the root file system of `bundle`.
pub(crate) fn furnish(bundle: &Bundle, groups: &Made) -> Result<(), StartError> {
    let root = &super::open_root(bundle)?;
    let at = |path: &str, mount: io::Result<OwnedFd>| {
        let attached = attach(root, path, mount).map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory => {
                io::Error::new(error.kind(), "the image has something other than a directory there")
            }
            _ => error,
        });
        attached.map_err(os(format!("mount `{path}`")))
    };
    at("/proc", sys::new_mount("proc", &[], NO_PROGRAMS))?;
    at("/sys", sysfs())?;
    cgroups(root, groups);
    let options = [("mode", Some("755")), ("size", Some("64k"))];
    at("/dev", sys::new_mount("tmpfs", &options, Attr::NO_SUID.and(Attr::NO_DEV)))?;
    devices(root, bundle)?;
    at("/dev/pts", pts())?;
    at("/dev/shm", shared_memory(bundle.limits.memory))?;
    at("/dev/mqueue", sys::new_mount("mqueue", &[], NO_PROGRAMS))?;
    let null = sys::open_path(Path::new("/dev/null")).map_err(os("open `/dev/null`"))?;
    for path in MASKED {
        mask(root, path, &null).map_err(os(format!("mask `{path}`")))?;
    }
    for path in READ_ONLY {
        freeze(root, path).map_err(os(format!("make `{path}` read-only")))?;
    }
    Ok(())
}

fn attach(root: &Dir, path: &str, mount: io::Result<OwnedFd>) -> io::Result<()> {
    let target = inside::make(root, Path::new(path), Make::Dir)?;
    sys::move_mount(mount?.as_fd(), target.as_fd())
}

/// A user namespace that does not own the network namespace may not mount sysfs anew; it sees the host's.
fn sysfs() -> io::Result<OwnedFd> {
    match sys::new_mount("sysfs", &[], LOOK_ONLY) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let tree =
                sys::open_tree(sys::open_path(Path::new("/sys"))?.as_fd(), Path::new(""), Reach::Tree)?;
            sys::set_attr(tree.as_fd(), LOOK_ONLY, Reach::Tree)?;
            Ok(tree)
        }
        other => other,
    }
}

/// Shows the container its own group, where programs look for their limits. Without it they see no limits, which is no
/// reason not to start.
fn cgroups(root: &Dir, groups: &Made) {
    const BASE: &str = "/sys/fs/cgroup";
    if groups.unified_controls {
        let _ = attach(root, BASE, sys::new_mount("cgroup2", &[], LOOK_ONLY));
        return;
    }
    let Ok(tree) = sys::new_mount("tmpfs", &[("mode", Some("755")), ("size", Some("64k"))], NO_PROGRAMS)
    else {
        return;
    };
    let Ok(base) = inside::make(root, Path::new(BASE), Make::Dir) else { return };
    if sys::move_mount(tree.as_fd(), base.as_fd()).is_err() {
        return;
    }
    let shown =
        |list: &&Vec<String>| list.iter().any(|c| matches!(c.as_str(), "memory" | "cpu" | "cpuset" | "pids"));
    for controllers in groups.legacy.iter().filter(shown) {
        let flags: Vec<_> = controllers.iter().map(|c| (c.as_str(), None)).collect();
        let _ = attach(
            root,
            &format!("{BASE}/{}", controllers.join(",")),
            sys::new_mount("cgroup", &flags, LOOK_ONLY),
        );
    }
    let _ = sys::set_attr(tree.as_fd(), LOOK_ONLY, Reach::One);
}

fn devices(root: &Dir, bundle: &Bundle) -> Result<(), StartError> {
    let dev = root.resolve(Path::new("/dev"), OFlag::O_PATH, Links::InRoot);
    let dev = Dir::from(dev.map_err(|e| os("open `/dev`")(e.into()))?);
    let standard = NODES.iter().map(|name| Path::new("/dev").join(name));
    for path in standard.chain(bundle.devices.iter().cloned()) {
        device(&dev, &path).map_err(os(format!("give the container `{}`", path.display())))?;
    }
    for (name, target) in LINKS {
        nix::unistd::symlinkat(target, &dev, name)
            .map_err(|e| os(format!("make `/dev/{name}`"))(e.into()))?;
    }
    Ok(())
}

/// Binds the host's device node at the same place in the container's `/dev`.
fn device(dev: &Dir, path: &Path) -> io::Result<()> {
    let name = path
        .strip_prefix("/dev")
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "it is not below `/dev`"))?;
    let source = sys::open_path(path)?;
    let kind = nix::sys::stat::fstat(&source)?.st_mode & libc::S_IFMT;
    if kind != libc::S_IFCHR && kind != libc::S_IFBLK {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a device"));
    }
    let target = inside::make(dev, &Path::new("/").join(name), Make::File)?;
    show(&source, &target, Attr::NO_SUID.and(Attr::NO_EXEC))
}

fn pts() -> io::Result<OwnedFd> {
    let mut options = vec![("newinstance", None), ("ptmxmode", Some("0666")), ("mode", Some("0620"))];
    // Group `tty`, where it exists.
    if userns::has_group(5) {
        options.push(("gid", Some("5")));
    }
    sys::new_mount("devpts", &options, Attr::NO_SUID.and(Attr::NO_EXEC))
}

/// As large as the container's memory, against which it counts; without a limit half of the machine's.
fn shared_memory(limit: Option<u64>) -> io::Result<OwnedFd> {
    let size = limit.map(|bytes| bytes.to_string());
    let mut options = vec![("mode", Some("1777"))];
    options.extend(size.as_deref().map(|size| ("size", Some(size))));
    sys::new_mount("tmpfs", &options, NO_PROGRAMS)
}

fn mask(root: &Dir, path: &str, null: &OwnedFd) -> io::Result<()> {
    let Some(target) = inside::open(root, Path::new(path))? else { return Ok(()) };
    if sys::is_dir(&target)? {
        let mount = sys::new_mount("tmpfs", &[("size", Some("4k")), ("mode", Some("0555"))], LOOK_ONLY)?;
        return sys::move_mount(mount.as_fd(), target.as_fd());
    }
    show(null, &target, Attr::NO_SUID.and(Attr::NO_EXEC))
}

fn freeze(root: &Dir, path: &str) -> io::Result<()> {
    match inside::open(root, Path::new(path))? {
        Some(target) => show(&target, &target, LOOK_ONLY),
        None => Ok(()),
    }
}
