//! Start of one container, and what is left to do with it afterwards.
//!
//! It talks straight to the kernel. libcontainer (youki) was the first choice and is not used, because its version 0.7
//! always creates and joins cgroups by itself and fails where they are not writable (every rootless start without
//! delegation), makes its caller undumpable, hands descriptors over by number in the caller's own table, sets no
//! parent-death signal, names mount targets by path, and needs two more forks, a socket file and a state file a start.
//!
//! ```text
//! this process                                child (PID 1)
//! init, /etc files bound; groups made
//! clone3(NEWPID|NEWNS|NEWIPC|NEWUTS, cgroup) ─▶ joins version 1 groups, own cgroup namespace, host name
//!                                             /proc /dev /sys …, pivot_root, masks
//!                                             resource limits, scheduling, cores
//!                                             system call filter, capabilities, descriptors 0–3
//!                                             parent-death signal, then: is the parent still there?
//! ◀──── a failed step in words, or the end ── exec init
//! ```
mod child;
mod etc;
mod inherited;
mod mounts;

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::MntFlags;
use nix::sched::CloneFlags;
use vessl_data::dir::Dir;

pub use crate::error::StartError;
use crate::error::os;
use crate::limits::{Cgroup, Limits, make};
use crate::rootfs::inside::{self, Make};
use crate::sys::{self, Attr, Forked, Reach};
use crate::userns;

/// Everything needed to start one container.
#[derive(Debug)]
pub struct Bundle {
    /// Unit name: container id, cgroup name.
    pub unit: String,
    /// Mounted root file system, binds applied.
    pub merged: PathBuf,
    /// Host name inside.
    pub hostname: String,
    /// Limits.
    pub limits: Limits,
    /// Whether no program inside gets rights that its caller lacks (set-user-id programs).
    pub no_new_privs: bool,
    /// BPF program ([`crate::seccomp`]) that holds for init and everything that it starts; an empty one is no filter.
    pub seccomp: Vec<u8>,
    /// The network namespace it has; without one it has the machine's network.
    pub network: Option<OwnedFd>,
    /// Device nodes of the host that are usable inside (GPUs), besides the standard ones.
    pub devices: Vec<PathBuf>,
    /// The init program on the host; bound read-only to [`INIT_PATH`] and run as PID 1 with `init_args`.
    pub init: PathBuf,
    /// Directories of the host that are shown read-only beside init, by the names that they have there.
    pub beside_init: Vec<(PathBuf, String)>,
    /// Arguments of init after its name.
    pub init_args: Vec<String>,
    /// Descriptors init gets, from 0 on: input, output, error, its socket to the supervisor, and the socket on which whoever reaches
    /// into the container asks.
    pub fds: [OwnedFd; 5],
}

/// Where init is visible inside the container.
pub const INIT_PATH: &str = "/.vessl/init";

/// A started container. Its PID 1 is a child of this process and dies with it.
#[derive(Debug)]
pub struct Container {
    /// PID of init on the host.
    pub pid: i32,
    /// Becomes readable when init ends.
    pub pidfd: OwnedFd,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// One sentence for each limit that this host does not enforce.
    pub unenforced: Vec<String>,
}

/// Starts a container. The calling process must have one thread (checked), which must live as long as the container is to
/// live, and becomes the parent (and so the reaper) of its PID 1. When this returns, init is running.
#[expect(clippy::needless_pass_by_value, reason = "the descriptors are the container's and are closed here")]
pub fn start(bundle: Bundle) -> Result<Container, StartError> {
    let threads = sys::threads().map_err(os("count the threads of this process"))?;
    if threads != 1 {
        return Err(StartError::Threads(threads));
    }
    prepare(&bundle)?;
    let groups = make::make(&bundle.unit, &bundle.limits, &bundle.devices)
        .map_err(os("make the container's cgroup"))?;
    let started = fork(&bundle, &groups);
    if started.is_err() {
        // The first error is the one to tell; an empty group left behind is removed by `remove` too.
        let _ = groups.cgroup.kill().and_then(|()| groups.cgroup.remove());
    }
    let (pid, pidfd) = started?;
    Ok(Container { pid, pidfd, cgroup: groups.cgroup, unenforced: groups.unenforced })
}

/// What can be done before the fork: a small tmpfs of ours with init and the files of `/etc`, which are bound from there.
fn prepare(bundle: &Bundle) -> Result<(), StartError> {
    let root = open_root(bundle)?;
    let own = own_files(&root).map_err(os("make a place for init in the container"))?;
    let init = sys::open_path(&bundle.init).map_err(os(format!("open `{}`", bundle.init.display())))?;
    let attr = Attr::READ_ONLY.and(Attr::NO_SUID).and(Attr::NO_DEV);
    let name = Path::new("/init");
    let shown = inside::make(&own, name, Make::File).and_then(|target| show(&init, &target, attr));
    shown.map_err(os("show init in the container"))?;
    for (dir, name) in &bundle.beside_init {
        let source = sys::open_path(dir).map_err(os(format!("open `{}`", dir.display())))?;
        let shown = inside::make(&own, &Path::new("/").join(name), Make::Dir);
        let shown = shown.and_then(|target| show(&source, &target, attr));
        shown.map_err(os(format!("show `{}` in the container", dir.display())))?;
    }
    // The directory stays writable: init puts the script there. What was bound cannot be removed or replaced.
    etc::provide(&root, &own, (&bundle.hostname, bundle.network.is_some()))
}

fn open_root(bundle: &Bundle) -> Result<Dir, StartError> {
    sys::open_path(&bundle.merged).map(Dir::from).map_err(os("open the root file system"))
}

/// Mounts an empty file system at the directory of [`INIT_PATH`].
fn own_files(root: &Dir) -> io::Result<Dir> {
    let dir = Path::new(INIT_PATH).parent().unwrap_or(Path::new("/"));
    let target = inside::make(root, dir, Make::Dir)?;
    let mount = sys::new_mount(
        "tmpfs",
        &[("mode", Some("0755")), ("size", Some("4m"))],
        Attr::NO_SUID.and(Attr::NO_DEV),
    )?;
    sys::move_mount(mount.as_fd(), target.as_fd())?;
    Ok(mount.into())
}

/// Binds one open file over another.
fn show(source: &OwnedFd, target: &OwnedFd, attr: Attr) -> io::Result<()> {
    let tree = sys::open_tree(source.as_fd(), Path::new(""), Reach::One)?;
    sys::set_attr(tree.as_fd(), attr, Reach::One)?;
    sys::move_mount(tree.as_fd(), target.as_fd())
}

fn fork(bundle: &Bundle, groups: &make::Made) -> Result<(i32, OwnedFd), StartError> {
    let what = "start the container's first process";
    let parent = sys::pidfd_open(std::process::id().cast_signed()).map_err(os(what))?;
    let (mut report, told) = io::pipe().map_err(os(what))?;
    let namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    // SAFETY: `start` has checked that this process has one thread.
    #[allow(unsafe_code)]
    let forked = unsafe { sys::clone_process(namespaces.bits(), groups.unified()) };
    let (pid, pidfd) = match forked.map_err(os(what))? {
        Forked::Child => child::run(bundle, groups, &parent, told.into()),
        Forked::Parent(pid, pidfd) => (pid, pidfd),
    };
    drop(told);
    let mut failure = Vec::new();
    report.read_to_end(&mut failure).map_err(os("hear from the container's first process"))?;
    match child::parse_failure(&failure) {
        None => Ok((pid, pidfd)),
        Some(error) => {
            let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
            Err(error)
        }
    }
}

/// Removes what [`start`] made for `unit` and a process that died may have left: processes, cgroup, mounts, `scratch`.
/// Safe to repeat, also when nothing is there. An ordinary user's call needs a process with one thread where files in
/// `scratch` belong to subordinate ids.
pub fn remove(unit: &str, scratch: &Path) -> Result<(), StartError> {
    release(unit, scratch)?;
    match remove_files(scratch) {
        // Made by a container's other users: to be removed from where those are known.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !userns::is_inside() => {
            userns::run_inside(|| remove_files(scratch))
        }
        other => other,
    }
    .map_err(os(format!("remove `{}`", scratch.display())))
}

/// The same, but for the files in `scratch`, which stay.
pub fn release(unit: &str, scratch: &Path) -> Result<(), StartError> {
    let cgroup = Cgroup::named(unit);
    cgroup.kill().map_err(os(format!("end the processes of `{unit}`")))?;
    cgroup.remove().map_err(os(format!("remove the cgroup of `{unit}`")))?;
    unmount_below(scratch)
}

fn remove_files(dir: &Path) -> io::Result<()> {
    match crate::remove::remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Detaches every mount at or below `dir` that this process sees, the innermost first.
fn unmount_below(dir: &Path) -> Result<(), StartError> {
    let Ok(dir) = std::fs::canonicalize(dir) else { return Ok(()) };
    let mounts = crate::rootfs::mountinfo::read().map_err(os("read the mounts"))?;
    for entry in mounts.iter().rev().filter(|m| m.point.starts_with(&dir)) {
        match nix::mount::umount2(&entry.point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Gone together with its parent.
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(e) => return Err(os(format!("unmount `{}`", entry.point.display()))(e.into())),
        }
    }
    Ok(())
}
