//! What a run gets of its GPUs: their device nodes, and the driver's libraries and programs where an image lacks them.
use std::path::PathBuf;

use vessl_container::probe::{self, DriverFile};
use vessl_container::rootfs::{Access, Bind, Merged};
use vessl_core::plan::{ImagePlan, Plan};
use vessl_core::run::EndReason;

use super::env;
use crate::supervise::setup::error::SetupError;

/// Device nodes of the GPUs that this run holds.
pub(crate) fn devices(plan: &Plan) -> Result<Vec<PathBuf>, SetupError> {
    if held(plan).is_empty() {
        return Ok(Vec::new());
    }
    probe::wake_gpus();
    let machine = probe::machine();
    let mut nodes = Vec::new();
    for index in held(plan) {
        let gpu = machine.gpus.iter().find(|gpu| gpu.index == *index);
        let gpu = gpu.ok_or_else(|| {
            SetupError::Failed(EndReason::SetupFailed, format!("the machine has no GPU {index} any more"))
        })?;
        nodes.extend(gpu.nodes.iter().cloned());
    }
    nodes.sort_unstable();
    nodes.dedup();
    Ok(nodes)
}

fn held(plan: &Plan) -> &[u32] {
    plan.placement.as_ref().map(|placement| placement.gpus.as_slice()).unwrap_or_default()
}

/// Whether the driver's files are shown to the commands. The machine's own root has them already.
pub(crate) fn needs_driver(plan: &Plan) -> bool {
    !held(plan).is_empty() && plan.image != ImagePlan::Host
}

/// Shows the driver's files in the container, unwritable.
pub(crate) fn show_driver(merged: &Merged, files: Vec<DriverFile>) -> Result<(), SetupError> {
    let show =
        |DriverFile { source, target }| merged.bind(&Bind { source, target, access: Access::ReadOnly });
    files.into_iter().try_for_each(show).map_err(SetupError::because)
}

/// Lets the commands find the driver's files, also where the image or the run file set these variables.
pub(crate) fn name_driver(env: &mut Vec<String>) {
    env::add_dir(env, "LD_LIBRARY_PATH", DriverFile::LIBRARIES);
    env::add_dir(env, "PATH", DriverFile::PROGRAMS);
}

#[cfg(test)]
mod tests {
    use vessl_core::run::Placement;

    use super::*;
    use crate::testing;
    use crate::testing_root::World;

    #[test]
    fn only_images_on_gpus_need_the_driver() {
        let mut plan = testing::plan(&["true"]);
        let image = ImagePlan::Registry { reference: "app".to_owned(), credential: None };
        for (gpus, image, expected) in
            [(vec![], image.clone(), false), (vec![1], image, true), (vec![1], ImagePlan::Host, false)]
        {
            (plan.placement, plan.image) = (Some(Placement { gpus, ..Placement::default() }), image);
            assert_eq!(needs_driver(&plan), expected, "{plan:?}");
        }
    }

    #[test]
    fn the_driver_is_shown_where_images_look_for_it() {
        let world = World::new();
        let source = world.path("outside/file").canonicalize().unwrap();
        let target = PathBuf::from(DriverFile::LIBRARIES).join("libcuda.so.1");
        let files = vec![DriverFile { source, target: target.clone() }];
        show_driver(world.merged(), files).unwrap();
        let shown = world.inside(target.to_str().unwrap());
        assert_eq!(std::fs::read(&shown).unwrap(), b"untouched");
        let refused = std::fs::write(&shown, "x").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }

    #[test]
    fn the_driver_is_found_besides_what_the_image_names() {
        for (before, after) in [
            (vec![], vec!["LD_LIBRARY_PATH=/usr/local/nvidia/lib64", "PATH=/usr/local/nvidia/bin"]),
            (
                vec!["LD_LIBRARY_PATH=", "PATH=/bin"],
                vec!["LD_LIBRARY_PATH=/usr/local/nvidia/lib64", "PATH=/bin:/usr/local/nvidia/bin"],
            ),
            (
                vec!["PATH=/usr/local/nvidia/bin:/bin", "LD_LIBRARY_PATH=/a:/usr/local/nvidia/lib64/"],
                vec!["PATH=/usr/local/nvidia/bin:/bin", "LD_LIBRARY_PATH=/a:/usr/local/nvidia/lib64/"],
            ),
        ] {
            let mut env: Vec<String> = before.into_iter().map(str::to_owned).collect();
            name_driver(&mut env);
            assert_eq!(env, after);
        }
    }
}
