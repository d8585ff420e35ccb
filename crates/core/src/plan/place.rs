//! Where a run may be placed and what it gets: cluster, nodes, preset, requests. It gives nothing out.
use super::report::{Code, Report, listed};
use super::{Amounts, Catalogue, Cluster, Node, Preset, fit};
use crate::ids::{ClusterName, NodeName, PresetName};
use crate::spec::{GpuRequest, Requests, Resources};

/// What the `resources` of a run file come to.
pub(super) struct Chosen<'a> {
    /// Name of the cluster, also of one that does not exist.
    pub(super) name: ClusterName,
    pub(super) cluster: Option<&'a Cluster>,
    pub(super) nodes: Vec<NodeName>,
    pub(super) preset: Option<PresetName>,
    /// `None` after an error.
    pub(super) amounts: Option<Amounts>,
}

/// Reads `resources` against the catalogue.
pub(super) fn choose<'a>(resources: &Resources, catalogue: &'a Catalogue, report: &mut Report) -> Chosen<'a> {
    unsupported(resources, report);
    let name = resources.cluster.as_deref().map_or_else(|| catalogue.default_cluster.clone(), Into::into);
    let Some(cluster) = catalogue.clusters.get(&name) else {
        unknown_cluster(resources, catalogue, report);
        return Chosen { name, cluster: None, nodes: Vec::new(), preset: None, amounts: None };
    };
    let sizing = Sizing { name: &name, cluster, nodes: candidates(resources, (&name, cluster), report) };
    let sized = sizing.amounts(resources, report);
    let (preset, amounts) = sized.map_or((None, None), |(preset, amounts)| (preset, Some(amounts)));
    let mut nodes: Vec<NodeName> = resources.node_names.iter().map(|name| name.as_str().into()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    Chosen { name, cluster: Some(cluster), nodes, preset, amounts }
}

fn unknown_cluster(resources: &Resources, catalogue: &Catalogue, report: &mut Report) {
    let names = catalogue.clusters.keys().map(ClusterName::as_str);
    match &resources.cluster {
        Some(name) => report
            .error(Code::UnknownCluster, "resources.cluster", format!("there is no cluster `{name}`"))
            .candidates(name, "cluster", names),
        None => report
            .error(
                Code::UnknownCluster,
                "resources.cluster",
                "no cluster is named, and there is no default cluster",
            )
            .candidates("", "cluster", names),
    }
}

/// What this version has no way to give.
fn unsupported(resources: &Resources, report: &mut Report) {
    if resources.spot {
        report
            .error(
                Code::Unsupported,
                "resources.spot",
                "capacity that can be taken away (`spot`) is not offered in this version",
            )
            .hint("remove `spot` to run on ordinary capacity");
    }
    let Some(requests) = &resources.requests else { return };
    if requests.mig.is_some() || requests.gpu.as_ref().is_some_and(|gpu| gpu.mig_resource_type.is_some()) {
        report
            .error(
                Code::Unsupported,
                "resources.requests.nvidia.com/mig",
                "slices of a GPU (MIG) are not offered in this version",
            )
            .hint("ask for whole GPUs: `nvidia.com/gpu: {quantity: 1}`");
    }
    if requests.disk.is_some() {
        report.warn(
            Code::NoEffect,
            "resources.requests.disk",
            "disk is neither reserved nor limited: the run may use what is free on the node",
        );
    }
}

/// The nodes that the file allows, as far as they exist.
fn candidates<'a>(
    resources: &Resources,
    (name, cluster): (&ClusterName, &'a Cluster),
    report: &mut Report,
) -> Vec<&'a Node> {
    if resources.node_names.is_empty() {
        return cluster.nodes.iter().collect();
    }
    let mut found = Vec::new();
    for (index, wanted) in resources.node_names.iter().enumerate() {
        match cluster.nodes.iter().find(|node| node.name == *wanted.as_str()) {
            Some(node) => found.push(node),
            None => report
                .error(
                    Code::UnknownNode,
                    format!("resources.node_names[{index}]"),
                    format!("cluster `{name}` has no node `{wanted}`"),
                )
                .candidates(wanted, "node", cluster.nodes.iter().map(|node| node.name.as_str())),
        }
    }
    found
}

/// One cluster with the nodes that come into question.
struct Sizing<'a> {
    name: &'a ClusterName,
    cluster: &'a Cluster,
    nodes: Vec<&'a Node>,
}

type Sized = (Option<PresetName>, Amounts);

impl Sizing<'_> {
    fn amounts(&self, resources: &Resources, report: &mut Report) -> Option<Sized> {
        let requests = resources.requests.as_ref().map(asked).filter(|asked| *asked != Amounts::default());
        let sized = match (&resources.preset, requests) {
            (Some(preset), asked) => self.by_preset(preset, asked.as_ref(), report)?,
            (None, None) => self.by_default(report)?,
            (None, Some(asked)) if self.cluster.presets.is_empty() => (None, asked),
            (None, Some(asked)) => return self.smallest(&asked, report),
        };
        self.holds(&sized, report).then_some(sized)
    }

    fn by_preset(&self, name: &str, asked: Option<&Amounts>, report: &mut Report) -> Option<Sized> {
        let Some(preset) = self.cluster.presets.iter().find(|preset| preset.name == *name) else {
            report
                .error(
                    Code::UnknownPreset,
                    "resources.preset",
                    format!("cluster `{}` has no preset `{name}`", self.name),
                )
                .candidates(name, "preset", self.preset_names());
            return None;
        };
        let Some(asked) = asked else { return Some(given(preset, None)) };
        if !within(asked, &preset.amounts) {
            report
                .error(
                    Code::RequestOverPreset,
                    "resources.requests",
                    format!(
                        "the requests ({}) do not fit into preset `{name}` ({})",
                        fit::amounts_words(asked),
                        fit::amounts_words(&preset.amounts)
                    ),
                )
                .hint("lower the requests, or remove `preset` to let the smallest one that fits be chosen");
            return None;
        }
        Some(given(preset, Some(asked)))
    }

    fn by_default(&self, report: &mut Report) -> Option<Sized> {
        let default = self.cluster.default_preset.as_ref();
        let found = default.and_then(|name| self.cluster.presets.iter().find(|preset| preset.name == *name));
        if found.is_none() {
            let hint = match listed(&self.preset_names().collect::<Vec<_>>()) {
                Some(list) => format!("add `preset:` with one of {list}"),
                None => "add `requests: {cpu: 2, memory: 4Gi}`".to_owned(),
            };
            let message = format!(
                "neither `preset` nor `requests` is given, and cluster `{}` has no default preset",
                self.name
            );
            report.error(Code::NoDefaultPreset, "resources", message).hint(hint);
        }
        found.map(|preset| given(preset, None))
    }

    /// The smallest preset that holds the requests and that a node could hold.
    fn smallest(&self, asked: &Amounts, report: &mut Report) -> Option<Sized> {
        let fits = self.cluster.presets.iter().filter(|preset| within(asked, &preset.amounts));
        let best = fits
            .map(|preset| given(preset, Some(asked)))
            .filter(|(_, amounts)| self.some_node_holds(amounts))
            .min_by_key(|(_, amounts)| (amounts.gpus, amounts.cpu_milli, amounts.memory));
        let Some((Some(name), amounts)) = best else {
            self.nothing_fits(asked, report);
            return None;
        };
        if self.cluster.presets_are_made {
            return Some((None, filled(asked, &amounts, &name, report)));
        }
        if amounts != *asked {
            self.rounded_up(asked, (&name, &amounts), report);
        }
        Some((Some(name), amounts))
    }

    fn rounded_up(&self, asked: &Amounts, (name, amounts): (&PresetName, &Amounts), report: &mut Report) {
        let words = format!(
            "the requests ({}) were rounded up to preset `{name}`: {}",
            fit::amounts_words(asked),
            fit::amounts_words(amounts)
        );
        let settings = self.cluster.settings.as_ref();
        let file =
            settings.map_or_else(|| "the server's settings file".to_owned(), |file| format!("`{file}`"));
        let hint = format!(
            "requests get the smallest preset that holds them; the presets of cluster `{}` stand in {file}: change them there (`presets`), or ask for a preset as it is",
            self.name
        );
        report.note(Code::PresetChosen, "resources.requests", words).hint(hint);
    }

    fn nothing_fits(&self, asked: &Amounts, report: &mut Report) {
        if !self.some_node_holds(asked) {
            self.no_node(asked, "resources.requests", report);
            return;
        }
        let message = format!("no preset of cluster `{}` holds {}", self.name, fit::amounts_words(asked));
        let presets = self
            .cluster
            .presets
            .iter()
            .map(|preset| format!("`{}` ({})", preset.name, fit::amounts_words(&preset.amounts)));
        let hint = format!("lower the requests to one of {}", presets.collect::<Vec<_>>().join(", "));
        report.error(Code::NoPresetFits, "resources.requests", message).hint(hint);
    }

    fn holds(&self, (preset, amounts): &Sized, report: &mut Report) -> bool {
        let holds = self.some_node_holds(amounts);
        if !holds {
            self.no_node(
                amounts,
                if preset.is_some() { "resources.preset" } else { "resources.requests" },
                report,
            );
        }
        holds
    }

    fn some_node_holds(&self, amounts: &Amounts) -> bool {
        self.nodes.iter().any(|node| fit::could_hold(node, amounts))
    }

    fn no_node(&self, amounts: &Amounts, path: &str, report: &mut Report) {
        // Nodes that do not exist were reported already.
        if self.nodes.is_empty() && !self.cluster.nodes.is_empty() {
            return;
        }
        let message = format!("no node of cluster `{}` has {}", self.name, fit::amounts_words(amounts));
        report.error(Code::NoNodeFits, path, message).hint(fit::largest(self.nodes.iter().copied()));
    }

    fn preset_names(&self) -> impl Iterator<Item = &str> {
        self.cluster.presets.iter().map(|preset| preset.name.as_str())
    }
}

/// The amounts of a request; what is not said is 0.
fn asked(requests: &Requests) -> Amounts {
    let gpu = requests.gpu.as_ref();
    Amounts {
        cpu_milli: requests.cpu.map_or(0, |cpu| cpu.0),
        memory: requests.memory.map_or(0, |memory| memory.0),
        gpus: gpu.map_or(0, |gpu: &GpuRequest| gpu.quantity),
        gpu_type: gpu.and_then(|gpu| gpu.device_type.clone()),
    }
}

/// A request as it is, with a share of the machine where it says nothing: a run of GPUs needs cores to feed them.
fn filled(asked: &Amounts, share: &Amounts, of: &PresetName, report: &mut Report) -> Amounts {
    let or = |asked: u64, share: u64| if asked == 0 { share } else { asked };
    let amounts = Amounts {
        cpu_milli: or(asked.cpu_milli, share.cpu_milli),
        memory: or(asked.memory, share.memory),
        gpus: asked.gpus,
        gpu_type: asked.gpu_type.clone(),
    };
    if amounts != *asked {
        let words = format!(
            "the run gets {}: what `requests` leaves open is the share of preset `{of}`",
            fit::amounts_words(&amounts)
        );
        report.note(Code::PresetChosen, "resources.requests", words);
    }
    amounts
}

/// Whether `asked` is no more than `preset` gives.
fn within(asked: &Amounts, preset: &Amounts) -> bool {
    let same_type = match (&asked.gpu_type, &preset.gpu_type) {
        (Some(wanted), Some(product)) => fit::gpu_matches(Some(wanted), product),
        _ => true,
    };
    asked.cpu_milli <= preset.cpu_milli
        && asked.memory <= preset.memory
        && asked.gpus <= preset.gpus
        && same_type
}

/// What a preset gives; the type of its GPUs may be narrowed by the request.
fn given(preset: &Preset, asked: Option<&Amounts>) -> Sized {
    let mut amounts = preset.amounts.clone();
    if amounts.gpu_type.is_none() {
        amounts.gpu_type = asked.and_then(|asked| asked.gpu_type.clone());
    }
    (Some(preset.name.clone()), amounts)
}
