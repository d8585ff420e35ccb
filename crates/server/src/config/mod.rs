//! What an administrator can set: a TOML file, the environment above it, defaults below it.
//!
//! It reads text and gives values; it opens no file but the one it is told and knows no path of its own.
mod place;
mod read;

use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vessl_core::ids::ClusterName;
use vessl_core::network::{NetworkMode, NetworkPolicy, Pool, Reach};

pub use read::{ConfigError, load, load_data_dir, origin};

/// The documented defaults, as `--print-config` shows them.
pub const DEFAULT_TOML: &str = include_str!("config.default.toml");

/// All settings of a server. What each means is written in [`DEFAULT_TOML`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Config {
    /// `unix:/path` or `127.0.0.1:PORT`; empty is a socket in the data directory.
    pub listen: String,
    /// Data directory; empty is the user's default.
    pub data_dir: PathBuf,
    /// More accepted `Host` names.
    pub allowed_hosts: Vec<String>,
    /// Filter of the server's own log.
    pub log: String,
    /// Threads that serve requests.
    pub threads: usize,
    /// Organization made at the first start.
    pub organization: String,
    /// Project made at the first start.
    pub project: String,
    /// Name of the default cluster, which has what the others leave of this machine.
    pub cluster: String,
    /// Name of the local node; empty is the host name.
    pub node: String,
    /// Whether `host://` is allowed.
    pub allow_host_image: bool,
    /// Whether programs of runs get no rights that their callers lack.
    pub no_new_privs: bool,
    /// Roots of `hostpath` mounts.
    pub hostpath_roots: Vec<String>,
    /// Registries without TLS.
    pub insecure_registries: Vec<String>,
    /// Address of Hugging Face; empty is the public one.
    pub hf_endpoint: String,
    /// Package index that JupyterLab comes from; empty is the public one.
    pub jupyter_index: String,
    /// Directory that has its wheels instead; empty is none.
    pub jupyter_wheels: PathBuf,
    /// Whether buckets are reached with this machine's own cloud identity.
    pub cloud_identity: bool,
    /// The network of runs.
    pub network: NetworkMode,
    /// Addresses for runs that have a network of their own.
    pub network_pool: Pool,
    /// Whether those reach the machine and each other too.
    pub open_network: bool,
    /// Where ports of runs are reached, `127.0.0.1:PORT`; empty is nowhere.
    pub ports_listen: String,
    /// Below which domain each of them has its own host name.
    pub ports_domain: String,
    /// Whether they are reached below a path too.
    pub ports_by_path: bool,
    /// File with the certificate (PEM) of that domain; empty is no encryption.
    pub ports_certificate: String,
    /// File with its key (PEM).
    pub ports_key: String,
    /// Ports of the machine that lead to `tcp` ports of runs, `FIRST-LAST`; empty is none.
    pub tcp_ports: String,
    /// Where runs are reached by SSH, `127.0.0.1:PORT`; empty is nowhere.
    pub ssh_listen: String,
    /// Whether runs that are not interactive are reached by it too.
    pub ssh_all_runs: bool,
    /// Bucket that blobs are kept in too; empty is none.
    pub blobs_bucket: String,
    /// Another server of it than the cloud's own.
    pub blobs_endpoint: String,
    /// Where it is; empty finds out.
    pub blobs_region: String,
    /// File with its keys; empty is the machine's own cloud identity.
    pub blobs_key_file: PathBuf,
    /// Bytes of blobs that stay on this machine.
    #[serde(deserialize_with = "read::memory")]
    pub blobs_local_limit: String,
    /// Cores kept back.
    #[serde(deserialize_with = "read::cores")]
    pub reserve_cpu: String,
    /// Memory kept back.
    #[serde(deserialize_with = "read::memory")]
    pub reserve_memory: String,
    /// Time between SIGTERM and the kill.
    pub grace: String,
    /// Longest time of the commands of a run that names none.
    pub default_max_runtime: String,
    /// Longest time that a run may name.
    pub max_runtime_limit: String,
    /// Bytes of a run's log.
    #[serde(deserialize_with = "read::memory")]
    pub log_limit: String,
    /// Bytes of a run's own files; empty is nine tenths of what is free.
    #[serde(deserialize_with = "read::memory")]
    pub scratch_limit: String,
    /// Bytes of what imports brought and that is kept.
    #[serde(deserialize_with = "read::memory")]
    pub cache_limit: String,
    /// Bytes of one export.
    #[serde(deserialize_with = "read::memory")]
    pub export_bytes: String,
    /// Files of one export.
    pub export_files: u64,
    /// Longest time of exports after a terminate.
    pub export_time: String,
    /// How long the files of a run are kept whose export failed.
    pub keep_failed_exports: String,
    /// Events of items.
    pub event_limit: u64,
    /// Request bodies on their way.
    pub open_bodies: usize,
    /// Agent program; empty is this one.
    pub agent: PathBuf,
    /// Preset used when none is named.
    pub default_preset: String,
    /// Presets; empty makes them from the machine.
    pub presets: Vec<PresetConfig>,
    /// More clusters.
    pub clusters: Vec<ClusterConfig>,
    /// The settings file, whether it exists yet or not; not a setting itself.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// One more cluster as written in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// Name.
    pub name: String,
    /// What places its runs.
    pub engine: EngineKind,
    /// Name of its node; empty is that of the default cluster.
    pub node: String,
    /// Its cores.
    #[serde(deserialize_with = "read::cores")]
    pub cpu: String,
    /// Its memory.
    #[serde(deserialize_with = "read::memory")]
    pub memory: String,
    /// Indices of its GPUs.
    pub gpus: Vec<u32>,
    /// The network of its runs; that of the default cluster if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkMode>,
    /// Preset used when none is named.
    pub default_preset: String,
    /// Presets; empty makes them from its share.
    pub presets: Vec<PresetConfig>,
}

/// What places the runs of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// Agents on this machine.
    #[default]
    Local,
}

/// One preset as written in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresetConfig {
    /// Name.
    pub name: String,
    /// Cores.
    #[serde(deserialize_with = "read::cores")]
    pub cpu: String,
    /// Memory.
    #[serde(deserialize_with = "read::memory")]
    pub memory: String,
    /// GPUs.
    #[serde(default)]
    pub gpus: u32,
    /// Product that the GPUs must match.
    #[serde(default)]
    pub gpu_type: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: String::new(),
            data_dir: PathBuf::new(),
            allowed_hosts: Vec::new(),
            log: "info".to_owned(),
            threads: 2,
            organization: "default".to_owned(),
            project: "default".to_owned(),
            cluster: "local".to_owned(),
            node: String::new(),
            allow_host_image: true,
            no_new_privs: false,
            hostpath_roots: Vec::new(),
            insecure_registries: Vec::new(),
            hf_endpoint: String::new(),
            jupyter_index: String::new(),
            jupyter_wheels: PathBuf::new(),
            cloud_identity: false,
            network: NetworkMode::Auto,
            network_pool: Pool::default(),
            open_network: false,
            ports_listen: "127.0.0.1:7381".to_owned(),
            ports_domain: "vessl.localhost".to_owned(),
            ports_by_path: true,
            ports_certificate: String::new(),
            ports_key: String::new(),
            tcp_ports: "20000-20999".to_owned(),
            ssh_listen: "127.0.0.1:7322".to_owned(),
            ssh_all_runs: false,
            blobs_bucket: String::new(),
            blobs_endpoint: String::new(),
            blobs_region: String::new(),
            blobs_key_file: PathBuf::new(),
            blobs_local_limit: "0".to_owned(),
            reserve_cpu: "0".to_owned(),
            reserve_memory: "512M".to_owned(),
            grace: "30s".to_owned(),
            default_max_runtime: "0".to_owned(),
            max_runtime_limit: "0".to_owned(),
            log_limit: "4Gi".to_owned(),
            scratch_limit: String::new(),
            cache_limit: "500Gi".to_owned(),
            export_bytes: "1Ti".to_owned(),
            export_files: 1_000_000,
            export_time: "10m".to_owned(),
            keep_failed_exports: "7d".to_owned(),
            event_limit: 10_000,
            open_bodies: 64,
            agent: PathBuf::new(),
            default_preset: String::new(),
            presets: Vec::new(),
            clusters: Vec::new(),
            file: None,
        }
    }
}

impl Config {
    /// The networks of the runs of a cluster.
    pub fn network_of(&self, cluster: &ClusterName) -> NetworkPolicy {
        let written = self.clusters.iter().find(|written| written.name == cluster.as_str());
        NetworkPolicy {
            mode: written.and_then(|written| written.network).unwrap_or(self.network),
            pool: self.network_pool,
            reach: if self.open_network { Reach::Everything } else { Reach::Beyond },
        }
    }

    /// The ports of the machine that lead to `tcp` ports of runs; `None` if what is written is none.
    pub fn tcp_range(&self) -> Option<RangeInclusive<u16>> {
        let (first, last) = self.tcp_ports.split_once('-')?;
        let range = first.trim().parse().ok()?..=last.trim().parse().ok()?;
        Some(range).filter(|range| *range.start() > 0 && !range.is_empty())
    }

    /// The documented file with this configuration's values in it: what `--print-config` prints.
    pub fn documented(&self) -> String {
        let values = toml::Table::try_from(self).unwrap_or_default();
        let mut text = String::new();
        for line in DEFAULT_TOML.lines() {
            let value = line.split_once(" = ").filter(|_| !line.starts_with('#')).and_then(|(key, _)| {
                let value = values.get(key)?;
                Some(format!("{key} = {value}"))
            });
            text.push_str(value.as_deref().unwrap_or(line));
            text.push('\n');
        }
        text
    }
}
