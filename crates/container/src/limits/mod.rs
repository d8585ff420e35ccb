//! cgroups, version 1 and 2, found by controller and not by mount: limits, kill of everything, out-of-memory count.
//!
//! A container's group is `vessl/<unit>` below the own group of the process that starts it (in the unified hierarchy:
//! below the nearest ancestor that can hand controllers on). Where no group can be made (rootless without delegation) the
//! container is found by its PID 1, whose end takes every other process of its PID namespace along.
mod cores;
mod devices;
mod group;
mod kill;
pub(crate) mod make;
pub(crate) mod tree;

pub(crate) use kill::{init_name, init_short_name};

use std::io;

/// Limits of one container; `None` is unlimited.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Thousandths of a core.
    pub cpu_milli: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// The cgroup of one container by its unit name; survives the process that made it.
#[derive(Clone, Debug)]
pub struct Cgroup {
    unit: String,
}

impl Cgroup {
    /// The cgroup called `unit`, which need not exist.
    pub fn named(unit: &str) -> Self {
        Self { unit: unit.to_owned() }
    }

    /// Whether no process is in it (also true if it does not exist).
    pub fn is_empty(&self) -> bool {
        let groups = group::find(&self.unit);
        if groups.is_empty() {
            kill::inits(&self.unit).is_empty()
        } else {
            groups.iter().all(group::Group::is_empty)
        }
    }

    /// Kills every process in it, also ones that fork while it is killed, and waits until it is empty (at most
    /// [`KILL_LIMIT`]).
    pub fn kill(&self) -> io::Result<()> {
        kill::everything(&self.unit, &group::find(&self.unit), KILL_LIMIT)
    }

    /// Removes it in every hierarchy; it must be empty.
    pub fn remove(&self) -> io::Result<()> {
        group::find(&self.unit).iter().try_for_each(group::Group::remove)
    }

    /// How often the kernel killed a process of it for memory.
    pub fn oom_kills(&self) -> u64 {
        group::find(&self.unit).iter().map(group::Group::oom_kills).max().unwrap_or(0)
    }

    /// Most bytes of memory that it had at one time, cached files among them; `None` where nobody counted.
    pub fn memory_peak(&self) -> Option<u64> {
        group::find(&self.unit).iter().filter_map(group::Group::memory_peak).max()
    }

    /// Microseconds that its processes had of all processors together; `None` where nobody counted.
    pub fn cpu_micros(&self) -> Option<u64> {
        group::find(&self.unit).iter().filter_map(group::Group::cpu_micros).max()
    }
}

/// How long [`Cgroup::kill`] waits: a process in an uninterruptible system call dies only when that call ends.
pub const KILL_LIMIT: std::time::Duration = std::time::Duration::from_secs(30);
