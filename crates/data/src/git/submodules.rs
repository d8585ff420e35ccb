//! The submodules of a commit: each is an import of its own, of one commit, into its directory. What cannot be brought is said, and the
//! rest comes in without it.
//!
//! `.gitmodules` is somebody's text. Its addresses are taken as those of a run file are, with these differences:
//! - it names no path of this machine, except beside a repository of this machine (`../name`). What is checked out in the working tree
//!   of that repository is taken from there;
//! - a relative address stays on its host;
//! - the login goes to the host of the import alone.
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::address::Scheme;
use super::brought::Brought;
use super::command::{Git, Output};
use super::local::{find, path_of};
use super::{Address, Files, GitError, Imported, Request, import_within};

/// Submodules of submodules that are followed.
const DEEPEST: usize = 8;
/// Most submodules of one import.
const MOST: usize = 256;

/// What all submodules of one import share.
pub(super) struct Family {
    left: Cell<usize>,
    /// Hosts that did not answer.
    silent: RefCell<HashSet<String>>,
}

impl Family {
    pub(super) fn new() -> Self {
        Self { left: Cell::new(MOST), silent: RefCell::default() }
    }
}

/// Where in a family a repository is.
#[derive(Clone, Copy)]
pub(super) struct Level<'a> {
    pub(super) family: &'a Family,
    /// How many repositories are around it.
    pub(super) depth: usize,
    /// What relative addresses of its submodules count from.
    pub(super) base: &'a Address,
}

/// A submodule as its commit has it.
pub(super) struct Submodule {
    path: PathBuf,
    commit: String,
    /// As `.gitmodules` writes it.
    url: Option<String>,
}

/// Finds the submodules of a commit; those whose `update` is `none` are not wanted.
pub(super) fn list(git: &Git<'_>, brought: &Brought, commit: &str) -> Result<Vec<Submodule>, GitError> {
    let links: Vec<_> = brought.submodules().collect();
    if links.is_empty() {
        return Ok(Vec::new());
    }
    let blob = format!("--blob={commit}:.gitmodules");
    let args =
        ["config", "--no-includes", &blob, "-z", "--get-regexp", r"^submodule\..*\.(path|url|update)$"];
    // Without that file, or with one that is none, nobody knows where they are.
    let text = git.attempt(&args, Output::Large)?.unwrap_or_default();
    let known = modules(&String::from_utf8_lossy(&text));
    let found = links.into_iter().filter_map(|(path, commit)| {
        let module = path.to_str().and_then(|path| known.get(path));
        let is_wanted = module.is_none_or(|module| module.update.as_deref() != Some("none"));
        let url = module.and_then(|module| module.url.clone());
        is_wanted.then(|| Submodule { path: path.to_owned(), commit: commit.to_owned(), url })
    });
    Ok(found.collect())
}

#[derive(Default)]
struct Module {
    path: Option<String>,
    url: Option<String>,
    update: Option<String>,
}

/// What `git config -z` printed, by path.
fn modules(text: &str) -> HashMap<String, Module> {
    let mut by_name: HashMap<&str, Module> = HashMap::new();
    for entry in text.split('\0') {
        let Some((key, value)) = entry.split_once('\n') else { continue };
        let Some((name, key)) = key.strip_prefix("submodule.").and_then(|key| key.rsplit_once('.')) else {
            continue;
        };
        let module = by_name.entry(name).or_default();
        let place = match key {
            "path" => &mut module.path,
            "url" => &mut module.url,
            _ => &mut module.update,
        };
        *place = Some(value.to_owned());
    }
    let with_path = |mut module: Module| Some((module.path.take()?, module));
    by_name.into_values().filter_map(with_path).collect()
}

/// Brings the submodules of a repository into its directory, and adds to `imported` what came and what did not.
pub(super) fn bring(
    request: &Request<'_>,
    submodules: &[Submodule],
    level: Level<'_>,
    imported: &mut Imported,
) -> Result<(), GitError> {
    for submodule in submodules {
        let name = plain(&submodule.path.display().to_string());
        match one(request, submodule, level) {
            Ok(inner) => {
                imported.bytes += inner.bytes;
                imported.files += inner.files;
                let named = |missing| format!("in the submodule `{name}`: {missing}");
                imported.missing.extend(inner.missing.into_iter().map(named));
            }
            Err(error @ (GitError::Stopped | GitError::DiskFull(_) | GitError::NoGit)) => return Err(error),
            Err(error) => imported.missing.push(format!(
                "the submodule `{name}` is not here: {}; import it by itself, or write `submodules: false`",
                plain(&error.to_string())
            )),
        }
    }
    Ok(())
}

fn one(request: &Request<'_>, submodule: &Submodule, level: Level<'_>) -> Result<Imported, GitError> {
    let Some(url) = &submodule.url else { return Err(refused("", "`.gitmodules` has no address of it")) };
    let Level { family, depth, base } = level;
    if depth >= DEEPEST || family.left.get() == 0 {
        return Err(refused(url, "there are too many submodules, or too many in one another"));
    }
    family.left.set(family.left.get() - 1);
    let dest = request.dest.dir(&submodule.path).map_err(|e| GitError::write(&submodule.path, e))?;
    let from = |address: &Address, base: &Address| {
        let login = request.login.filter(|_| address.is_at(request.address));
        let reference = Some(submodule.commit.as_str());
        let request = Request { address, reference, dest: &dest, login, ..*request };
        import_within(&request, Level { family, depth: depth + 1, base })
    };
    let declared = declared(base, url);
    if let Some(local) = checked_out(request, &submodule.path)
        && let Ok(imported) = from(&local, declared.as_ref().unwrap_or(&local))
    {
        return Ok(imported);
    }
    let declared = declared?;
    let address = settled(request, &declared)?;
    if family.silent.borrow().contains(address.host()) {
        return Err(refused(url, "its host did not answer before"));
    }
    let result = from(&address, &declared);
    if matches!(result, Err(GitError::Unreachable { .. } | GitError::Stalled { .. })) {
        family.silent.borrow_mut().insert(address.host().to_owned());
    }
    result
}

/// The address that a submodule of the repository at `base` has.
fn declared(base: &Address, url: &str) -> Result<Address, GitError> {
    if !url.starts_with("./") && !url.starts_with("../") {
        return Address::parse(url, Files::Refused);
    }
    let joined = join(base, url).ok_or_else(|| refused(url, "it leads away from where the repository is"))?;
    let files = if base.scheme() == Scheme::File { Files::Allowed } else { Files::Refused };
    Address::parse(&joined, files)
}

/// A relative address, from `base` on. It stays on the host, and beside a repository of this machine.
fn join(base: &Address, relative: &str) -> Option<String> {
    let (mut rest, mut up) = (relative, 0);
    loop {
        if let Some(inner) = rest.strip_prefix("../") {
            (rest, up) = (inner, up + 1);
        } else if let Some(inner) = rest.strip_prefix("./") {
            rest = inner;
        } else {
            break;
        }
    }
    let rest = rest.trim_end_matches('/');
    let is_odd = |part: &str| matches!(part, "" | "." | "..");
    if rest.split('/').any(is_odd) || (base.scheme() == Scheme::File && up != 1) {
        return None;
    }
    let base = base.url().trim_end_matches('/');
    // Of `user@host:path` the path begins behind the colon, and needs no slash.
    let (host, path) = match base.split_once("://") {
        Some((scheme, behind)) => base.split_at(scheme.len() + 3 + behind.find('/')?),
        None => base.split_at(base.find(':')? + 1),
    };
    let parts: Vec<&str> = path.split('/').collect();
    let first = usize::from(parts.first() == Some(&""));
    let kept = parts.len().checked_sub(up).filter(|kept| *kept >= first)?;
    let above = parts[..kept].join("/");
    Some(if kept == 0 { format!("{host}{rest}") } else { format!("{host}{above}/{rest}") })
}

/// The submodule as it is checked out in the working tree of a repository of this machine.
fn checked_out(request: &Request<'_>, path: &Path) -> Option<Address> {
    if request.address.scheme() != Scheme::File {
        return None;
    }
    let tree = path_of(request.address).canonicalize().ok()?;
    let here = tree.join(path).canonicalize().ok()?;
    if !here.starts_with(&tree) || !here.join(".git").exists() {
        return None;
    }
    Some(super::local::address_of(&here))
}

/// An address of this machine as git gets it; a repository that no run may see is none.
fn settled(request: &Request<'_>, address: &Address) -> Result<Address, GitError> {
    let Some(local) = find(address)? else { return Ok(address.clone()) };
    if request.hidden.is_some_and(|hidden| local.path.starts_with(hidden)) {
        return Err(refused(address.url(), "no run may see it"));
    }
    Ok(local.address)
}

fn refused(url: &str, why: &'static str) -> GitError {
    GitError::BadAddress { url: url.to_owned(), why }
}

/// Text of a repository in one line of bounded length.
pub(super) fn plain(text: &str) -> String {
    const LONGEST: usize = 400;
    let mut line: String = text.chars().take(LONGEST).map(|c| if c.is_control() { '?' } else { c }).collect();
    if line.len() < text.len() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_addresses_stay_where_the_repository_is() {
        let check = |base: &str, relative: &str, expected: Option<&str>| {
            let base = Address::parse(base, Files::Allowed).unwrap();
            let found = declared(&base, relative).ok();
            assert_eq!(found.as_ref().map(Address::url), expected, "{base} {relative}");
        };
        let github = "https://github.com/team/app.git";
        check(github, "../lib", Some("https://github.com/team/lib"));
        check(github, "../lib.git/", Some("https://github.com/team/lib.git"));
        check(github, "../../other/lib", Some("https://github.com/other/lib"));
        check(github, "./lib", Some("https://github.com/team/app.git/lib"));
        check(github, "../../../evil.com/x", None);
        check(github, "../..", None);
        check(github, "../", None);
        check(github, "../x/../../y", None);
        check(github, "../x\n", None);
        check("ssh://git@host:22/a/b", "../c", Some("ssh://git@host:22/a/c"));
        check("git@host:a/b", "../c", Some("git@host:a/c"));
        check("git@host:a/b", "../../c", Some("git@host:c"));
        check("git@host:a/b", "../../../c", None);
        check("git@host:b", "../-oProxyCommand=x", None);
        check("file:///srv/a/app", "../lib", Some("file:///srv/a/lib"));
        check("file:///srv/a/app", "../../secret/x", None);
        check("file:///srv/a/app", "./.git/modules/x", None);
        for url in ["file:///etc", "/etc", "ext::id", "--upload-pack=id", "https://u:p@host/x", "fd::1", ""] {
            check(github, url, None);
            check("file:///srv/a/app", url, None);
        }
        check("file:///srv/a/app", "https://host/x", Some("https://host/x"));
    }

    #[test]
    fn what_git_prints_of_modules() {
        let text = "submodule.a.b.path\nsub dir\0submodule.a.b.url\n../x\0submodule.c.url\n../y\0\
                    submodule.d.path\nd\0submodule.d.update\nnone\0other\0";
        let known = modules(text);
        assert_eq!(known.len(), 2);
        assert_eq!(known["sub dir"].url.as_deref(), Some("../x"));
        assert_eq!((known["d"].url.as_deref(), known["d"].update.as_deref()), (None, Some("none")));
    }
}
