//! Clusters, nodes, presets.
use axum::extract::State;
use axum::{Extension, Json};
use vessl_core::access::Caller;
use vessl_core::ids::ClusterName;
use vessl_core::plan::{Cluster, Preset};
use vessl_core::queue::NodeUse;
use vessl_core::wire::{ClusterKind, ClusterView, ErrorBody, NodeView, PresetView};

use super::Api;
use super::error::{Failure, Result};
use super::extract::Path;

/// All clusters.
#[utoipa::path(
    get, path = "/clusters", tag = "clusters", operation_id = "listClusters",
    responses((status = 200, description = "clusters", body = Vec<ClusterView>))
)]
pub(super) async fn clusters(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<ClusterView>>> {
    let default = &api.control.inventory().cluster;
    let clusters = api.control.clusters(&caller)?.iter();
    Ok(Json(clusters.map(|(name, cluster)| view(name, cluster, default)).collect()))
}

/// One cluster.
#[utoipa::path(
    get, path = "/clusters/{name}", tag = "clusters", operation_id = "readCluster",
    params(("name" = String, Path)),
    responses(
        (status = 200, description = "the cluster", body = ClusterView),
        (status = 404, description = "there is no such cluster", body = ErrorBody),
    )
)]
pub(super) async fn cluster(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<ClusterView>> {
    Ok(Json(view(
        &name.as_str().into(),
        api.control.cluster(&caller, &name)?,
        &api.control.inventory().cluster,
    )))
}

/// Nodes of a cluster with what is in use.
#[utoipa::path(
    get, path = "/clusters/{name}/nodes", tag = "clusters", operation_id = "listNodes",
    params(("name" = String, Path)),
    responses((status = 200, description = "nodes", body = Vec<NodeView>))
)]
pub(super) async fn nodes(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Vec<NodeView>>> {
    Ok(Json(api.control.usage(&caller, &name)?.iter().map(node_view).collect()))
}

/// Presets of a cluster.
#[utoipa::path(
    get, path = "/clusters/{name}/presets", tag = "clusters", operation_id = "listPresets",
    params(("name" = String, Path)),
    responses((status = 200, description = "presets", body = Vec<PresetView>))
)]
pub(super) async fn presets(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Vec<PresetView>>> {
    let cluster = api.control.cluster(&caller, &name)?;
    Ok(Json(cluster.presets.iter().map(|preset| preset_view(preset, cluster)).collect()))
}

/// One preset.
#[utoipa::path(
    get, path = "/clusters/{name}/presets/{preset}", tag = "clusters", operation_id = "readPreset",
    params(("name" = String, Path), ("preset" = String, Path)),
    responses(
        (status = 200, description = "the preset", body = PresetView),
        (status = 404, description = "there is no such preset", body = ErrorBody),
    )
)]
pub(super) async fn preset(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((name, wanted)): Path<(String, String)>,
) -> Result<Json<PresetView>> {
    let cluster = api.control.cluster(&caller, &name)?;
    let found = cluster.presets.iter().find(|preset| preset.name == *wanted.as_str());
    found.map(|preset| Json(preset_view(preset, cluster))).ok_or_else(|| {
        let known: Vec<&str> = cluster.presets.iter().map(|preset| preset.name.as_str()).collect();
        Failure::not_found(format!("the cluster `{name}` has no preset `{wanted}`"))
            .hint(Some(format!("there are: {}", known.join(", "))))
    })
}

fn view(name: &ClusterName, cluster: &Cluster, default: &ClusterName) -> ClusterView {
    ClusterView {
        name: name.to_string(),
        default: name == default,
        kind: if cluster.local { ClusterKind::Local } else { ClusterKind::Kubernetes },
        status: "connected".to_owned(),
        nodes: u32::try_from(cluster.nodes.len()).unwrap_or(u32::MAX),
    }
}

fn preset_view(preset: &Preset, cluster: &Cluster) -> PresetView {
    PresetView {
        name: preset.name.to_string(),
        default: cluster.default_preset.as_ref() == Some(&preset.name),
        amounts: preset.amounts.clone(),
    }
}

fn node_view(one: &NodeUse) -> NodeView {
    let gpus_used: usize = one.holders.iter().map(|holder| holder.gpus.len()).sum();
    NodeView {
        name: one.node.name.to_string(),
        cpu_milli: one.node.cpu_milli,
        cpu_milli_used: one.holders.iter().map(|holder| holder.amounts.cpu_milli).sum(),
        memory: one.node.memory,
        memory_used: one.holders.iter().map(|holder| holder.amounts.memory).sum(),
        gpus: one.node.gpus.iter().map(|gpu| gpu.product.clone()).collect(),
        gpus_used: u32::try_from(gpus_used).unwrap_or(u32::MAX),
        runs: one.holders.iter().map(|holder| holder.id).collect(),
    }
}
