//! Planning of real run files.
use vessl_core::ids::{Nonce, RunId};
use vessl_core::plan::{Catalogue, Cluster, Stamp, plan};
use vessl_core::spec::{self, Spec};
use vessl_core::wire::Level;

use crate::plan_cases::{GIB, catalogue, local, node, preset};
use crate::support::{corpus, read};

/// Real files on a site that has what they name: each one is planned, or refused in words for what this version cannot do.
#[test]
fn real_files_are_planned_or_refused_in_words() {
    let Some(files) = corpus("run") else { return };
    let mut planned = 0;
    for file in files {
        let Some(spec) = read(&file.text).spec else { continue };
        let inject: Vec<_> = spec.env.keys().map(|key| (key.clone(), "x".into())).collect();
        let stamp = Stamp {
            run: RunId(1),
            attempt: 1,
            nonce: Nonce(9),
            instance: "0a1b2c3d",
            inject: &inject,
            max_runtime: None,
        };
        match plan(&spec, &site_for(&spec), &stamp) {
            Ok(got) => {
                planned += 1;
                assert_eq!(got.plan.imports.len(), spec.import.len(), "{}", file.name);
                assert_eq!(got.plan.items.len(), spec.run.len(), "{}", file.name);
            }
            Err(mut problems) => {
                spec::locate(file.text.as_bytes(), &mut problems);
                for problem in problems.iter().filter(|problem| problem.level == Level::Error) {
                    let known = [
                        "unsupported",
                        "not-allowed",
                        "unknown-artifact",
                        "unknown-dataset",
                        "unknown-model",
                        "unknown-storage",
                        "unknown-volume",
                        "unknown-project",
                        "unknown-credential",
                    ];
                    assert!(known.contains(&problem.code.as_str()), "{}: {problem:?}", file.name);
                    assert!(problem.line > 0 && problem.hint.is_some(), "{}: {problem:?}", file.name);
                }
            }
        }
    }
    assert!(planned > 0, "not one real file was planned");
}

/// A catalogue that has the cluster, nodes and preset of `spec`.
fn site_for(spec: &Spec) -> Catalogue {
    let mut catalogue = catalogue();
    let wanted = &spec.resources;
    let mut cluster = Cluster { nodes: vec![node("box", 256, 16)], ..local() };
    cluster.nodes.extend(wanted.node_names.iter().map(|name| node(name, 256, 16)));
    for node in &mut cluster.nodes {
        node.memory = 4096 * GIB;
        node.gpus.iter_mut().for_each(|gpu| {
            let device =
                wanted.requests.as_ref().and_then(|requests| requests.gpu.as_ref()?.device_type.clone());
            gpu.product = device.unwrap_or_default();
        });
    }
    cluster.presets = wanted.preset.iter().map(|name| preset(name, 1, 0)).collect();
    if wanted.preset.is_none() && wanted.requests.is_none() {
        cluster.presets.push(preset("default", 1, 0));
        cluster.default_preset = Some("default".into());
    }
    catalogue.clusters.insert(wanted.cluster.clone().unwrap_or_else(|| "local".to_owned()).into(), cluster);
    catalogue
}
