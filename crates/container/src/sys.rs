//! The few system calls that neither the standard library nor nix offers: mounts by descriptor, clone3, capabilities.
//!
//! Thin and total: each function is one kernel call, takes borrowed descriptors, gives owned ones, and turns the errno
//! into `io::Error`. It knows nothing of containers.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// How far a clone of a mount reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// This mount alone.
    One,
    /// And every mount below it.
    Tree,
}

/// Attributes of a mount (`MOUNT_ATTR_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attr(u64);

impl Attr {
    pub(crate) const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    pub(crate) const NO_SUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    pub(crate) const NO_DEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    pub(crate) const NO_EXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);

    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

fn cstring(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "contains a NUL byte"))
}

fn result(value: libc::c_long) -> io::Result<libc::c_long> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

fn owned(value: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(result(value)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Copies the mount that `path` (relative to `dir`) is on, with `path` as its root, into a detached mount.
pub(crate) fn open_tree(dir: BorrowedFd<'_>, path: &Path, reach: Reach) -> io::Result<OwnedFd> {
    let path = cstring(path.as_os_str().as_bytes())?;
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    flags |= (libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW).cast_unsigned();
    if reach == Reach::Tree {
        flags |= libc::AT_RECURSIVE.cast_unsigned();
    }
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// Attaches the detached mount `mount` at `target`.
pub(crate) fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let (from, to, empty) = (mount.as_raw_fd(), target.as_raw_fd(), c"".as_ptr());
    // SAFETY: both paths are the same static empty string; the descriptors are borrowed for the call.
    result(unsafe { libc::syscall(libc::SYS_move_mount, from, empty, to, empty, flags) }).map(drop)
}

/// Sets attributes of a mount (and of every mount below it) and makes it private: no mount event comes in or goes out.
pub(crate) fn set_attr(mount: BorrowedFd<'_>, set: Attr, reach: Reach) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: set.0, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    let mut flags = libc::AT_EMPTY_PATH;
    if reach == Reach::Tree {
        flags |= libc::AT_RECURSIVE;
    }
    let (fd, empty, size) = (mount.as_raw_fd(), c"".as_ptr(), size_of::<libc::mount_attr>());
    // SAFETY: `attr` is a live `mount_attr` of the size given.
    result(unsafe { libc::syscall(libc::SYS_mount_setattr, fd, empty, flags, &raw const attr, size) })
        .map(drop)
}

/// Sets attributes of a detached mount that was never attached, and lets it show every owner as the user namespace has them.
pub(crate) fn map_owners(mount: BorrowedFd<'_>, users: BorrowedFd<'_>, set: Attr) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: set.0 | libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: u64::from(users.as_raw_fd().cast_unsigned()),
    };
    let (fd, empty, size) = (mount.as_raw_fd(), c"".as_ptr(), size_of::<libc::mount_attr>());
    // SAFETY: `attr` is a live `mount_attr` of the size given.
    result(unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, empty, libc::AT_EMPTY_PATH, &raw const attr, size)
    })
    .map(drop)
}

/// Makes a new, detached mount of a file system with string options (a `None` value is a flag).
pub(crate) fn new_mount(fstype: &str, options: &[(&str, Option<&str>)], attr: Attr) -> io::Result<OwnedFd> {
    let context = open_context(fstype)?;
    for (key, value) in options {
        match value {
            Some(value) => configure(&context, libc::FSCONFIG_SET_STRING, key, value)?,
            None => configure_flag(&context, libc::FSCONFIG_SET_FLAG, Some(key))?,
        }
    }
    create(&context)?;
    mount_context(&context, attr)
}

/// Begins to make a file system. `ENODEV`: the kernel has none of this type, and no module with one either.
pub(crate) fn open_context(fstype: &str) -> io::Result<OwnedFd> {
    let name = cstring(fstype.as_bytes())?;
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), libc::FSOPEN_CLOEXEC) })
}

/// Gives a file system that is being made an option.
pub(crate) fn set_option(context: &OwnedFd, key: &str, value: &str) -> io::Result<()> {
    configure(context, libc::FSCONFIG_SET_STRING, key, value)
}

/// Makes the file system; of one on another machine this takes as long as that machine does. It allocates nothing.
pub(crate) fn create(context: &OwnedFd) -> io::Result<()> {
    configure_flag(context, libc::FSCONFIG_CMD_CREATE, None)
}

/// A detached mount of the file system that was made.
pub(crate) fn mount_context(context: &OwnedFd, attr: Attr) -> io::Result<OwnedFd> {
    let fd = context.as_raw_fd();
    // SAFETY: takes a descriptor and two numbers.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, fd, libc::FSMOUNT_CLOEXEC, attr.0) })
}

fn configure(context: &OwnedFd, command: libc::c_uint, key: &str, value: &str) -> io::Result<()> {
    let (key, value) = (cstring(key.as_bytes())?, cstring(value.as_bytes())?);
    let (fd, key, value) = (context.as_raw_fd(), key.as_ptr(), value.as_ptr());
    // SAFETY: both are NUL-terminated strings that outlive the call.
    result(unsafe { libc::syscall(libc::SYS_fsconfig, fd, command, key, value, 0) }).map(drop)
}

fn configure_flag(context: &OwnedFd, command: libc::c_uint, key: Option<&str>) -> io::Result<()> {
    let key = key.map(|k| cstring(k.as_bytes())).transpose()?;
    let pointer = key.as_ref().map_or(std::ptr::null(), |k| k.as_ptr());
    let nothing: *const libc::c_char = std::ptr::null();
    // SAFETY: the key is null or a NUL-terminated string that outlives the call; these commands take no value.
    result(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer, nothing, 0) })
        .map(drop)
}

/// Opens a directory or file as a handle for later calls (`O_PATH`), following links.
pub(crate) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// The result of [`clone_process`].
pub(crate) enum Forked {
    /// In the new process.
    Child,
    /// In the caller: process id and pidfd of the new process.
    Parent(i32, OwnedFd),
}

/// Forks into new namespaces (`CLONE_NEW*`), optionally straight into a version 2 cgroup.
///
/// # Safety
/// The calling process must have one thread, or the child must call nothing but the kernel: another thread may have held any lock.
pub(crate) unsafe fn clone_process(namespaces: i32, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is the documented "nothing asked for" of every field.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(namespaces.cast_unsigned()) | u64::from(libc::CLONE_PIDFD.cast_unsigned());
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD.cast_unsigned().into();
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd().cast_unsigned().into();
    }
    // SAFETY: `args` lives through the call, asks for no stack (fork semantics), and the caller has one thread.
    let pid =
        result(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    Ok(Forked::Parent(pid, owned(pidfd.into())?))
}

/// Source: linux/sched.h (does not fit the `c_int` of the libc crate).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A descriptor that becomes readable when process `pid` ends.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Marks every descriptor from `first` on to be closed by exec, so that no program started from now on gets what this
/// process inherited.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: takes numbers; nothing is closed before exec.
    result(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

/// Closes every descriptor but one.
pub(crate) fn close_all_but(fd: RawFd) -> io::Result<()> {
    let fd = fd.cast_unsigned();
    let before = fd.checked_sub(1).map(|last| (0, last));
    for (first, last) in before.into_iter().chain([(fd + 1, libc::c_uint::MAX)]) {
        // SAFETY: takes numbers; called only in a child that uses no other descriptor any more.
        result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    }
    Ok(())
}

/// Makes `pivot_root(".", ".")`, which stacks the old root over the new one, and detaches the old one.
pub(crate) fn pivot_here() -> io::Result<()> {
    nix::unistd::pivot_root(".", ".")?;
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")?;
    Ok(())
}

/// Bytes of a set of cores: room for 8192.
const CORES: usize = 1024;

/// The cores that the cgroups of this process allow it. Afterwards it may run on all of them, whatever its caller had chosen.
pub(crate) fn all_cores() -> io::Result<Vec<usize>> {
    run_on(0..CORES * 8)?;
    let mut bits = [0u8; CORES];
    // SAFETY: the kernel writes at most the length given.
    let size = result(unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, CORES, bits.as_mut_ptr()) })?;
    let size = usize::try_from(size).unwrap_or(0);
    Ok((0..size * 8).filter(|core| bits[core / 8] & (1 << (core % 8)) != 0).collect())
}

/// Lets this process run on these cores; those that it is not allowed are left out.
pub(crate) fn run_on(cores: impl IntoIterator<Item = usize>) -> io::Result<()> {
    let mut bits = [0u8; CORES];
    for core in cores.into_iter().filter(|core| *core < CORES * 8) {
        bits[core / 8] |= 1 << (core % 8);
    }
    // SAFETY: `bits` lives through the call and has the length given.
    result(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, CORES, bits.as_ptr()) }).map(drop)
}

/// Gives this process the scheduling of one that nobody has changed: class, niceness, class of I/O, timer slack, memory policy, large
/// pages, personality. What an ordinary user may not take back (a higher niceness) stays.
pub(crate) fn plain_scheduling() {
    /// The kernel's own default in nanoseconds. Source: `init_task.c`.
    const SLACK: libc::c_ulong = 50_000;
    const THIS_PROCESS: libc::c_int = 1; // IOPRIO_WHO_PROCESS
    // SAFETY: all zero is a valid `sched_param`: no real-time priority.
    let no_priority: libc::sched_param = unsafe { std::mem::zeroed() };
    let no_nodes: *const libc::c_ulong = std::ptr::null();
    // SAFETY: takes numbers, a live structure, and a null pointer where there are no nodes. Each is refused or done as a whole.
    unsafe {
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const no_priority);
        libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, 0);
        libc::syscall(libc::SYS_ioprio_set, THIS_PROCESS, 0, 0);
        libc::syscall(libc::SYS_set_mempolicy, libc::MPOL_DEFAULT, no_nodes, 0);
        libc::prctl(libc::PR_SET_TIMERSLACK, SLACK, 0, 0, 0);
        libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0);
        libc::personality(0);
    }
}

/// Loads a BPF program given as the bytes of a `sock_filter` array; an empty one is no filter.
pub(crate) fn load_filter(bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let mut filter: Vec<libc::sock_filter> = bytes
        .chunks_exact(8)
        .map(|b| libc::sock_filter {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        })
        .collect();
    let len = u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: `program` points to `len` instructions that live until the call returns; the kernel copies and checks them.
    let loaded =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    result(loaded).map(drop)
}

/// Joins a new, empty session keyring, so that the keys of the caller are out of reach.
pub(crate) fn new_keyring() -> io::Result<()> {
    let name: *const libc::c_char = std::ptr::null();
    // SAFETY: a null name asks for an anonymous keyring.
    result(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name) }).map(drop)
}

/// Reduces this process to the capabilities in `keep` (a bit each): bounding, permitted, effective; none inheritable or
/// ambient. Bits that the caller does not hold are left out.
pub(crate) fn keep_capabilities(keep: u64) -> io::Result<()> {
    for number in 0..64 {
        if keep & (1 << number) == 0 && !drop_bounding(number)? {
            break;
        }
    }
    let held = permitted()? & keep;
    let header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let word = |shift: u32| u32::try_from((held >> shift) & 0xffff_ffff).unwrap_or(0);
    let data =
        [0, 32].map(|shift| CapData { effective: word(shift), permitted: word(shift), inheritable: 0 });
    // SAFETY: header and data are live and of the layout that version 3 prescribes.
    result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Drops one capability from the bounding set; false if the kernel knows no such number.
fn drop_bounding(number: u32) -> io::Result<bool> {
    // SAFETY: takes numbers.
    let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
    match result(done.into()) {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The permitted capabilities of this process, a bit each.
pub(crate) fn permitted() -> io::Result<u64> {
    let header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = [CapData::default(), CapData::default()];
    // SAFETY: header and data are live and of the layout that version 3 prescribes.
    result(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}

/// `CAP_SYS_ADMIN`. Source: linux/capability.h.
pub(crate) const CAP_SYS_ADMIN: u32 = 21;

const CAP_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Resets every signal to its default action and unblocks all.
pub(crate) fn default_signals() -> io::Result<()> {
    // A kernel `struct sigaction` (handler, flags, restorer, mask); all zero is the default action. The C library's own
    // call would leave out the signals that it keeps for itself.
    let default = [0u64; 4];
    for number in 1..=64 {
        let (old, size): (*mut u64, usize) = (std::ptr::null_mut(), 8);
        // SAFETY: the structure is live and no code of ours becomes a handler; numbers that may not be changed are
        // refused, which is right.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), old, size) };
    }
    Ok(nix::sys::signal::SigSet::empty().thread_set_mask()?)
}

/// Puts a descriptor at an exact number, open across exec.
pub(crate) fn place(fd: RawFd, number: RawFd) -> io::Result<()> {
    // SAFETY: takes numbers; called only between fork and exec, where the descriptor table is ours to arrange.
    result(unsafe { libc::dup2(fd, number) }.into()).map(drop)
}

/// A copy of a descriptor whose number is at least `least`, closed by exec.
pub(crate) fn copy_above(fd: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: makes a new descriptor from a borrowed one.
    owned(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) }.into())
}

/// Waits in a forked child until somebody kills it, at the latest when the thread of `parent` that forked it ends.
pub(crate) fn wait_for_the_end(parent: nix::unistd::Pid) -> ! {
    // SAFETY: takes numbers; the parent may have died before that line.
    let bound = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    while bound == 0 && nix::unistd::getppid() == parent {
        // SAFETY: has no precondition.
        unsafe { libc::pause() };
    }
    exit_now(1)
}

/// Ends a forked child at once: no destructor, no exit function.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no precondition.
    unsafe { libc::_exit(code) }
}

/// Number of threads of this process.
pub(crate) fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Whether an open handle is a directory.
pub(crate) fn is_dir(fd: impl AsFd) -> io::Result<bool> {
    let kind = nix::sys::stat::fstat(fd)?.st_mode & libc::S_IFMT;
    Ok(kind == libc::S_IFDIR)
}
