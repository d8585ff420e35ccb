//! Trying something in a child process, so that neither namespaces nor mounts touch the caller, which may have threads.
//!
//! Between fork and the report the child may call nothing but the kernel (another thread may have held any lock), so the
//! steps get everything they need prepared.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::mount::MsFlags;
use nix::sched::CloneFlags;

/// How a trial isolates itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum As {
    /// Root: a mount namespace.
    Root,
    /// An ordinary user: a user namespace with its own id as root, and a mount namespace.
    User,
}

/// Calls `steps` in an isolated child. It must not allocate.
pub(super) fn run(who: As, steps: impl Fn() -> nix::Result<()> + Send + Sync + 'static) -> io::Result<()> {
    let maps = [
        (c"/proc/self/setgroups", CString::new("deny")?),
        (c"/proc/self/uid_map", CString::new(format!("0 {} 1", nix::unistd::geteuid()))?),
        (c"/proc/self/gid_map", CString::new(format!("0 {} 1", nix::unistd::getegid()))?),
    ];
    let trial = move || {
        match who {
            As::Root => nix::sched::unshare(CloneFlags::CLONE_NEWNS)?,
            As::User => {
                nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
                maps.iter().try_for_each(|(file, text)| write(file, text))?;
            }
        }
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        nix::mount::mount(
            None::<&std::ffi::CStr>,
            c"/",
            None::<&std::ffi::CStr>,
            private,
            None::<&std::ffi::CStr>,
        )?;
        steps()
    };
    let mut command = Command::new("/proc/self/exe");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let report = move || match trial() {
        // Never executes anything: this number, which no step gives, says that all went well.
        Ok(()) => Err(io::Error::from_raw_os_error(DONE)),
        Err(e) => Err(io::Error::from_raw_os_error(e as i32)),
    };
    // SAFETY: the closure makes system calls only, on values prepared above.
    unsafe { command.pre_exec(report) };
    match command.spawn() {
        Err(e) if e.raw_os_error() == Some(DONE) => Ok(()),
        Err(e) => Err(e),
        Ok(mut child) => child.wait().and(Err(io::Error::other("the trial did not report"))),
    }
}

const DONE: i32 = libc::EOWNERDEAD;

fn write(file: &std::ffi::CStr, text: &CString) -> nix::Result<()> {
    // SAFETY: plain system calls on NUL-terminated strings; the descriptor is closed by the child's end.
    let written = unsafe {
        let fd = libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        libc::write(fd, text.as_ptr().cast(), text.as_bytes().len())
    };
    nix::errno::Errno::result(written).map(drop)
}
