//! Start of one container with libcontainer, and what is left to do with it afterwards.
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::limits::{Cgroup, Limits};

/// Everything needed to start one container.
#[derive(Debug)]
pub struct Bundle {
    /// Unit name: container id, cgroup name.
    pub unit: String,
    /// Directory for the container's state, private to this unit.
    pub state: PathBuf,
    /// Mounted root file system, binds applied.
    pub merged: PathBuf,
    /// Host name inside.
    pub hostname: String,
    /// Limits.
    pub limits: Limits,
    /// Device nodes of the host that are usable inside (GPUs), besides the standard ones.
    pub devices: Vec<PathBuf>,
    /// The init program on the host; bound read-only to [`INIT_PATH`] and run as PID 1 with `init_args`.
    pub init: PathBuf,
    /// Arguments of init after its name.
    pub init_args: Vec<String>,
    /// Descriptors init gets: 0, 1, 2 and 3 (3 is its socket to the supervisor).
    pub fds: [OwnedFd; 4],
}

/// Where init is visible inside the container.
pub const INIT_PATH: &str = "/.vessl/init";

/// A started container. Its PID 1 is a child of this process and dies with it.
#[derive(Debug)]
pub struct Container {
    /// PID of init on the host.
    pub pid: i32,
    /// Its cgroup.
    pub cgroup: Cgroup,
}

/// Why a container could not be started. The text is one sentence for people.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Something of the operating system refused.
    #[error("cannot {what}: {source}")]
    Os {
        /// The step.
        what: String,
        /// The system's word.
        source: std::io::Error,
    },
}

/// Starts a container. The calling process must have one thread (checked) and becomes the reaper of its children.
pub fn start(bundle: Bundle) -> Result<Container, StartError> {
    let _ = bundle;
    todo!()
}

/// Removes what [`start`] made for `unit` and a process that died may have left: mounts, state, scratch, cgroup.
/// Safe to repeat, also when nothing is there.
pub fn remove(unit: &str, state: &std::path::Path, scratch: &std::path::Path) -> Result<(), StartError> {
    let _ = (unit, state, scratch);
    todo!()
}
