//! Import of one commit with the git command line, also into a directory that already has files. It must not know where
//! the directory is or why somebody wants the commit.
//!
//! ```text
//! ls-remote ─► branch, tag or HEAD: fetch that, depth 1 ──────────────┐
//!          └─► looks like a commit: fetch it, depth 1 ─ refused ─► fetch all ─► checkout -f ─► LFS ─► submodules ─► .git
//! ```
//!
//! The remote end and everything in the directory are taken for hostile:
//! - git works with a fresh repository directory of ours beside the files, never with a `.git` that is already there;
//!   it takes the place of `.git` when all is done. The working tree is entered by descriptor.
//! - No configuration but ours is read, so there are no hooks, filters, file system monitors or helpers; proxies and certificate
//!   authorities come from the environment. Submodules and LFS have rules of their own (see there).
//! - One protocol is allowed: that of the address (and https after a redirect). Nothing can ask a question.
//! - Where the machine is not to be seen as a whole ([`Fence`]), git does not get a repository of this machine at all, but one that
//!   is put together from it below the fence (see `snapshot`).
//! - A password is only in memory: git reads it through `/proc/<pid>/fd/<n>`, for the host of the address alone.
mod address;
mod brought;
mod command;
mod error;
mod fence;
mod lfs;
mod local;
mod login;
mod refs;
mod snapshot;
mod submodules;

pub use address::{Address, Files};
pub use error::GitError;
pub use fence::Fence;
pub use local::{Local, find as find_local};
pub use login::TOKEN_USER;

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::renameat;
use nix::sys::stat::{Mode, mkdirat};
use vessl_core::plan::GitParts;
use vessl_core::record::Login;

use crate::dir::{Dir, Kind};
use crate::{Owner, Watch};
use address::Scheme;
use brought::Brought;
use command::Git;
use refs::{Fetch, Meaning, Wanted};
use snapshot::Snapshot;
use submodules::{Family, Level};

/// A remote end that says nothing for this long is given up.
pub const STALL: Duration = Duration::from_mins(2);

/// What to import.
pub struct Request<'a> {
    /// Where from.
    pub address: &'a Address,
    /// Branch, tag, or commit (at least 4 digits); `None` is the branch that the remote's HEAD names.
    pub reference: Option<&'a str>,
    /// An existing directory. Its files stay unless the commit has one of the same name.
    pub dest: &'a Dir,
    /// Whose everything is that comes in, `None` for who imports it. What was there keeps its owner.
    pub owner: Option<Owner>,
    /// User name and password or token; for ssh a private key in the place of the password.
    pub login: Option<&'a Login>,
    /// Progress counts bytes received.
    pub watch: Watch<'a>,
    /// Longest silence of the remote end, usually [`STALL`].
    pub stall: Duration,
    /// Called with every command before it starts, to bind its life to that of the caller.
    pub prepare: &'a dyn Fn(&mut Command),
    /// Where a repository of this machine must lie; `None` is anywhere.
    pub fence: Option<&'a Fence>,
    /// A directory of this machine, without links, that no submodule comes from.
    pub hidden: Option<&'a Path>,
    /// What comes besides the files of the commit.
    pub parts: GitParts,
}

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Full id of the commit.
    pub commit: String,
    /// Bytes of its files, those of submodules and LFS included.
    pub bytes: u64,
    /// Number of its files and symbolic links, those of submodules included.
    pub files: u64,
    /// What is not here, a sentence each: why, and what to do.
    pub missing: Vec<String>,
}

/// Fetches one commit and writes its files into the directory, with the repository as `.git`. Blocking; every process
/// it started is gone when it returns.
///
/// After an error the directory may hold some of the files, and no `.git` of ours.
pub fn import(request: &Request<'_>) -> Result<Imported, GitError> {
    import_within(request, Level { family: &Family::new(), depth: 0, base: request.address })
}

fn wanted(request: &Request<'_>) -> Result<Wanted, GitError> {
    Wanted::parse(request.reference).map_err(|why| GitError::BadReference {
        reference: request.reference.unwrap_or_default().to_owned(),
        why,
    })
}

/// What a reference means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Full id of the commit.
    pub commit: String,
    /// How it was named, which decides what the import's repository says of it: two imports of the same commit and form come to the
    /// same.
    pub form: String,
}

/// Settles which commit an import would bring now. Nobody is asked about a full commit id; about anything else the remote end is, with
/// a repository in `dest` that is gone when this returns. `None` where only an import can tell. Blocking.
pub fn pin(request: &Request<'_>) -> Result<Option<Pin>, GitError> {
    let wanted = wanted(request)?;
    let Meaning { fetch, commit } = if let Some(commit) = wanted.full_commit() {
        Meaning { fetch: Fetch::Commit(commit.clone()), commit: Some(commit) }
    } else {
        let repository = Repository::make(request.dest)?;
        let git = Git::new(request, &repository.name, request.address)?;
        git.quiet(&["init", "--quiet", "--template=", "--initial-branch=main"])?;
        repository.configure(request.address, None)?;
        refs::find(&git, &wanted)?
    };
    Ok(commit.map(|commit| Pin { commit, form: fetch.form() }))
}

fn import_within(request: &Request<'_>, level: Level<'_>) -> Result<Imported, GitError> {
    let wanted = wanted(request)?;
    let inside = request.fence.filter(|_| request.address.scheme() == Scheme::File);
    let snapshot = inside.map(|fence| Snapshot::take(request, fence)).transpose()?;
    let from = snapshot.as_ref().map(Snapshot::address);
    let repository = Repository::make(request.dest)?;
    let from = from.as_ref().unwrap_or(request.address);
    let git = Git::new(request, &repository.name, from)?;
    git.quiet(&["init", "--quiet", "--template=", "--initial-branch=main"])?;
    repository.configure(from, None)?;
    let fetch = refs::find(&git, &wanted)?.fetch;
    let commit = refs::fetch(&git, &wanted, &fetch)?;
    let brought = Brought::list(&git, &commit)?;
    let made = request.owner.map(|owner| (owner, brought.new_paths(request.dest)));
    check_out(&git, &fetch, &commit)?;
    let (bytes, files) = brought.measure();
    let mut imported = Imported { commit, bytes, files, missing: Vec::new() };
    if request.parts.lfs {
        let pointers = lfs::pointers(request.dest, &brought);
        imported.missing = lfs::bring(&git, &imported.commit, &pointers)?;
        imported.bytes += grown(request.dest, &brought, &pointers);
    }
    let listed = request.parts.submodules.then(|| submodules::list(&git, &brought, &imported.commit));
    let listed = listed.transpose()?.unwrap_or_default();
    drop(git);
    submodules::bring(request, &listed, level, &mut imported)?;
    let branch = if let Fetch::Branch(name) = &fetch { Some(name.as_str()) } else { None };
    repository.configure(request.address, branch)?;
    if let Some((owner, paths)) = made {
        brought::give(request, &paths, owner)?;
        repository.give(owner)?;
    }
    repository.keep()?;
    Ok(imported)
}

/// How many bytes more these files have than the commit says.
fn grown(dest: &Dir, brought: &Brought, pointers: &[&Path]) -> u64 {
    let pointers: HashSet<_> = pointers.iter().copied().collect();
    let files = brought.files().filter(|(_, path)| pointers.contains(path));
    let sizes = files
        .filter_map(|(size, path)| Some(dest.file(path).ok()?.metadata().ok()?.len().saturating_sub(size)));
    sizes.sum()
}

fn check_out(git: &Git<'_>, fetch: &Fetch, commit: &str) -> Result<(), GitError> {
    let mut args = vec!["checkout", "--force", "--progress", "--no-recurse-submodules"];
    match fetch {
        Fetch::Branch(name) => args.extend(["--no-track", "-B", name, commit]),
        _ => args.extend(["--detach", commit]),
    }
    git.quiet(&args)
}

/// The repository directory while it is being made: `.vessl-git-…` beside the files.
struct Repository<'a> {
    dest: &'a Dir,
    name: PathBuf,
}

impl<'a> Repository<'a> {
    fn make(dest: &'a Dir) -> Result<Self, GitError> {
        for n in 0_u32.. {
            let name = PathBuf::from(format!(".vessl-git-{}-{n}", std::process::id()));
            match mkdirat(dest, &name, Mode::S_IRWXU) {
                Ok(()) => return Ok(Self { dest, name }),
                Err(nix::Error::EEXIST) => {}
                Err(e) => return Err(GitError::write(&name, e.into())),
            }
        }
        unreachable!("a directory cannot hold 2^32 names")
    }

    /// Writes its configuration, as `git clone` would.
    fn configure(&self, origin: &Address, branch: Option<&str>) -> Result<(), GitError> {
        let mut text = format!(
            "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n\
             [remote \"origin\"]\n\turl = {}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n",
            quoted(origin.url())
        );
        if let Some(name) = branch {
            let merge = quoted(&format!("refs/heads/{name}"));
            text = format!("{text}[branch {}]\n\tremote = origin\n\tmerge = {merge}\n", quoted(name));
        }
        let path = self.name.join("config");
        std::fs::write(through(self.dest).join(&path), text).map_err(|e| GitError::write(&path, e))
    }

    /// Makes `owner` the owner of all of it.
    fn give(&self, owner: Owner) -> Result<(), GitError> {
        let mut open = vec![self.name.clone()];
        while let Some(path) = open.pop() {
            let failed = |error| GitError::write(&path, error);
            self.dest.give(&path, owner).map_err(failed)?;
            let here = through(self.dest).join(&path);
            if here.symlink_metadata().map_err(failed)?.is_dir() {
                for entry in std::fs::read_dir(here).map_err(failed)? {
                    open.push(path.join(entry.map_err(failed)?.file_name()));
                }
            }
        }
        Ok(())
    }

    /// Puts it in the place of `.git`; whatever was there goes.
    fn keep(self) -> Result<(), GitError> {
        let git = Path::new(".git");
        let ours = self.name.join(command::CONFIGURATION);
        remove(self.dest, &ours, Kind::File).map_err(|e| GitError::write(&ours, e))?;
        if let Some(kind) = self.dest.kind(git).map_err(|e| GitError::write(git, e))? {
            remove(self.dest, git, kind).map_err(|e| GitError::write(git, e))?;
        }
        renameat(self.dest, &self.name, self.dest, git).map_err(|e| GitError::write(git, e.into()))
    }
}

impl Drop for Repository<'_> {
    fn drop(&mut self) {
        // After `keep` there is nothing of this name; after a failure the failure is what matters.
        let _ = remove(self.dest, &self.name, Kind::Dir);
    }
}

/// Removes what is called `name` in `dir`, following nothing.
fn remove(dir: &Dir, name: &Path, kind: Kind) -> std::io::Result<()> {
    let path = through(dir).join(name);
    if kind == Kind::Dir { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
}

/// A path for something this process has open, good for its children too.
fn through<F: AsFd + ?Sized>(fd: &F) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), fd.as_fd().as_raw_fd()))
}

/// A value or name in a configuration file. It has no control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
