//! What this host can do: one probe, one sentence each, for `vessl doctor` and for errors before a start; and what it
//! has: cores, memory, GPUs.
mod checks;
mod driver;
mod gpu;
mod machine;
mod trial;

/// Result of one probe.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Short name, e.g. `overlayfs`.
    pub name: &'static str,
    /// Whether it works.
    pub ok: bool,
    /// Whether runs are impossible without it.
    pub required: bool,
    /// One sentence: what was found, or what is missing and what to do.
    pub says: String,
}

/// Runs every probe. What needs a mount is tried in a short-lived child process; nothing is left behind.
pub fn all(data_dir: &std::path::Path) -> Vec<Probe> {
    checks::all(data_dir)
}

/// What a machine has for containers.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Host name.
    pub hostname: String,
    /// Thousandths of a core usable by this process (affinity and cgroup quota).
    pub cpu_milli: u64,
    /// Bytes of memory (the smaller of physical and cgroup limit).
    pub memory: u64,
    /// GPUs seen through NVML; empty without a driver.
    pub gpus: Vec<GpuDevice>,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

/// One GPU.
#[derive(Clone, Debug, Default)]
pub struct GpuDevice {
    /// NVML index.
    pub index: u32,
    /// `GPU-…`.
    pub uuid: String,
    /// Product name.
    pub product: String,
    /// Bytes.
    pub memory: u64,
    /// Device nodes a container needs for this GPU.
    pub nodes: Vec<std::path::PathBuf>,
}

/// Reads what this machine has.
pub fn machine() -> Machine {
    machine::read()
}

/// A file of the GPU driver that containers need from the host.
#[derive(Clone, Debug)]
pub struct DriverFile {
    /// Path on the host, without links.
    pub source: std::path::PathBuf,
    /// Path in the container.
    pub target: std::path::PathBuf,
}

impl DriverFile {
    /// Where the libraries are in a container: images made for GPUs have it in `LD_LIBRARY_PATH`.
    pub const LIBRARIES: &str = "/usr/local/nvidia/lib64";
    /// Where the programs are in a container.
    pub const PROGRAMS: &str = "/usr/local/nvidia/bin";
}

/// The GPU driver's libraries and programs on this machine; none without a driver.
pub fn driver_files() -> Vec<DriverFile> {
    driver::files(std::path::Path::new("/"))
}

/// Makes the device nodes of the GPU driver that may be missing after a boot, as far as its own tool is there.
pub fn wake_gpus() {
    driver::wake();
}
