//! Where files go in a version or a volume, as `cp -r` would put them. It asks no server.
use std::path::{Path, PathBuf};

use vessl_core::spelling;
use vessl_core::wire::FileKind;

use crate::commands::upload::Local;
use crate::error::{Error, Result};
use crate::output::clean;

/// The path in a tree that people write: with or without a `/` in front, spelled as files are listed.
pub(crate) fn tree_path(text: &str) -> Result<PathBuf> {
    if text.split('/').any(|part| part == "..") {
        return Err(Error::Usage {
            message: format!("`{}` has a `..` in it", clean(text)),
            hint: "write the path from the topmost directory on".to_owned(),
        });
    }
    let parts = text.split('/').filter(|part| !matches!(*part, "" | "."));
    Ok(parts.map(spelling::path).collect())
}

/// Where files of this machine go: a directory with its name into `dest`, with `dir/.` what is in it; a file into the directory `dest`,
/// or there under a new name. `there` is what is at `dest`.
pub(crate) fn place(local: &Local, dest: &str, there: Option<FileKind>) -> Result<PathBuf> {
    let to = tree_path(dest)?;
    let is_top = to.as_os_str().is_empty();
    let means_dir =
        is_top || dest.ends_with('/') || dest.ends_with("/.") || there == Some(FileKind::Directory);
    let is_other = matches!(there, Some(FileKind::File | FileKind::Link)) && !is_top;
    let is_dir = local.top.is_some();
    if is_other && (is_dir || means_dir) {
        return Err(Error::Usage {
            message: format!("`{}` is a file there, and no directory", clean(dest)),
            hint: "name another place, or delete that file first".to_owned(),
        });
    }
    let name = local.name.as_deref().unwrap_or(Path::new(""));
    match (is_dir, means_dir) {
        (true, _) if name.as_os_str().is_empty() => Ok(to),
        (true, _) | (false, true) => Ok(to.join(name)),
        (false, false) => Ok(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_where_cp_puts_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        let check = |source: &str, dest: &str, there: Option<FileKind>, expected: &str| {
            let local = Local::walk(Path::new(&format!("{}/{source}", dir.path().display()))).unwrap();
            let placed = place(&local, dest, there)
                .map_or_else(|error| format!("! {error}"), |path| path.display().to_string());
            assert_eq!(placed, expected, "{source} to {dest}, {there:?}");
        };
        let (file, directory) = (Some(FileKind::File), Some(FileKind::Directory));
        check("d", "/", None, "d");
        check("d/.", "/", None, "");
        check("d", "/a/b/", None, "a/b/d");
        check("d/.", "a//./b", directory, "a/b");
        check("d", "a", file, "! `a` is a file there, and no directory");
        check("f", "/", None, "f");
        check("f", "a", None, "a");
        check("f", "a", file, "a");
        check("f", "a", directory, "a/f");
        check("f", "a/", None, "a/f");
        check("f", "a/", file, "! `a/` is a file there, and no directory");
        check("f", "a/../b", None, "! `a/../b` has a `..` in it");
        check("f", "%2F", None, "%2F");
    }
}
