//! Opening a server on its data directory: the lock, the instance id, the token, the key, the database, the rooms.
//!
//! Nothing listens yet when this is done. It decides nothing about runs.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vessl_core::ids::{ClusterName, RunId};
use vessl_core::network::NetworkPolicy;
use vessl_core::secret::Secret;
use vessl_data::{blob, durable};
use vessl_ssh::keys::Place;
use zeroize::Zeroizing;

use crate::ServerError;
use crate::attempt::Attempts;
use crate::config::Config;
use crate::control::{Clock, Control, Inventory, Parts, SshParts};
#[cfg(feature = "testing")]
use crate::engine::fake::{Fake, World};
use crate::engine::local::{Local, Program};
use crate::engine::{Engine, Engines, Images};
use crate::lock;
use crate::offsite;
use crate::paths::DataDir;
use crate::registry::{Now, Registry, RegistryError, StorageRules};
use crate::reserve::Reserve;
use crate::secrets::{SecretError, Vault, read_private};
use crate::store::Store;
use crate::watch::Watches;

/// Bytes of a token before it is written as hex.
const TOKEN: usize = 32;

/// Names of directories from this number on are no ids of runs: whoever made them, numbers go on below.
const LAST_ID: u64 = 1_000_000_000_000_000;

/// The machine that runs are placed on.
#[derive(Clone, Debug)]
pub enum Machine {
    /// This one.
    Local,
    /// A scripted one, for tests.
    #[cfg(feature = "testing")]
    Fake(Arc<World>),
}

/// What a server is opened with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Settings.
    pub config: Config,
    /// Data directory.
    pub data: PathBuf,
    /// Where runs are placed.
    pub machine: Machine,
    /// More clusters.
    pub others: BTreeMap<ClusterName, Machine>,
    /// Where the time comes from.
    pub clock: Clock,
}

/// A server whose rooms are open.
#[derive(Debug)]
pub struct Opened {
    /// The control loop, with its drivers running.
    pub control: Control,
    /// Names and files.
    pub registry: Registry,
    /// Bearer token.
    pub token: Secret,
    /// The data directory.
    pub(crate) data: DataDir,
    /// Held until everything else is closed.
    pub(crate) lock: File,
}

/// Opens the rooms; refuses a data directory that another server holds. Needs a runtime.
pub async fn open(setup: Setup) -> Result<Opened, ServerError> {
    let data = DataDir::new(setup.data);
    make_private(data.root())?;
    let reserve = Reserve::at(data.reserve());
    let lock = lock::take(&data, &reserve)?;
    keep_config(&data, setup.config.file.as_deref())?;
    if let Ok(from) = std::fs::read(data.restoring()) {
        let from = String::from_utf8_lossy(&from).into_owned();
        return Err(ServerError::HalfRestored { data: data.root().to_owned(), from });
    }
    let instance = instance(&data)?;
    let token = token(&data)?;
    let database = data.database();
    let store = tokio::task::spawn_blocking(move || Store::open(&database));
    let store = Arc::new(store.await.map_err(|_| ServerError::Interrupted)??);
    compare_with_runs(&data, &store).await?;
    let key = data.secret_key();
    if !key.exists() && store.has_sealed().await? {
        // A new key would be found out only when the old one came back.
        return Err(SecretError::Lost { path: key }.into());
    }
    let vault = Arc::new(Vault::open(&key)?);
    let watches =
        Watches::start().map_err(|source| ServerError::file("watch", data.root().display(), source))?;
    let attempts = Attempts::new(data.clone(), watches);
    let program = program(&setup.config)?;
    let place = |machine, cluster: &ClusterName| {
        engine(machine, &data, &attempts, (&program, setup.config.network_of(cluster)))
    };
    let first = setup.config.cluster.as_str().into();
    let node = place(setup.machine.clone(), &first).0.machine().await?.node;
    let mut inventory = Inventory::new(&setup.config, instance, node)?;
    let of_machine = |name: &ClusterName| (name.clone(), place(setup.machine.clone(), name));
    let mut engines: BTreeMap<_, _> = inventory.clusters.keys().map(of_machine).collect();
    for (name, machine) in setup.others {
        let (engine, images) = place(machine, &name);
        inventory.add(name.clone(), engine.machine().await?.node);
        engines.insert(name, (engine, images));
    }
    let clock = setup.clock.clone();
    let blobs = blob::Store::open(&data.root().join("blobs")).map_err(RegistryError::from)?;
    let bucket = open_bucket(&setup.config, &blobs).await?;
    let registry = Registry::open(
        &data,
        (Arc::clone(&store), blobs),
        Now::of(move || clock.now()),
        StorageRules {
            hostpath_roots: &setup.config.hostpath_roots,
            cloud_identity: setup.config.cloud_identity,
            vault: Arc::clone(&vault),
        },
        bucket.clone(),
    )?;
    let keys = Place::new(data.root());
    let ssh = SshParts { host_key: keys.make()?, keys, all_runs: setup.config.ssh_all_runs };
    let parts = Parts {
        store,
        blobs: registry.blobs(),
        bucket,
        data: data.clone(),
        engines: Engines::new(engines, inventory.cluster.clone()),
        vault,
        clock: setup.clock,
        inventory,
        attempts,
        reserve,
        ssh,
    };
    parts.reserve.fill();
    let control = Control::open(parts).await?;
    control.warm_up();
    let kept = registry.clone().keep_offsite(control.inventory().instance.clone(), control.stopping());
    tokio::spawn(kept);
    Ok(Opened { control, registry, token, data, lock })
}

/// Ids never come again that a directory of runs has, whatever the database says: it may have been restored from a backup.
/// An empty database beside directories of runs was lost.
async fn compare_with_runs(data: &DataDir, store: &Store) -> Result<(), ServerError> {
    let dirs = tokio::task::spawn_blocking({
        let runs = data.runs();
        move || run_dirs(&runs)
    });
    let failed = |source| ServerError::file("read", data.runs().display(), source);
    let dirs = dirs.await.map_err(|_| ServerError::Interrupted)?.map_err(failed)?;
    let Some(&last) = dirs.last() else { return Ok(()) };
    if store.is_fresh() {
        let (database, runs) = (data.database(), data.runs());
        return Err(ServerError::LostDatabase { database, runs, count: dirs.len() });
    }
    let unknown = dirs.iter().filter(|id| **id > store.last_id());
    let unknown: Vec<String> = unknown.map(|id| id.0.to_string()).collect();
    if !unknown.is_empty() {
        tracing::warn!(
            runs = unknown.join(" "),
            "the database does not know these runs, whose directories stay where they are: it is older than they are"
        );
    }
    store.skip_ids(last);
    Ok(())
}

/// Ids of the runs that have a directory, ascending.
fn run_dirs(runs: &Path) -> std::io::Result<Vec<RunId>> {
    let entries = match std::fs::read_dir(runs) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let id = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        ids.extend(id.filter(|id| *id < LAST_ID).map(RunId));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// What places runs on a machine, and where its images are.
fn engine(
    machine: Machine,
    data: &DataDir,
    attempts: &Attempts,
    (program, policy): (&Program, NetworkPolicy),
) -> (Engine, Images) {
    match machine {
        #[cfg(feature = "testing")]
        Machine::Fake(world) => (Engine::Fake(Fake::new(world, attempts.clone())), Images::Fake),
        Machine::Local => {
            let root = data.root().to_owned();
            let images = Images::Local(root.clone(), program.clone());
            (Engine::Local(Local::new(root, attempts.clone(), program.clone(), policy)), images)
        }
    }
}

/// The agent of this configuration.
fn program(config: &Config) -> Result<Program, ServerError> {
    let program = if config.agent.as_os_str().is_empty() {
        std::env::current_exe().map_err(|source| ServerError::file("find", "this program", source))?
    } else {
        config.agent.clone()
    };
    Ok(Program::new(program, config))
}

/// Says whether the settings can be carried out on this machine. Needs a runtime; opens nothing.
pub(crate) async fn check(config: &Config) -> Result<(), ServerError> {
    let node = program(config)?.machine().await?.node;
    Inventory::new(config, String::new(), node)?;
    // The store is not touched.
    open_bucket(config, &blob::Store::at(Path::new(""))).await?;
    Ok(())
}

/// The bucket of the settings; one that fails has threads to wait for, which asynchronous code may not.
async fn open_bucket(
    config: &Config,
    blobs: &blob::Store,
) -> Result<Option<Arc<offsite::Bucket>>, ServerError> {
    let (config, blobs) = (config.clone(), blobs.clone());
    let opened = tokio::task::spawn_blocking(move || offsite::open(&config, &blobs));
    Ok(opened.await.map_err(|_| ServerError::Interrupted)??)
}

fn make_private(root: &Path) -> Result<(), ServerError> {
    let failed = |source| ServerError::file("make", root.display(), source);
    durable::create_dir_all(root, 0o700).map_err(failed)?;
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// Notes the settings file, so that a client that starts the next server starts it with the same: a server that somebody stopped must
/// not come back with other rules.
fn keep_config(data: &DataDir, file: Option<&Path>) -> Result<(), ServerError> {
    let path = data.config();
    let failed = |source| ServerError::file("write", path.display(), source);
    match file.filter(|file| file.exists()) {
        Some(file) if std::fs::read(&path).is_ok_and(|known| known == file.as_os_str().as_bytes()) => Ok(()),
        Some(file) => durable::write_atomic(&path, file.as_os_str().as_bytes(), 0o600).map_err(failed),
        None => match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        },
    }
}

fn instance(data: &DataDir) -> Result<String, ServerError> {
    let path = data.instance();
    let failed = |source| ServerError::file("use", path.display(), source);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let made = random_hex(4)?;
            durable::write_atomic(&path, made.expose().as_bytes(), 0o600).map_err(failed)?;
            made.expose().to_owned()
        }
        Err(source) => return Err(failed(source)),
    };
    if text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text);
    }
    Err(failed(std::io::Error::other("it does not hold 8 hex digits")))
}

fn token(data: &DataDir) -> Result<Secret, ServerError> {
    let path = data.token();
    let failed = |source| ServerError::file("use", path.display(), source);
    match read_private(&path, 4096) {
        Ok(bytes) => {
            let text = std::str::from_utf8(&bytes).unwrap_or_default().trim().to_owned();
            if text.len() < TOKEN {
                let words =
                    format!("a token must have at least {TOKEN} characters; delete it to get a new one");
                return Err(failed(std::io::Error::other(words)));
            }
            Ok(text.into())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let made = random_hex(TOKEN)?;
            let line = Zeroizing::new(format!("{}\n", made.expose()));
            durable::write_atomic(&path, line.as_bytes(), 0o600).map_err(failed)?;
            Ok(made)
        }
        Err(source) => Err(failed(source)),
    }
}

fn random_hex(bytes: usize) -> Result<Secret, ServerError> {
    let mut random = Zeroizing::new(vec![0; bytes]);
    getrandom::fill(&mut random).map_err(|error| ServerError::Random(error.to_string()))?;
    Ok(crate::hex(&random).into())
}
