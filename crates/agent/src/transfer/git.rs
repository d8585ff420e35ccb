//! A commit into a directory, with the repository as `.git`.
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use vessl_core::credential::CredentialKind;
use vessl_core::ids::CredentialName;
use vessl_core::plan::GitParts;
use vessl_core::wire::ProgressKind;
use vessl_data::dir::Dir;
use vessl_data::git::{self, Address, Fence, Files, Imported, Request, STALL, find_local};

use super::progress::follow;
use super::{Moved, TransferContext, TransferError};

/// A commit as the plan names it.
pub(super) struct Commit<'a> {
    pub(super) url: &'a str,
    pub(super) reference: Option<&'a str>,
    pub(super) credential: Option<&'a CredentialName>,
    pub(super) parts: GitParts,
}

pub(super) fn import(
    want: &Commit<'_>,
    into: &Dir,
    cx: &TransferContext<'_>,
) -> Result<Moved, TransferError> {
    let address = address(cx, want.url)?;
    let missing = |name| TransferError::Plan(format!("the credential `{name}` did not reach the agent"));
    let login = |name| cx.secrets.login(CredentialKind::Git, name).ok_or_else(|| missing(name));
    let login = want.credential.map(login);
    let login = login.transpose()?;
    let fence = cx.plan.fence.as_ref().map(|roots| Fence::new(roots, cx.scratch));
    let own = cx.sink.data().canonicalize().ok();
    let imported = follow(cx, ProgressKind::Import, want.url, |watch| {
        git::import(&Request {
            address: &address,
            reference: want.reference,
            dest: into,
            owner: cx.owner,
            login,
            watch,
            stall: STALL,
            prepare: &die_with_us,
            fence: fence.as_ref(),
            hidden: own.as_deref(),
            parts: want.parts,
        })
    })?;
    let Imported { commit, bytes, files, missing } = imported;
    Ok(Moved { version: commit, bytes, files, missing, top: None })
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
