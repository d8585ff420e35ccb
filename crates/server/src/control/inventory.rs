//! What this server offers: its names, its clusters with their nodes and presets, its limits. Made once at the start.
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use vessl_core::ids::{ClusterName, PresetName, ProjectRef};
use vessl_core::network::NetworkMode;
use vessl_core::plan::{Amounts, Bounds, Cluster, Node, Preset, Scratch};
use vessl_core::units::{Cpu, Memory, Span};

use crate::config::{Config, EngineKind, PresetConfig};

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
    /// How long the files of runs are kept whose exports failed; `None` is until the run is deleted.
    pub keep_failed_exports: Option<Span>,
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
        check_max_runtime(config)?;
        node.cpu_milli = rest("reserve_cpu", node.cpu_milli, reserve.0)?;
        node.memory = rest("reserve_memory", node.memory, reserve_memory.0)?;
        if !config.node.is_empty() {
            node.name = config.node.as_str().into();
        }
        check_roots(&config.hostpath_roots)?;
        let mut clusters = BTreeMap::new();
        for (index, written) in config.clusters.iter().enumerate() {
            let of = format!("clusters[{index}].");
            let share = share(config, &of, index, &mut node)?;
            let offer = Offer { of, presets: &written.presets, default: &written.default_preset };
            clusters.insert(written.name.as_str().into(), cluster(config, &offer, share)?);
        }
        let offer = Offer { of: String::new(), presets: &config.presets, default: &config.default_preset };
        clusters.insert(config.cluster.as_str().into(), cluster(config, &offer, node)?);
        for (name, cluster) in &mut clusters {
            cluster.host_network = config.network_of(name).mode == NetworkMode::Host;
        }
        Ok(Self {
            instance,
            project: ProjectRef::new(config.organization.as_str(), config.project.as_str()),
            cluster: config.cluster.as_str().into(),
            clusters,
            grace_s: grace.0.div_ceil(1000),
            keep_failed_exports: limit("keep_failed_exports", &config.keep_failed_exports)?,
        })
    }

    /// Adds a cluster with one node and what can be made of that.
    pub(crate) fn add(&mut self, name: ClusterName, node: Node) {
        let presets = presets_of(&node);
        let default_preset = presets.first().map(|preset| preset.name.clone());
        let cluster = Cluster {
            nodes: vec![node],
            presets,
            presets_are_made: true,
            default_preset,
            ..Cluster::default()
        };
        self.clusters.insert(name, cluster);
    }
}

/// What a cluster offers by name.
struct Offer<'c> {
    /// Where its keys stand: nothing, or such as `clusters[0].`.
    of: String,
    presets: &'c [PresetConfig],
    default: &'c str,
}

/// A cluster of this machine that has `node`.
fn cluster(config: &Config, offer: &Offer<'_>, node: Node) -> Result<Cluster, InventoryError> {
    let preset = |(index, written)| preset(&format!("{}presets[{index}]", offer.of), written);
    let presets = match offer.presets {
        [] => presets_of(&node),
        written => written.iter().enumerate().map(preset).collect::<Result<Vec<_>, _>>()?,
    };
    check_presets(offer, &presets, &node)?;
    Ok(Cluster {
        default_preset: default_preset(offer, &presets, &node)?,
        nodes: vec![node],
        presets,
        presets_are_made: offer.presets.is_empty(),
        allow_host_image: config.allow_host_image,
        local: true,
        hostpath_roots: config.hostpath_roots.clone(),
        settings: config.file.as_ref().map(|file| file.display().to_string()),
        bounds: bounds(config)?,
        export_time: Some(parse("export_time", &config.export_time)?),
        default_max_runtime: limit("default_max_runtime", &config.default_max_runtime)?,
        max_runtime_limit: limit("max_runtime_limit", &config.max_runtime_limit)?,
        no_new_privs: config.no_new_privs,
        cloud_identity: config.cloud_identity,
        hf_endpoint: Some(config.hf_endpoint.trim_end_matches('/').to_owned())
            .filter(|address| !address.is_empty()),
        host_network: false,
    })
}

/// A default over the limit would be refused at every submit.
fn check_max_runtime(config: &Config) -> Result<(), InventoryError> {
    let key = "default_max_runtime";
    match (limit(key, &config.default_max_runtime)?, limit("max_runtime_limit", &config.max_runtime_limit)?) {
        (Some(default), Some(limit)) if default.0 > limit.0 => {
            Err(InventoryError::of(key, format!("it is longer than `max_runtime_limit`, {limit}")))
        }
        _ => Ok(()),
    }
}

/// A limit of time; 0 is none.
fn limit(key: &str, text: &str) -> Result<Option<Span>, InventoryError> {
    Ok(Some(parse(key, text)?).filter(|limit: &Span| limit.0 > 0))
}

/// What the cluster with this index takes of what is left of the machine.
fn share(config: &Config, of: &str, index: usize, left: &mut Node) -> Result<Node, InventoryError> {
    let written = &config.clusters[index];
    let EngineKind::Local = written.engine;
    let key = |name: &str| format!("{of}{name}");
    let before = &config.clusters[..index];
    if written.name == config.cluster || before.iter().any(|other| other.name == written.name) {
        return Err(InventoryError::of(&key("name"), format!("there are two clusters `{}`", written.name)));
    }
    if let Some(gpu) = written.gpus.iter().find(|gpu| before.iter().any(|other| other.gpus.contains(gpu))) {
        return Err(InventoryError::of(&key("gpus"), format!("GPU {gpu} is another cluster's already")));
    }
    if let Some((_, gpu)) =
        written.gpus.iter().enumerate().find(|(at, gpu)| written.gpus[..*at].contains(gpu))
    {
        return Err(InventoryError::of(&key("gpus"), format!("GPU {gpu} is there twice")));
    }
    let cpu: Cpu = parse(&key("cpu"), &written.cpu)?;
    let memory: Memory = parse(&key("memory"), &written.memory)?;
    left.cpu_milli = taken(&key("cpu"), left.cpu_milli, cpu.0)?;
    left.memory = taken(&key("memory"), left.memory, memory.0)?;
    for gpu in &written.gpus {
        if !left.gpus.iter().any(|there| there.index == *gpu) {
            tracing::warn!(cluster = written.name, gpu, "a GPU of a cluster is not there");
        }
    }
    let (gpus, others) = left.gpus.drain(..).partition(|gpu| written.gpus.contains(&gpu.index));
    left.gpus = others;
    let name = if written.node.is_empty() { left.name.clone() } else { written.node.as_str().into() };
    Ok(Node { name, cpu_milli: cpu.0, memory: memory.0, gpus })
}

/// What is left when a cluster takes its share; a cluster with nothing could run nothing.
fn taken(key: &str, all: u64, share: u64) -> Result<u64, InventoryError> {
    if share == 0 {
        return Err(InventoryError::of(key, "a cluster needs more than none"));
    }
    if share >= all {
        return Err(InventoryError::of(key, "it leaves nothing of this machine to the default cluster"));
    }
    Ok(all - share)
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
    let (export_files, events) = (config.export_files, config.event_limit);
    let cache = bytes("cache_limit", &config.cache_limit)?;
    Ok(Bounds { log, scratch, export_bytes, export_files, events, cache })
}

/// What runs may use; a machine that knows its size leaves them something.
fn rest(key: &str, all: u64, kept: u64) -> Result<u64, InventoryError> {
    if all > 0 && kept >= all {
        return Err(InventoryError::of(key, "it keeps back everything that this machine has"));
    }
    Ok(all.saturating_sub(kept))
}

fn check_presets(offer: &Offer<'_>, presets: &[Preset], node: &Node) -> Result<(), InventoryError> {
    for (index, Preset { name, amounts }) in presets.iter().enumerate() {
        if presets[..index].iter().any(|earlier| earlier.name == *name) {
            let key = format!("{}presets", offer.of);
            return Err(InventoryError::of(&key, format!("there are two presets `{name}`")));
        }
        if !fits(amounts, node) {
            // Perhaps a GPU is missing today; the other presets work all the same.
            tracing::warn!(
                preset = name.as_str(),
                "a preset is larger than its cluster: runs that ask for it are refused"
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

fn preset(at: &str, written: &PresetConfig) -> Result<Preset, InventoryError> {
    if written.name.is_empty() {
        return Err(InventoryError::of(at, "a preset has no name"));
    }
    let key = |name: &str| format!("{at}.{name}");
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
    offer: &Offer<'_>,
    presets: &[Preset],
    node: &Node,
) -> Result<Option<PresetName>, InventoryError> {
    let name = |preset: &Preset| preset.name.clone();
    if offer.default.is_empty() {
        return Ok(presets.iter().find(|preset| fits(&preset.amounts, node)).map(name));
    }
    if let Some(preset) = presets.iter().find(|preset| preset.name == *offer.default) {
        let fitting = Some(preset).filter(|preset| fits(&preset.amounts, node));
        if fitting.is_none() {
            tracing::warn!(
                preset = preset.name.as_str(),
                "the default preset is larger than its cluster: runs have to name another preset, or requests"
            );
        }
        return Ok(fitting.map(name));
    }
    let names: Vec<&str> = presets.iter().map(|preset| preset.name.as_str()).collect();
    let why = format!("there is no preset `{}`; there are {}", offer.default, names.join(", "));
    Err(InventoryError { key: format!("{}default_preset", offer.of), why })
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
    use crate::config::ClusterConfig;
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
    fn clusters_share_the_machine() {
        let share = |name: &str, cpu: &str, gpus: &[u32]| ClusterConfig {
            name: name.to_owned(),
            cpu: cpu.to_owned(),
            memory: "4Gi".to_owned(),
            gpus: gpus.to_vec(),
            ..ClusterConfig::default()
        };
        let made = |clusters: Vec<ClusterConfig>| {
            let gpus = (0..4).map(|index| Gpu { index, ..Gpu::default() }).collect();
            let node = Node { name: "n".into(), cpu_milli: 8000, memory: 16 << 30, gpus };
            let config = Config { clusters, reserve_memory: "0".to_owned(), ..Config::default() };
            Inventory::new(&config, String::new(), node)
        };
        let has = |inventory: &Inventory, name: &str| {
            let node = &inventory.clusters[name].nodes[0];
            let gpus: Vec<u32> = node.gpus.iter().map(|gpu| gpu.index).collect();
            (node.name.to_string(), node.cpu_milli, node.memory >> 30, gpus)
        };
        let other = ClusterConfig { node: "x".to_owned(), ..share("b", "500m", &[3, 9]) };
        let inventory = made(vec![share("a", "2", &[0, 2]), other]).unwrap();
        assert_eq!(has(&inventory, "a"), ("n".to_owned(), 2000, 4, vec![0, 2]));
        assert_eq!(has(&inventory, "b"), ("x".to_owned(), 500, 4, vec![3]));
        assert_eq!(has(&inventory, "local"), ("n".to_owned(), 5500, 8, vec![1]));
        let names: Vec<&str> = inventory.clusters["a"].presets.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["cpu-small", "cpu-large", "gpu-1", "gpu-2"]);

        let check = |clusters: Vec<ClusterConfig>, expected: &str| {
            let said = made(clusters).unwrap_err().to_string();
            assert!(said.starts_with(&format!("the configuration's `{expected}")), "{said}");
        };
        check(vec![share("local", "1", &[])], "clusters[0].name` is wrong: there are two clusters `local`");
        check(vec![share("a", "1", &[]), share("a", "1", &[])], "clusters[1].name` is wrong: ");
        check(
            vec![share("a", "1", &[1]), share("b", "1", &[1])],
            "clusters[1].gpus` is wrong: GPU 1 is another",
        );
        check(vec![share("a", "1", &[0, 1, 0])], "clusters[0].gpus` is wrong: GPU 0 is there twice");
        check(
            vec![share("a", "6", &[]), share("b", "2", &[])],
            "clusters[1].cpu` is wrong: it leaves nothing",
        );
        check(vec![share("a", "", &[])], "clusters[0].cpu` is wrong: ");
        check(vec![share("a", "0", &[])], "clusters[0].cpu` is wrong: a cluster needs more than none");
        let default = ClusterConfig { default_preset: "x".to_owned(), ..share("a", "1", &[]) };
        check(vec![default], "clusters[0].default_preset` is wrong: there is no preset `x`");
        let preset =
            PresetConfig { name: "p".to_owned(), memory: "1G".to_owned(), ..PresetConfig::default() };
        let presets = ClusterConfig { presets: vec![preset], ..share("a", "1", &[]) };
        check(vec![presets], "clusters[0].presets[0].cpu` is wrong: ");
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
        check(
            |c| (c.default_max_runtime, c.max_runtime_limit) = ("2h".to_owned(), "1h".to_owned()),
            "the configuration's `default_max_runtime` is wrong: it is longer than `max_runtime_limit`, 1h",
        );
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
