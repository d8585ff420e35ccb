//! Plans as a server writes them.
use std::path::Path;

use vessl_core::plan::{Amounts, EnvFrom, EnvPlan, ExportPlan, ExportTarget, ImagePlan, Plan};
use vessl_core::spec::Interactive;
use vessl_core::units::Span;

use crate::testing;

/// A plan that runs `commands`, one item each, on the machine's own root.
pub(crate) fn host(commands: &[&str]) -> Plan {
    let resources = Amounts { cpu_milli: 1000, memory: 256 << 20, gpus: 0, gpu_type: None };
    Plan { instance: instance(), resources, ..testing::plan(commands) }
}

/// The same in an image at `layout`.
pub(crate) fn image(layout: &Path, commands: &[&str]) -> Plan {
    let image = ImagePlan::Layout { path: layout.display().to_string(), tag: None };
    Plan { image, ..host(commands) }
}

/// A session of at most `millis`, with commands.
pub(crate) fn session(commands: &[&str], millis: u64) -> Plan {
    let interactive = Some(Interactive { max_runtime: Some(Span(millis)), idle_timeout: None });
    Plan { interactive, ..host(commands) }
}

/// Exports `path` as the run's own output.
pub(crate) fn export(path: &str) -> ExportPlan {
    ExportPlan { path: path.to_owned(), target: ExportTarget::Output }
}

/// A variable whose value is the secret of the same name.
pub(crate) fn secret(key: &str) -> EnvPlan {
    EnvPlan { key: key.to_owned(), value: EnvFrom::Secret(key.to_owned()) }
}

/// Tests run at the same time, so each has an installation of its own.
fn instance() -> String {
    let unique = tempfile::Builder::new().prefix("").rand_bytes(8).tempfile().unwrap();
    unique.path().file_name().unwrap().to_str().unwrap().to_lowercase()
}
