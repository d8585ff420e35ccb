//! The product's own directories on this machine, which no run may see: this server's, this user's, and the default ones
//! of every other user of `/etc/passwd`.
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use vessl_core::account;

/// Where the product keeps its things: the variable, and the default below the home.
const KINDS: [(&str, &str); 4] = [
    ("XDG_CONFIG_HOME", ".config"),
    ("XDG_DATA_HOME", ".local/share"),
    ("XDG_STATE_HOME", ".local/state"),
    ("XDG_CACHE_HOME", ".cache"),
];
/// Largest `/etc/passwd` that is read, in bytes.
const ACCOUNTS: u64 = 4 << 20;
/// Most directories of other users: each is a mount in the container.
const MOST: usize = 1024;

/// All of them. To be asked before a user namespace hides who owns what.
pub(crate) fn all(data: &Path) -> Vec<PathBuf> {
    let named = |variable| std::env::var_os(variable).map(PathBuf::from);
    let mut passwd = Vec::new();
    // A machine without the file has no other users.
    let _ = File::open("/etc/passwd").and_then(|file| file.take(ACCOUNTS).read_to_end(&mut passwd));
    let mut dirs = vec![data.to_owned(), PathBuf::from("/etc/vessl")];
    dirs.extend(backups(data));
    dirs.extend(of_this_user(named));
    dirs.extend(of_users(&String::from_utf8_lossy(&passwd)));
    dirs
}

/// The backups of this server that are there: they hold its keys. Source: `hide` of the server's `backup`.
fn backups(data: &Path) -> Vec<PathBuf> {
    let text = std::fs::read(data.join("backups")).unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n').map(|line| PathBuf::from(OsStr::from_bytes(line)));
    lines.filter(|path| path.is_absolute() && path.is_dir()).take(MOST).collect()
}

/// The directories that the variables say. A path that is not absolute says nothing.
fn of_this_user(named: impl Fn(&'static str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let named = |variable| named(variable).filter(|dir| dir.is_absolute());
    let place = |(variable, below)| named(variable).or_else(|| Some(named("HOME")?.join(below)));
    KINDS.into_iter().filter_map(place).map(|dir| dir.join("vessl")).collect()
}

/// The default directories below the homes of `passwd` that are there and that this user can look into. One counts only if
/// it is its user's own: nobody hides the machine from another's runs with a link.
fn of_users(passwd: &str) -> Vec<PathBuf> {
    let places = account::homes(passwd)
        .filter(|(_, home)| home.starts_with('/'))
        .flat_map(|(uid, home)| KINDS.map(|(_, below)| (uid, Path::new(home).join(below).join("vessl"))));
    let is_theirs =
        |uid: u32, dir: &Path| dir.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == uid);
    let seen =
        |dir: &Path| [AccessFlags::R_OK, AccessFlags::X_OK].iter().any(|way| access(dir, *way).is_ok());
    places.filter(|(uid, dir)| is_theirs(*uid, dir) && seen(dir)).map(|(_, dir)| dir).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_user_keeps_is_known_as_far_as_the_variables_say_it() {
        let check = |home: &'static str, data: &'static str, expected: &[&str]| {
            let named = |variable| match variable {
                "HOME" => Some(PathBuf::from(home)),
                "XDG_DATA_HOME" => Some(PathBuf::from(data)),
                _ => None,
            };
            let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(of_this_user(named), expected, "{home:?} {data:?}");
        };
        let (config, state, cache) = ("/h/.config/vessl", "/h/.local/state/vessl", "/h/.cache/vessl");
        check("/h", "/d", &[config, "/d/vessl", state, cache]);
        check("/h", "d", &[config, "/h/.local/share/vessl", state, cache]);
        for home in ["", "relative", "./x"] {
            check(home, "/d", &["/d/vessl"]);
            check(home, "", &[]);
        }
    }

    #[test]
    fn what_other_users_keep_is_known() {
        let homes = tempfile::tempdir().unwrap();
        let at = |name: &str| homes.path().join(name);
        for dir in [
            "ann/.local/share/vessl",
            "ann/.config/vessl",
            "ann/.config/other",
            "bob/.cache/vessl",
            "eve/.config",
        ] {
            std::fs::create_dir_all(at(dir)).unwrap();
        }
        std::os::unix::fs::symlink("/", at("eve/.config/vessl")).unwrap();
        let me = nix::unistd::getuid().as_raw();
        let line = |name: &str, uid| format!("{name}:x:{uid}:0:,,,:{}:/bin/sh\n", at(name).display());
        let passwd =
            ["broken\nnone:x:7:7:::\n".to_owned(), line("ann", me), line("bob", me + 1), line("eve", me + 1)];
        let expected = [at("ann/.config/vessl"), at("ann/.local/share/vessl")];
        assert_eq!(
            of_users(&passwd.concat()),
            expected,
            "bob's is not his own, eve's leads to the machine's root"
        );
    }
}
