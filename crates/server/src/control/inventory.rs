//! What this server offers: its names, its one cluster with node and presets, its limits. Made once at the start.
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use vessl_core::ids::{ClusterName, PresetName, ProjectRef};
use vessl_core::plan::{Amounts, Bounds, Cluster, Node, Preset, Scratch};
use vessl_core::units::{Cpu, Memory, Span};

use crate::config::{Config, PresetConfig};

/// Smallest limit of a log: what is kept of it must be of use.
const SMALLEST_LOG: u64 = 1 << 20;

/// Everything about the server that does not change while the server runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Random id of the installation.
    pub instance: String,
    /// Default project.
    pub project: ProjectRef,
    /// The default cluster.
    pub cluster: ClusterName,
    /// Clusters by name.
    pub clusters: BTreeMap<ClusterName, Cluster>,
    /// Seconds between SIGTERM and the kill when a terminate names none.
    pub grace_s: u64,
}

/// A value of the configuration that has no meaning.
#[derive(Debug, thiserror::Error)]
#[error("the configuration's `{key}` is wrong: {why}")]
pub struct InventoryError {
    key: String,
    why: String,
}

impl InventoryError {
    /// The setting, such as `presets[0].cpu`.
    pub fn key(&self) -> &str {
        &self.key
    }

    fn of(key: &str, why: impl Into<String>) -> Self {
        Self { key: key.to_owned(), why: why.into() }
    }
}

impl Inventory {
    /// The inventory of `config` on a machine that has `node`.
    pub fn new(config: &Config, instance: String, mut node: Node) -> Result<Self, InventoryError> {
        let reserve: Cpu = parse("reserve_cpu", &config.reserve_cpu)?;
        let reserve_memory: Memory = parse("reserve_memory", &config.reserve_memory)?;
        let grace: Span = parse("grace", &config.grace)?;
        let export_time: Span = parse("export_time", &config.export_time)?;
        node.cpu_milli = rest("reserve_cpu", node.cpu_milli, reserve.0)?;
        node.memory = rest("reserve_memory", node.memory, reserve_memory.0)?;
        if !config.node.is_empty() {
            node.name = config.node.as_str().into();
        }
        let presets = match config.presets.as_slice() {
            [] => presets_of(&node),
            written => written.iter().enumerate().map(preset).collect::<Result<Vec<_>, _>>()?,
        };
        check_presets(&presets, &node)?;
        check_roots(&config.hostpath_roots)?;
        let default_preset = default_preset(config, &presets, &node)?;
        let cluster = Cluster {
            nodes: vec![node],
            presets,
            default_preset,
            allow_host_image: config.allow_host_image,
            local: true,
            hostpath_roots: config.hostpath_roots.clone(),
            settings: config.file.as_ref().map(|file| file.display().to_string()),
            bounds: bounds(config)?,
            export_time: Some(export_time),
        };
        Ok(Self {
            instance,
            project: ProjectRef::new(config.organization.as_str(), config.project.as_str()),
            cluster: config.cluster.as_str().into(),
            clusters: BTreeMap::from([(config.cluster.as_str().into(), cluster)]),
            grace_s: grace.0.div_ceil(1000),
        })
    }

    /// Adds a cluster with one node and what can be made of that.
    pub(crate) fn add(&mut self, name: ClusterName, node: Node) {
        let presets = presets_of(&node);
        let default_preset = presets.first().map(|preset| preset.name.clone());
        let cluster = Cluster { nodes: vec![node], presets, default_preset, ..Cluster::default() };
        self.clusters.insert(name, cluster);
    }

    /// Every cluster with its nodes.
    pub fn nodes(&self) -> Vec<(ClusterName, Vec<Node>)> {
        self.clusters.iter().map(|(name, cluster)| (name.clone(), cluster.nodes.clone())).collect()
    }
}

/// What each run may take beside its resources.
fn bounds(config: &Config) -> Result<Bounds, InventoryError> {
    let bytes = |key: &str, text: &str| parse::<Memory>(key, text).map(|bytes| bytes.0);
    let log = bytes("log_limit", &config.log_limit)?;
    if (1..SMALLEST_LOG).contains(&log) {
        return Err(InventoryError::of("log_limit", "it must be 0, or at least 1Mi"));
    }
    let scratch = match config.scratch_limit.as_str() {
        "" => Scratch::Share,
        text => match bytes("scratch_limit", text)? {
            0 => Scratch::All,
            limit => Scratch::Bytes(limit),
        },
    };
    let export_bytes = bytes("export_bytes", &config.export_bytes)?;
    Ok(Bounds { log, scratch, export_bytes, export_files: config.export_files, events: config.event_limit })
}

/// What runs may use; a machine that knows its size leaves them something.
fn rest(key: &str, all: u64, kept: u64) -> Result<u64, InventoryError> {
    if all > 0 && kept >= all {
        return Err(InventoryError::of(key, "it keeps back everything that this machine has"));
    }
    Ok(all.saturating_sub(kept))
}

fn check_presets(presets: &[Preset], node: &Node) -> Result<(), InventoryError> {
    for (index, Preset { name, amounts }) in presets.iter().enumerate() {
        if presets[..index].iter().any(|earlier| earlier.name == *name) {
            return Err(InventoryError::of("presets", format!("there are two presets `{name}`")));
        }
        if !fits(amounts, node) {
            // Perhaps a GPU is missing today; the other presets work all the same.
            tracing::warn!(
                preset = name.as_str(),
                "a preset is larger than this machine: runs that ask for it are refused"
            );
        }
    }
    Ok(())
}

fn fits(amounts: &Amounts, node: &Node) -> bool {
    let gpus = u32::try_from(node.gpus.len()).unwrap_or(u32::MAX);
    amounts.cpu_milli <= node.cpu_milli && amounts.memory <= node.memory && amounts.gpus <= gpus
}

fn check_roots(roots: &[String]) -> Result<(), InventoryError> {
    if let Some(root) = roots.iter().find(|root| !root.starts_with('/')) {
        return Err(InventoryError::of("hostpath_roots", format!("`{root}` is not an absolute path")));
    }
    for root in roots.iter().filter(|root| !Path::new(root).exists()) {
        tracing::warn!(root, "a path of `hostpath_roots` is not there: nothing below it can be mounted yet");
    }
    Ok(())
}

fn preset((index, written): (usize, &PresetConfig)) -> Result<Preset, InventoryError> {
    if written.name.is_empty() {
        return Err(InventoryError::of(&format!("presets[{index}]"), "a preset has no name"));
    }
    let key = |name: &str| format!("presets[{index}].{name}");
    let named = |error: InventoryError| InventoryError {
        why: format!("{} (preset `{}`)", error.why, written.name),
        ..error
    };
    let cpu: Cpu = parse(&key("cpu"), &written.cpu).map_err(named)?;
    let memory: Memory = parse(&key("memory"), &written.memory).map_err(named)?;
    for (name, amount) in [("cpu", cpu.0), ("memory", memory.0)] {
        if amount == 0 {
            return Err(named(InventoryError::of(&key(name), "a run needs more than none")));
        }
    }
    Ok(Preset {
        name: written.name.as_str().into(),
        amounts: Amounts {
            cpu_milli: cpu.0,
            memory: memory.0,
            gpus: written.gpus,
            gpu_type: written.gpu_type.clone(),
        },
    })
}

/// The preset of a run that names nothing; none that this machine is too small for, because every such run is refused.
fn default_preset(
    config: &Config,
    presets: &[Preset],
    node: &Node,
) -> Result<Option<PresetName>, InventoryError> {
    let name = |preset: &Preset| preset.name.clone();
    if config.default_preset.is_empty() {
        return Ok(presets.iter().find(|preset| fits(&preset.amounts, node)).map(name));
    }
    if let Some(preset) = presets.iter().find(|preset| preset.name == *config.default_preset.as_str()) {
        let fitting = Some(preset).filter(|preset| fits(&preset.amounts, node));
        if fitting.is_none() {
            tracing::warn!(
                preset = preset.name.as_str(),
                "the default preset is larger than this machine: runs have to name another preset, or requests"
            );
        }
        return Ok(fitting.map(name));
    }
    let names: Vec<&str> = presets.iter().map(|preset| preset.name.as_str()).collect();
    let why = format!("there is no preset `{}`; there are {}", config.default_preset, names.join(", "));
    Err(InventoryError { key: "default_preset".to_owned(), why })
}

/// Presets for a machine whose administrator wrote none: a quarter, all of it, and its GPUs by powers of two, each with
/// its share of cores and memory.
fn presets_of(node: &Node) -> Vec<Preset> {
    // Round amounts, which read the same wherever they are shown.
    let step = if node.memory < 8 << 30 { 64 << 20 } else { 512 << 20 };
    let share = |part: u64, of: u64, gpus: u32| Amounts {
        cpu_milli: share_of(node.cpu_milli, part, of),
        memory: share_of(node.memory, part, of) / step * step,
        gpus,
        gpu_type: None,
    };
    let cores = node.cpu_milli / 1000;
    let small = if cores < 2 { share(1, 1, 0) } else { share((cores / 4).max(1) * 1000, node.cpu_milli, 0) };
    let mut presets = vec![("cpu-small".to_owned(), small), ("cpu-large".to_owned(), share(1, 1, 0))];
    let all = u32::try_from(node.gpus.len()).unwrap_or(u32::MAX);
    let mut gpus: Vec<u32> = (0..31).map(|power| 1 << power).take_while(|&n| n < all).collect();
    gpus.extend((all > 0).then_some(all));
    presets.extend(gpus.iter().map(|&n| (format!("gpu-{n}"), share(u64::from(n), u64::from(all), n))));
    presets.into_iter().map(|(name, amounts)| Preset { name: name.into(), amounts }).collect()
}

fn share_of(all: u64, part: u64, of: u64) -> u64 {
    u64::try_from(u128::from(all) * u128::from(part) / u128::from(of.max(1))).unwrap_or(all)
}

fn parse<T: FromStr>(key: &str, text: &str) -> Result<T, InventoryError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| InventoryError { key: key.to_owned(), why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vessl_core::plan::Gpu;

    fn check(cores: u64, gpus: u32, expected: &[(&str, u64, u64, u32)]) {
        let node = Node {
            name: "n".into(),
            cpu_milli: cores * 1000,
            memory: (16 << 30) + 536_000_000,
            gpus: (0..gpus).map(|index| Gpu { index, ..Gpu::default() }).collect(),
        };
        let inventory = Inventory::new(&Config::default(), "0".repeat(8), node).unwrap();
        let cluster = &inventory.clusters["local"];
        assert_eq!(cluster.default_preset.as_ref().map(PresetName::as_str), Some("cpu-small"));
        let made: Vec<_> = cluster
            .presets
            .iter()
            .map(|preset| {
                let amounts = &preset.amounts;
                (preset.name.as_str(), amounts.cpu_milli, amounts.memory >> 30, amounts.gpus)
            })
            .collect();
        assert_eq!(made, expected);
    }

    #[test]
    fn presets_follow_the_machine() {
        check(1, 0, &[("cpu-small", 1000, 16, 0), ("cpu-large", 1000, 16, 0)]);
        check(2, 0, &[("cpu-small", 1000, 8, 0), ("cpu-large", 2000, 16, 0)]);
        check(16, 1, &[("cpu-small", 4000, 4, 0), ("cpu-large", 16000, 16, 0), ("gpu-1", 16000, 16, 1)]);
        let six =
            [("gpu-1", 2000, 2, 1), ("gpu-2", 4000, 5, 2), ("gpu-4", 8000, 10, 4), ("gpu-6", 12000, 16, 6)];
        let mut expected = vec![("cpu-small", 3000, 4, 0), ("cpu-large", 12000, 16, 0)];
        expected.extend(six);
        check(12, 6, &expected);
    }

    #[test]
    fn no_default_preset_is_larger_than_the_machine() {
        let check = |cores: &[&str], default: &str, expected: Option<&str>| {
            let preset = |cpu: &&str| PresetConfig {
                name: format!("p{cpu}"),
                cpu: (*cpu).to_owned(),
                memory: "1G".to_owned(),
                ..PresetConfig::default()
            };
            let presets = cores.iter().map(preset).collect();
            let config = Config { presets, default_preset: default.to_owned(), ..Config::default() };
            let node = Node { cpu_milli: 2000, memory: 16 << 30, ..Node::default() };
            let inventory = Inventory::new(&config, String::new(), node).unwrap();
            assert_eq!(
                inventory.clusters["local"].default_preset.as_ref().map(PresetName::as_str),
                expected,
                "{cores:?} {default}"
            );
        };
        check(&["64", "2", "1"], "", Some("p2"));
        check(&["64"], "", None);
        check(&["64", "2"], "p64", None);
        check(&["64", "2"], "p2", Some("p2"));
    }

    #[test]
    fn wrong_values_name_their_key() {
        let check = |change: fn(&mut Config), expected: &str| {
            let mut config = Config::default();
            change(&mut config);
            let said = Inventory::new(&config, String::new(), Node::default()).unwrap_err().to_string();
            assert!(said.starts_with(expected), "{said}");
        };
        check(|c| c.grace = "soon".to_owned(), "the configuration's `grace` is wrong: ");
        check(|c| c.reserve_memory = "1X".to_owned(), "the configuration's `reserve_memory` is wrong: ");
        check(
            |c| c.hostpath_roots = vec!["/srv".to_owned(), "etc".to_owned()],
            "the configuration's `hostpath_roots` is wrong: `etc` is not an absolute path",
        );
        let one = |cpu: &str| PresetConfig {
            name: "one".to_owned(),
            cpu: cpu.to_owned(),
            memory: "1G".to_owned(),
            gpus: 0,
            gpu_type: None,
        };
        let set = |presets: Vec<PresetConfig>, expected: &str| {
            let config = Config { presets, ..Config::default() };
            let said = Inventory::new(&config, String::new(), Node::default()).unwrap_err().to_string();
            assert!(said.starts_with(expected), "{said}");
        };
        set(vec![one("1"), one("2")], "the configuration's `presets` is wrong: there are two presets `one`");
        set(
            vec![one("0")],
            "the configuration's `presets[0].cpu` is wrong: a run needs more than none (preset `one`)",
        );
        set(vec![one("1"), one("5OOm")], "the configuration's `presets[1].cpu` is wrong: ");
        let config = Config { reserve_memory: "999999Gi".to_owned(), ..Config::default() };
        let node = Node { memory: 1 << 30, ..Node::default() };
        let said = Inventory::new(&config, String::new(), node).unwrap_err().to_string();
        assert!(said.starts_with("the configuration's `reserve_memory` is wrong: it keeps back"), "{said}");
        check(
            |c| c.log_limit = "100k".to_owned(),
            "the configuration's `log_limit` is wrong: it must be 0, or at least 1Mi",
        );
        check(|c| c.scratch_limit = "much".to_owned(), "the configuration's `scratch_limit` is wrong: ");
        check(|c| c.export_time = "1".to_owned(), "the configuration's `export_time` is wrong: ");
        check(
            |c| c.default_preset = "x".to_owned(),
            "the configuration's `default_preset` is wrong: there is no preset `x`; there are cpu-small, cpu-large",
        );
    }
}
