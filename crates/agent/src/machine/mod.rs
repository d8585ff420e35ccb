//! What this machine has for runs, in the words of a plan.
pub(crate) mod boot;

use vessl_container::probe;
use vessl_core::plan::{Gpu, Node};
use vessl_core::record::{MachineReport, RECORD_VERSION};

/// Looks at the machine.
pub(crate) fn report() -> MachineReport {
    let machine = probe::machine();
    let gpu = |gpu: probe::GpuDevice| Gpu {
        index: gpu.index,
        uuid: gpu.uuid,
        product: gpu.product,
        memory: gpu.memory,
    };
    let node = Node {
        name: machine.hostname.into(),
        cpu_milli: machine.cpu_milli,
        memory: machine.memory,
        gpus: machine.gpus.into_iter().map(gpu).collect(),
    };
    MachineReport { v: RECORD_VERSION, boot_id: machine.boot_id, node }
}
