//! Imports: what the plan names is copied or mounted into the run's root before the commands start. It must not know where
//! a source comes from beyond its plan, and it starts nothing that outlives it.
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use vessl_container::runtime::StartError;
use vessl_core::plan::{ImportPlan, ImportSource};
use vessl_core::record::{EventKind, Transfer};
use vessl_data::DataError;
use vessl_data::blob::{Digest, Store};
use vessl_data::dir::{Dir, proc_path};
use vessl_data::git::{Address, Fence, Files, GitError, Request, STALL, find_local, import};
use vessl_data::tree::{self, Checkout, Trees};

use crate::follow::{amount, follow, millis};
use crate::ground::Ground;

/// What must live as long as the run's root file system.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    /// Versions that are mounted; only their locks matter.
    held: Vec<Checkout>,
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct StageError {
    text: String,
    source: Reason,
}

/// What failed inside an import.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Reason {
    /// git, or the other end.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The content-addressed store.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The run's root file system.
    #[error(transparent)]
    Root(#[from] StartError),
    /// The plan asks for something that is not there.
    #[error("{0}")]
    Plan(String),
    /// The machine refused something.
    #[error("{0}")]
    Os(#[from] std::io::Error),
}

impl StageError {
    /// Names path, source and reason, each once.
    fn new(import: &ImportPlan, source: Reason) -> Self {
        let (path, label, why) = (&import.path, import.source.label(), source.to_string());
        let text = if why.contains(label) {
            format!("cannot import `{path}`: {why}")
        } else {
            format!("cannot import `{label}` to `{path}`: {why}")
        };
        Self { text, source }
    }
}

/// Carries out every import of the plan in order, and records each. The first that fails ends it.
pub(crate) fn run(ground: &Ground<'_>) -> Result<Staged, StageError> {
    let mut staged = Staged::default();
    for plan in &ground.plan.imports {
        let began = Instant::now();
        let label = plan.source.label().to_owned();
        ground.say(format!("importing `{label}` to `{}`", plan.path));
        let mut transfer = Transfer { path: plan.path.clone(), label, ..Transfer::default() };
        let result = one(ground, plan, &mut transfer, &mut staged);
        transfer.millis = millis(began);
        transfer.error = result.as_ref().err().map(ToString::to_string);
        ground.record(EventKind::Imported(transfer));
        result.map_err(|reason| StageError::new(plan, reason))?;
    }
    Ok(staged)
}

fn one(
    ground: &Ground<'_>,
    plan: &ImportPlan,
    transfer: &mut Transfer,
    staged: &mut Staged,
) -> Result<(), Reason> {
    // Git runs programs that the files in its directory name, so nobody else may write there; and an import is a copy that the
    // machine does not get.
    let dest = ground.merged.private_dir(Path::new(&plan.path), ground.owner)?;
    match &plan.source {
        ImportSource::Git { url, reference, credential } => {
            let want = Commit { url, reference: reference.as_deref(), credential: credential.as_deref() };
            git(ground, (&plan.path, &dest), &want, transfer)
        }
        ImportSource::Tree { manifest, .. } => {
            let version = manifest
                .parse()
                .map_err(|_| Reason::Plan(format!("`{manifest}` is not the version of a tree")))?;
            version_of_tree(ground, (&plan.path, &dest), version, transfer, staged)
        }
    }
}

/// A commit as the plan names it.
struct Commit<'a> {
    url: &'a str,
    reference: Option<&'a str>,
    credential: Option<&'a str>,
}

/// A directory of the container, with its path for people.
type Dest<'a> = (&'a str, &'a Dir);

fn git(
    ground: &Ground<'_>,
    (path, dest): Dest<'_>,
    want: &Commit<'_>,
    transfer: &mut Transfer,
) -> Result<(), Reason> {
    let address = address(ground, want.url)?;
    let login =
        match want.credential {
            None => None,
            Some(name) => {
                Some(ground.secrets.git.get(name).ok_or_else(|| {
                    Reason::Plan(format!("the credential `{name}` did not reach the agent"))
                })?)
            }
        };
    let owner = ground.owner;
    let fence = ground.plan.fence.as_ref().map(|roots| Fence::new(roots, ground.merged.scratch()));
    let imported = follow(ground, "import", &transfer.label, |watch| {
        import(&Request {
            address: &address,
            reference: want.reference,
            dest,
            owner,
            login,
            watch,
            stall: STALL,
            prepare: &die_with_us,
            fence: fence.as_ref(),
        })
    })?;
    (transfer.bytes, transfer.files) = (imported.bytes, imported.files);
    ground.say(format!("imported `{path}`: commit {}, {}", imported.commit, amount(transfer)));
    transfer.version = Some(imported.commit);
    Ok(())
}

/// Where git shall go: a path of this machine is settled once, links and all. A repository inside the data directory is
/// another run's, or nobody's. Whether it lies inside the plan's fence is seen by who opens it.
fn address(ground: &Ground<'_>, url: &str) -> Result<Address, Reason> {
    let address = Address::parse(url, Files::Allowed)?;
    let Some(local) = find_local(&address)? else { return Ok(address) };
    if ground.data.canonicalize().is_ok_and(|own| local.path.starts_with(own)) {
        return Err(Reason::Plan("it holds the product's own data, which no run may see".to_owned()));
    }
    Ok(local.address)
}

/// Binds the life of a child to the thread that starts it: an agent that is killed leaves no git behind.
#[expect(unsafe_code, reason = "the only way to run something between fork and exec")]
fn die_with_us(command: &mut Command) {
    let agent = nix::unistd::getpid();
    let bind = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The agent may have died before that line.
        if nix::unistd::getppid() == agent { Ok(()) } else { Err(nix::Error::ESRCH.into()) }
    };
    // SAFETY: the closure makes two system calls and allocates nothing, so it may run after a fork.
    unsafe {
        command.pre_exec(bind);
    }
}

/// A version of the store: mounted over an empty place if root owns it, else copied.
fn version_of_tree(
    ground: &Ground<'_>,
    (path, dest): Dest<'_>,
    version: Digest,
    transfer: &mut Transfer,
    staged: &mut Staged,
) -> Result<(), Reason> {
    let store = Store::open(&ground.data.join("blobs"))?;
    let was_empty = std::fs::read_dir(proc_path(dest))?.next().is_none();
    if was_empty && ground.owner.is_none() {
        let trees = Trees::open(&ground.data.join("trees"))?;
        let checkout =
            follow(ground, "import", &transfer.label, |watch| trees.checkout(&store, version, &watch))?;
        (transfer.bytes, transfer.files) = (checkout.bytes, checkout.files);
        ground.merged.show_private(&checkout.path.canonicalize()?, dest)?;
        let here = if checkout.new { "" } else { ", nothing copied: it is here already" };
        ground.say(format!("imported `{path}`: {}{here}", amount(transfer)));
        staged.held.push(checkout);
    } else {
        let owner = ground.owner;
        let manifest = follow(ground, "import", &transfer.label, |watch| {
            tree::copy_into(&store, version, dest, owner, &watch)
        })?;
        (transfer.bytes, transfer.files) = (manifest.bytes(), manifest.files().count() as u64);
        let beside = if was_empty { "" } else { " beside the files there" };
        ground.say(format!("imported `{path}`: {}{beside}", amount(transfer)));
    }
    transfer.version = Some(version.to_string());
    Ok(())
}

#[cfg(test)]
mod tests;
