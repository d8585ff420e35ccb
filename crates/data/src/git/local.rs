//! The repository of this machine that a directory lies in. It looks, and starts nothing.
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use vessl_core::file_url;

use super::GitError;
use super::address::{Address, Scheme};

/// A repository of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Where it is, without links.
    pub path: PathBuf,
    /// As git gets it.
    pub address: Address,
}

/// The repository at the path of a `file://` address, or the one whose working tree it leads into; `None` for any other
/// address.
///
/// As in git itself, the way up ends at the border of the file system, and what lies around a directory is taken only from
/// its own owner, root or this process's user: whoever may write to a directory above does not choose what is imported.
pub fn find(address: &Address) -> Result<Option<Local>, GitError> {
    if address.scheme() != Scheme::File {
        return Ok(None);
    }
    let path = path_of(address);
    let start = match path.canonicalize() {
        Ok(start) => start,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return with_suffix(&path).map_or_else(
                || Err(GitError::NoDirectory(address.to_string())),
                |path| Ok(Some(local(path))),
            );
        }
        Err(e) => return Err(GitError::Other { url: address.to_string(), said: e.to_string() }),
    };
    if is_work_tree(&start) || is_bare(&start) {
        return Ok(Some(local(start)));
    }
    if let Some(path) = with_suffix(&path) {
        return Ok(Some(local(path)));
    }
    around(&start, address).map(Some)
}

/// git takes `/srv/x` for `/srv/x.git` too.
fn with_suffix(path: &Path) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_owned();
    name.push(".git");
    path.with_file_name(name).canonicalize().ok().filter(|path| is_work_tree(path) || is_bare(path))
}

fn around(start: &Path, address: &Address) -> Result<Local, GitError> {
    let nothing = || GitError::NoRepository(address.to_string());
    let own = start.metadata().map_err(|_| nothing())?;
    let on_the_way = |dir: &&Path| dir.metadata().is_ok_and(|found| found.dev() == own.dev());
    let mut above = start.ancestors().skip(1).take_while(on_the_way);
    let found = above.find(|dir| is_work_tree(dir)).ok_or_else(nothing)?;
    let trusted = [own.uid(), nix::unistd::geteuid().as_raw(), 0];
    let is_trusted = |path: &Path| path.symlink_metadata().is_ok_and(|it| trusted.contains(&it.uid()));
    if is_trusted(found) && is_trusted(&found.join(".git")) {
        return Ok(local(found.to_owned()));
    }
    Err(GitError::OfAnother { url: address.to_string(), path: found.to_owned() })
}

fn is_work_tree(dir: &Path) -> bool {
    let git = dir.join(".git");
    git.is_file() || git.join("HEAD").exists()
}

fn is_bare(dir: &Path) -> bool {
    dir.join("HEAD").exists() && dir.join("objects").is_dir() && dir.join("refs").is_dir()
}

fn local(path: PathBuf) -> Local {
    let address = address_of(&path);
    Local { path, address }
}

/// The address that git gets for a path of this machine.
pub(super) fn address_of(path: &Path) -> Address {
    Address::of_file(format!("file://{}", file_url::text(path.as_os_str().as_bytes())))
}

/// The path that git would read: it takes `%20` for a space.
pub(super) fn path_of(address: &Address) -> PathBuf {
    let url = address.url();
    OsString::from_vec(file_url::path(url.strip_prefix("file://").unwrap_or(url))).into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::chown;

    use super::super::address::Files;
    use super::*;

    /// What is found from `path` below `root`: the path of the repository below `root`, or words.
    fn check(root: &Path, path: &str, expected: Result<&str, &str>) {
        let address = Address::parse(&format!("file://{}/{path}", root.display()), Files::Allowed).unwrap();
        match (find(&address), expected) {
            (Ok(Some(found)), Ok(expected)) => {
                assert_eq!(found.path, root.join(expected), "{path}");
                assert_eq!(path_of(&found.address), found.path, "{path}");
            }
            (Err(error), Err(words)) => {
                let said = error.to_string();
                assert!(said.contains(words) && !said.contains("credential"), "{path}: {said}");
            }
            (found, _) => panic!("{path}: {found:?}"),
        }
    }

    fn repository(dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::create_dir(dir.join("objects")).unwrap();
        fs::create_dir(dir.join("refs")).unwrap();
    }

    #[test]
    fn a_directory_leads_to_the_repository_around_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        repository(&root.join("proj/.git"));
        repository(&root.join("bare.git"));
        repository(&root.join("a 100%/.git"));
        for made in ["proj/sub/deep", "proj/other/.git", "proj/linked", "a 100%/in", "alone"] {
            fs::create_dir_all(root.join(made)).unwrap();
        }
        fs::write(root.join("proj/linked/.git"), "gitdir: elsewhere").unwrap();
        std::os::unix::fs::symlink(root.join("proj/sub"), root.join("alone/link")).unwrap();
        check(&root, "proj", Ok("proj"));
        check(&root, "proj/sub/deep", Ok("proj"));
        // An empty `.git` is no repository, a file of this name is one elsewhere.
        check(&root, "proj/other", Ok("proj"));
        check(&root, "proj/linked", Ok("proj/linked"));
        check(&root, "alone/link", Ok("proj"));
        check(&root, "bare", Ok("bare.git"));
        check(&root, "bare.git", Ok("bare.git"));
        check(&root, "a%20100%25/in", Ok("a 100%"));
        check(&root, "alone", Err("is not in a git repository; "));
        check(&root, "none", Err("there is no directory at "));
        check(&root, "proj/.git/HEAD/none", Err("there is no directory at "));
        let remote = Address::parse("https://host/a", Files::Refused).unwrap();
        assert_eq!(find(&remote).unwrap(), None);
    }

    #[test]
    fn a_repository_of_another_user_is_not_found_by_accident() {
        assert!(
            nix::unistd::geteuid().is_root(),
            "needs root: to give directories away, run the tests as root"
        );
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        repository(&root.join("shared/.git"));
        fs::create_dir_all(root.join("shared/mine")).unwrap();
        let give = |path: &str, user: u32| chown(root.join(path), Some(user), Some(user)).unwrap();
        give("shared/mine", 65534);
        check(&root, "shared/mine", Ok("shared"));
        give("shared/.git", 65533);
        check(&root, "shared/mine", Err("belongs to another user; "));
        // It can be named.
        check(&root, "shared", Ok("shared"));
        give("shared/.git", 65534);
        check(&root, "shared/mine", Ok("shared"));
        give("shared", 65533);
        check(&root, "shared/mine", Err("belongs to another user; "));
    }
}
