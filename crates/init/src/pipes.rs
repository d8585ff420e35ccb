//! Who of a pipeline only waits for the end of another's output. The kernel shows the descriptors of a process to its own user, so
//! a child that becomes that user looks.
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, Pid};

use crate::account::Account;

/// Those of `processes` whose standard input is a pipe that another of them writes its output to, or the shell that began them;
/// none where that cannot be seen.
pub(crate) fn readers(processes: &[Pid], shell: Option<Pid>, account: &Account) -> Vec<Pid> {
    if processes.len() + shell.iter().len() < 2 {
        return Vec::new();
    }
    let Ok((told, tell)) = nix::unistd::pipe2(OFlag::O_CLOEXEC) else { return Vec::new() };
    // SAFETY: init has one thread, so the child may do whatever a process may.
    #[allow(unsafe_code)]
    match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Child) => {
            let found = account.become_it().map(|()| look(processes, shell)).unwrap_or_default();
            let bytes: Vec<u8> = found.iter().flat_map(|pid| pid.as_raw().to_ne_bytes()).collect();
            // What cannot be told is not known.
            let _ = File::from(tell).write_all(&bytes);
            std::process::exit(0)
        }
        Ok(ForkResult::Parent { .. }) => {
            drop(tell);
            receive(told)
        }
        Err(_) => Vec::new(),
    }
}

fn receive(told: OwnedFd) -> Vec<Pid> {
    let mut bytes = Vec::new();
    if File::from(told).read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    let pid = |bytes: &[u8]| Some(Pid::from_raw(i32::from_ne_bytes(bytes.try_into().ok()?)));
    bytes.chunks_exact(4).filter_map(pid).collect()
}

fn look(processes: &[Pid], shell: Option<Pid>) -> Vec<Pid> {
    let writes: Vec<(Pid, Pipe)> = processes
        .iter()
        .copied()
        .chain(shell)
        .flat_map(|pid| [1, 2].into_iter().filter_map(move |fd| Some((pid, pipe(pid, fd, WRITES)?))))
        .collect();
    let waits = |pid: &&Pid| {
        pipe(**pid, 0, READS)
            .is_some_and(|pipe| writes.iter().any(|(other, written)| other != *pid && *written == pipe))
    };
    processes.iter().filter(waits).copied().collect()
}

/// Device and inode.
type Pipe = (u64, u64);

/// How a descriptor was opened, as the permissions of its link in `/proc` say, see proc(5).
const READS: u32 = 0o400;
const WRITES: u32 = 0o200;

fn pipe(pid: Pid, fd: u32, how: u32) -> Option<Pipe> {
    let link = format!("/proc/{pid}/fd/{fd}");
    let opened = std::fs::symlink_metadata(&link).ok()?.permissions().mode();
    let meta = std::fs::metadata(&link).ok()?;
    (opened & how != 0 && meta.file_type().is_fifo()).then(|| (meta.dev(), meta.ino()))
}
