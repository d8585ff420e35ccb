//! cgroups, version 1 and 2, found by controller and not by mount: limits, kill of everything, out-of-memory count.

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
        let _ = &self.unit;
        todo!()
    }
    /// Kills every process in it, also ones that fork while it is killed, and waits until it is empty.
    pub fn kill(&self) -> std::io::Result<()> {
        todo!()
    }
    /// Removes it in every hierarchy; it must be empty.
    pub fn remove(&self) -> std::io::Result<()> {
        todo!()
    }
    /// How often the kernel killed a process of it for memory.
    pub fn oom_kills(&self) -> u64 {
        todo!()
    }
}
