//! A commit, with the repository as `.git`: staged, or into a directory.
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use vessl_core::credential::CredentialKind;
use vessl_core::ids::CredentialName;
use vessl_core::plan::{GitParts, ImportSource};
use vessl_core::wire::ProgressKind;
use vessl_data::blob::Digest;
use vessl_data::dir::Dir;
use vessl_data::git::{self, Address, Fence, Files, Imported, Pin, Request, STALL, find_local};
use vessl_data::staging::{About, Lacks, Made, Staged};
use vessl_data::{DataError, Owner, Watch};

use super::progress::follow;
use super::{Moved, TransferContext, TransferError};

/// How often a branch is settled anew that changes while it is imported.
const TRIES: u32 = 3;

/// A commit as the plan names it.
#[derive(Clone, Copy)]
pub(super) struct Commit<'a> {
    url: &'a str,
    reference: Option<&'a str>,
    credential: Option<&'a CredentialName>,
    parts: GitParts,
}

impl<'a> Commit<'a> {
    pub(super) fn of(source: &'a ImportSource) -> Result<Self, TransferError> {
        let ImportSource::Git { url, reference, credential, parts } = source else {
            return Err(TransferError::Plan(format!("`{}` is no repository", source.label())));
        };
        let (reference, credential) = (reference.as_deref(), credential.as_ref());
        Ok(Self { url, reference, credential, parts: *parts })
    }
}

/// Brings a commit into a directory of the run.
pub(super) fn import(
    want: &Commit<'_>,
    into: &Dir,
    cx: &TransferContext<'_>,
) -> Result<Moved, TransferError> {
    let imported = with_git(want, into, cx.owner, cx, |request| Ok(git::import(request)?))?;
    let Imported { commit, bytes, files, missing } = imported;
    Ok(Moved { version: commit, bytes, files, missing, top: None })
}

/// Brings the commit that the reference means now onto the machine, if it is not here. Nothing is staged of what can only be told by
/// an import, nor of repositories of this machine that a fence decides about: a look at them is its.
pub(super) fn stage(
    want: &Commit<'_>,
    cx: &TransferContext<'_>,
) -> Result<Option<(Moved, Staged)>, TransferError> {
    let address = address(cx, want.url)?;
    if address.is_local() && cx.plan.fence.is_some() {
        return Ok(None);
    }
    let scratch = tempfile::Builder::new().prefix("git-").tempdir_in(cx.scratch);
    let scratch = scratch.map_err(DataError::os("write", cx.scratch))?;
    let scratch =
        Dir::open(scratch.path()).map(|dir| (dir, scratch)).map_err(DataError::os("open", cx.scratch))?;
    for _ in 0..TRIES {
        let Some(pin) = with_git(want, &scratch.0, None, cx, |request| Ok(git::pin(request)?))? else {
            return Ok(None);
        };
        match stage_commit(want, &pin, key(want, &address, &pin, cx), cx) {
            Err(TransferError::Moving(_)) => {}
            staged => return staged.map(Some),
        }
    }
    // An import settles it once for all.
    Ok(None)
}

fn stage_commit(
    want: &Commit<'_>,
    pin: &Pin,
    key: Digest,
    cx: &TransferContext<'_>,
) -> Result<(Moved, Staged), TransferError> {
    let mut lacking = Vec::new();
    let staging = cx.sink.staging()?;
    let stop = || cx.is_cancelled();
    let staged = staging.entry(key, &Watch { stop: &stop, ..Watch::NONE }, |into| {
        let imported = with_git(want, into, None, cx, |request| Ok(git::import(request)?))?;
        let Imported { commit, bytes, files, missing } = imported;
        if commit != pin.commit {
            return Err(TransferError::Moving(want.url.to_owned()));
        }
        let lacks = if missing.is_empty() { Lacks::Nothing } else { Lacks::Something };
        lacking = missing;
        let about = About { label: want.url.to_owned(), version: commit, bytes, files };
        Ok(Made { lacks, ..about.into() })
    })?;
    let (about, _) = staged.about().unwrap_or_default();
    Ok((Moved { missing: lacking, ..Moved::from(about) }, staged))
}

/// What stands for a commit on this machine: nobody of another organization gets at what was fetched for this one.
fn key(want: &Commit<'_>, address: &Address, pin: &Pin, cx: &TransferContext<'_>) -> Digest {
    let word = |part: bool| if part { "with" } else { "without" };
    let (submodules, lfs) = (word(want.parts.submodules), word(want.parts.lfs));
    let organization = cx.plan.project.organization.as_str();
    let parts = ["git", organization, address.url(), &pin.commit, &pin.form, submodules, lfs];
    Digest::of(serde_json::to_string(&parts).unwrap_or_default().as_bytes())
}

/// Does something with git as the plan wants it.
fn with_git<R>(
    want: &Commit<'_>,
    dest: &Dir,
    owner: Option<Owner>,
    cx: &TransferContext<'_>,
    work: impl FnOnce(&Request<'_>) -> Result<R, TransferError>,
) -> Result<R, TransferError> {
    let address = address(cx, want.url)?;
    let missing = |name| TransferError::Plan(format!("the credential `{name}` did not reach the agent"));
    let login = |name| cx.secrets.login(CredentialKind::Git, name).ok_or_else(|| missing(name));
    let login = want.credential.map(login);
    let login = login.transpose()?;
    let fence = cx.plan.fence.as_ref().map(|roots| Fence::new(roots, cx.scratch));
    let own = cx.sink.data().canonicalize().ok();
    follow(cx, ProgressKind::Import, want.url, |watch| {
        work(&Request {
            address: &address,
            reference: want.reference,
            dest,
            owner,
            login,
            watch,
            stall: STALL,
            prepare: &die_with_us,
            fence: fence.as_ref(),
            hidden: own.as_deref(),
            parts: want.parts,
        })
    })
}

/// Where git shall go: a path of this machine is settled once, links and all. A repository inside the data directory is
/// another run's, or nobody's. Whether it lies inside the plan's fence is seen by who opens it.
fn address(cx: &TransferContext<'_>, url: &str) -> Result<Address, TransferError> {
    let address = Address::parse(url, Files::Allowed)?;
    let Some(local) = find_local(&address)? else { return Ok(address) };
    if cx.sink.data().canonicalize().is_ok_and(|own| local.path.starts_with(own)) {
        let why = "it holds the product's own data, which no run may see";
        return Err(TransferError::Plan(why.to_owned()));
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
