//! GPUs through NVML, NVIDIA's management library, which is loaded when asked for: a machine without the driver is normal.
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::GpuDevice;

/// Where the library may be: the loader's path, and WSL's own place.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1"];

/// Nodes that every GPU needs besides its own. Source: NVIDIA's container toolkit.
const COMMON: [&str; 4] =
    ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"];

/// The GPUs; none without a driver. An error when there is a driver that does not work.
pub(super) fn read() -> Result<Vec<GpuDevice>, NvmlError> {
    let Some(nvml) = load()? else { return Ok(Vec::new()) };
    (0..nvml.device_count()?).map(|index| device(&nvml, index)).collect()
}

/// Version of the driver, if there is one.
pub(super) fn driver() -> Result<Option<String>, NvmlError> {
    load()?.map(|nvml| nvml.sys_driver_version()).transpose()
}

fn load() -> Result<Option<Nvml>, NvmlError> {
    for library in LIBRARIES {
        match Nvml::builder().lib_path(OsStr::new(library)).init() {
            Err(NvmlError::LibloadingError(_)) => {}
            other => return other.map(Some),
        }
    }
    Ok(None)
}

fn device(nvml: &Nvml, index: u32) -> Result<GpuDevice, NvmlError> {
    let gpu = nvml.device_by_index(index)?;
    // The number of the node need not be the index.
    let own = Path::new("/dev").join(format!("nvidia{}", gpu.minor_number()?));
    let nodes = std::iter::once(own).chain(COMMON.map(PathBuf::from)).filter(|node| node.exists()).collect();
    Ok(GpuDevice { index, uuid: gpu.uuid()?, product: gpu.name()?, memory: gpu.memory_info()?.total, nodes })
}
