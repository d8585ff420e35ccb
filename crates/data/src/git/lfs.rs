//! Content that Git LFS keeps elsewhere: in the commit stands a small text, a pointer. It is fetched with `git lfs`, if that is there.
//!
//! `.lfsconfig` is somebody's text: of it only the address of the server counts, and only one that an import may have.
use std::io::Read;
use std::path::Path;

use super::address::Scheme;
use super::brought::Brought;
use super::command::{Git, Output};
use super::error::sentence;
use super::submodules::plain;
use super::{Address, Files, GitError, Login};
use crate::dir::Dir;

/// How a pointer begins. Source: the specification of Git LFS.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
/// A pointer is shorter.
const LONGEST: u64 = 1024;

/// Files that are pointers. Without a `.gitattributes` there are none.
pub(super) fn pointers<'b>(dest: &Dir, brought: &'b Brought) -> Vec<&'b Path> {
    let is_attributes = |path: &Path| path.file_name().is_some_and(|name| name == ".gitattributes");
    if !brought.files().any(|(_, path)| is_attributes(path)) {
        return Vec::new();
    }
    let small = brought.files().filter(|(size, _)| (POINTER.len() as u64..LONGEST).contains(size));
    small.map(|(_, path)| path).filter(|path| is_pointer(dest, path)).collect()
}

fn is_pointer(dest: &Dir, path: &Path) -> bool {
    let mut begin = Vec::new();
    let file = dest.file(path).and_then(|file| file.take(POINTER.len() as u64).read_to_end(&mut begin));
    file.is_ok() && begin == POINTER
}

/// Puts the content in the place of the pointers; what stays a pointer is said.
pub(super) fn bring(git: &Git<'_>, commit: &str, pointers: &[&Path]) -> Result<Vec<String>, GitError> {
    if pointers.is_empty() {
        return Ok(Vec::new());
    }
    let request = git.request();
    let why = if request.fence.is_some() && request.address.scheme() == Scheme::File {
        "what is kept beside a repository of this machine is not read here".to_owned()
    } else if git.attempt(&["lfs", "version"], Output::Small)?.is_err() {
        "`git-lfs` is not installed on this machine: install it (`apt install git-lfs`)".to_owned()
    } else {
        match server(git, commit)? {
            Err(why) => why,
            Ok(server) => pull(git, &server)?,
        }
    };
    let left: Vec<_> = pointers.iter().filter(|path| is_pointer(request.dest, path)).collect();
    Ok(match left.as_slice() {
        [] => Vec::new(),
        [first, more @ ..] => {
            let first = plain(&first.display().to_string());
            let which = match more.len() {
                0 => format!("the content of `{first}` is not here"),
                n => format!("the content of `{first}` and {n} more is not here"),
            };
            vec![format!(
                "{which}, only its pointer of Git LFS: {why}; or write `lfs: false`",
                why = plain(&why)
            )]
        }
    })
}

/// The server that `.lfsconfig` names, else that of the repository itself; or in words why there is none.
fn server(git: &Git<'_>, commit: &str) -> Result<Result<String, String>, GitError> {
    let blob = format!("--blob={commit}:.lfsconfig");
    let keys = r"^(lfs\.url|remote\..*\.lfsurl)$";
    let args = ["config", "--no-includes", &blob, "-z", "--get-regexp", keys];
    let text = git.attempt(&args, Output::Small)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let Some((_, url)) = text.split('\0').find_map(|entry| entry.split_once('\n')) else {
        return Ok(Ok(usual_server(git.from())));
    };
    Ok(match Address::parse(url, Files::Refused) {
        Ok(address) if is_lent_a_key(&address, git.request().address, git.request().login) => Err(format!(
            "its `.lfsconfig` names another host, `{}`, and the login is for that of the repository alone",
            address.host()
        )),
        Ok(address) => Ok(address.url().to_owned()),
        Err(error) => Err(format!("its `.lfsconfig` names a server that cannot be used: {error}")),
    })
}

/// Whether the login's key would be shown to a server that it is not for. A password is only ever sent to its own host.
fn is_lent_a_key(server: &Address, repository: &Address, login: Option<&Login>) -> bool {
    server.scheme() == Scheme::Ssh && login.is_some() && !server.is_at(repository)
}

/// Where a host keeps the content of a repository. Source: the specification of Git LFS.
fn usual_server(address: &Address) -> String {
    let url = address.url();
    match (address.scheme(), url.split_once(':')) {
        (Scheme::Https | Scheme::Http, _) => {
            let suffix = if url.strip_suffix(".git").is_some() { "" } else { ".git" };
            format!("{url}{suffix}/info/lfs")
        }
        (Scheme::Ssh, Some((host, path))) if !url.contains("://") => {
            format!("ssh://{host}/{}", path.trim_start_matches('/'))
        }
        (Scheme::Ssh | Scheme::File, _) => url.to_owned(),
    }
}

/// Fetches and writes the content; what git says if that fails.
fn pull(git: &Git<'_>, server: &str) -> Result<String, GitError> {
    git.allow_lfs(server)?;
    let done = git.attempt(&["lfs", "pull", "origin"], Output::Small);
    // The files are the content: a second copy in the repository would be as large.
    git.forget_lfs();
    match done {
        Ok(Ok(_)) => Ok("the server does not have it".to_owned()),
        Ok(Err(words)) => match git.failure(&words) {
            full @ GitError::DiskFull(_) => Err(full),
            _ => Ok(sentence(&words)),
        },
        Err(stalled @ GitError::Stalled { .. }) => Ok(stalled.to_string()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_for_the_host_of_the_repository() {
        let login = Login { username: "git".to_owned(), password: "key".into(), ..Login::default() };
        let check = |server: &str, login: Option<&Login>, expected: bool| {
            let of = |url| Address::parse(url, Files::Refused).unwrap();
            assert_eq!(is_lent_a_key(&of(server), &of("ssh://git@good/a"), login), expected, "{server}");
        };
        check("ssh://git@good/x", Some(&login), false);
        check("ssh://git@evil/x", Some(&login), true);
        check("git@evil:x", Some(&login), true);
        check("ssh://git@evil/x", None, false);
        check("https://evil/x", Some(&login), false);
    }

    #[test]
    fn where_the_content_is_kept() {
        for (url, expected) in [
            ("https://host/a/b", "https://host/a/b.git/info/lfs"),
            ("https://host/a/b.git", "https://host/a/b.git/info/lfs"),
            ("ssh://git@host:22/a/b", "ssh://git@host:22/a/b"),
            ("git@host:a/b.git", "ssh://git@host/a/b.git"),
            ("git@host:/srv/b", "ssh://git@host/srv/b"),
            ("file:///srv/a%20b", "file:///srv/a%20b"),
        ] {
            assert_eq!(usual_server(&Address::parse(url, Files::Allowed).unwrap()), expected);
        }
    }
}
