//! What a run's exports need to be written by another agent than the one that ran its commands: how those ended, and what was shown
//! where. Written before the first export; it must not know what an export is.
use std::path::Path;

use serde::{Deserialize, Serialize};
use vessl_core::plan::ImportPlan;
use vessl_core::record::ExitRecord;
use vessl_data::staging::Staged;

/// Version of the file.
pub(crate) const COMMANDS_VERSION: u32 = 1;

/// The file `commands.json` of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommandsRecord {
    /// [`COMMANDS_VERSION`].
    pub(crate) v: u32,
    /// What the exit record says if every export is written.
    pub(crate) record: ExitRecord,
    /// The boot of the machine in which the commands ran.
    pub(crate) boot_id: String,
    /// Whether what they wrote was on disk before the first export, and so is there after another boot.
    pub(crate) is_on_disk: bool,
    /// Imports that are shown and were not copied.
    pub(crate) shown: Vec<Shown>,
}

/// An import that is shown from what is staged on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// Path in the container.
    pub(crate) path: String,
    /// Key of the staged directory.
    pub(crate) key: String,
}

impl Shown {
    /// Of a directory that is staged for an import.
    pub(crate) fn of(import: &ImportPlan, staged: &Staged) -> Option<Self> {
        let key = staged.path.parent().and_then(Path::file_name)?.to_str()?.to_owned();
        Some(Self { path: import.path.clone(), key })
    }
}
