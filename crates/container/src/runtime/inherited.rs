//! What a process inherits and a container must not: it depends on who started the server, and from where. Here all of it gets one
//! value. What an ordinary user may not raise (a hard limit, a priority) stays as it is.
use nix::sys::resource::{RLIM_INFINITY as NO_LIMIT, Resource, getrlimit, rlim_t, setrlimit};

use crate::error::{StartError, os};
use crate::limits::make::Made;
use crate::sys;

/// Open files: as many as a data loader may ever want, and few enough for a program that closes every number it could have.
const FILES: rlim_t = 1 << 20;
/// Bytes of the stack that a program begins with; it may raise that itself.
const STACK: rlim_t = 8 << 20;
/// Bytes of message queues: the kernel's own default.
const QUEUES: rlim_t = 819_200;

/// Soft and hard limits. Memory and processes are bounded by the cgroup, or for each user where there is none.
const LIMITS: [(Resource, rlim_t, rlim_t); 15] = [
    (Resource::RLIMIT_NOFILE, FILES, FILES),
    (Resource::RLIMIT_STACK, STACK, NO_LIMIT),
    // Core files are for who wants them.
    (Resource::RLIMIT_CORE, 0, NO_LIMIT),
    (Resource::RLIMIT_AS, NO_LIMIT, NO_LIMIT),
    (Resource::RLIMIT_CPU, NO_LIMIT, NO_LIMIT),
    (Resource::RLIMIT_DATA, NO_LIMIT, NO_LIMIT),
    (Resource::RLIMIT_FSIZE, NO_LIMIT, NO_LIMIT),
    (Resource::RLIMIT_LOCKS, NO_LIMIT, NO_LIMIT),
    (Resource::RLIMIT_MEMLOCK, NO_LIMIT, NO_LIMIT),
    (Resource::RLIMIT_NPROC, NO_LIMIT, NO_LIMIT),
    (Resource::RLIMIT_RSS, NO_LIMIT, NO_LIMIT),
    (Resource::RLIMIT_RTTIME, NO_LIMIT, NO_LIMIT),
    (Resource::RLIMIT_MSGQUEUE, QUEUES, QUEUES),
    (Resource::RLIMIT_NICE, 0, 0),
    (Resource::RLIMIT_RTPRIO, 0, 0),
];

/// Sets resource limits, scheduling and cores of this process, which is in the groups of its container.
pub(crate) fn replace(groups: &Made) -> Result<(), StartError> {
    for (resource, soft, hard) in LIMITS {
        limit(resource, soft, hard).map_err(|e| os(format!("set {resource:?}"))(e.into()))?;
    }
    sys::plain_scheduling();
    // Where this is refused the quota of the container holds all the same.
    let _ = match groups.cores() {
        Some(cores) => sys::run_on(cores.iter().copied()),
        None => sys::all_cores().map(drop),
    };
    Ok(())
}

fn limit(resource: Resource, soft: rlim_t, hard: rlim_t) -> nix::Result<()> {
    if setrlimit(resource, soft, hard).is_ok() {
        return Ok(());
    }
    let (_, most) = getrlimit(resource)?;
    setrlimit(resource, soft.min(most), hard.min(most))
}
