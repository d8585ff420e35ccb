//! `hostpath` mounts: what of the machine a run may see, decided again where the links are resolved.
use std::path::{Path, PathBuf};

use vessl_container::rootfs::{Access, Bind, Merged};
use vessl_core::plan::{MountFrom, MountPlan};
use vessl_core::spelling;

use crate::supervise::setup::error::SetupError;

/// Why a path of the machine is not mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum MountError {
    /// It is not there or cannot be looked at.
    #[error("cannot mount `{source_path}` at `{target}`: {source}")]
    Os {
        /// Path on the machine.
        source_path: String,
        /// Path in the container.
        target: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// The administrator did not allow it.
    #[error(
        "cannot mount `{source_path}` at `{target}`: {} is not below a directory that the administrator allowed ({})",
        shown(source_path, real),
        allowed(roots)
    )]
    NotAllowed {
        /// Path on the machine as written.
        source_path: String,
        /// The same with its links resolved.
        real: PathBuf,
        /// Path in the container.
        target: String,
        /// Allowed roots.
        roots: Vec<String>,
    },
    /// It is the product's own.
    #[error(
        "cannot mount `{source_path}` at `{target}`: it holds the product's own data, which no run may see"
    )]
    Own {
        /// Path on the machine.
        source_path: String,
        /// Path in the container.
        target: String,
    },
}

/// Mounts everything that `mounts` names; `hidden` are the product's own directories.
pub(crate) fn mount_all(
    merged: &Merged,
    mounts: &[&MountPlan],
    hidden: &[PathBuf],
) -> Result<(), SetupError> {
    for mount in mounts {
        let bind = bind(mount, hidden).map_err(SetupError::because)?;
        merged.bind(&bind).map_err(SetupError::because)?;
    }
    Ok(())
}

fn bind(mount: &MountPlan, hidden: &[PathBuf]) -> Result<Bind, MountError> {
    let MountFrom::Hostpath { path, roots } = &mount.source;
    let (source_path, target) = (path.clone(), mount.path.clone());
    let real = match spelling::path(path).canonicalize() {
        Ok(real) => real,
        Err(source) => return Err(MountError::Os { source_path, target, source }),
    };
    let below = |root: &String| Path::new(root).canonicalize().is_ok_and(|root| real.starts_with(root));
    if !roots.iter().any(below) {
        return Err(MountError::NotAllowed { source_path, real, target, roots: roots.clone() });
    }
    let own = |dir: &PathBuf| dir.canonicalize().is_ok_and(|dir| real.starts_with(dir));
    if hidden.iter().any(own) {
        return Err(MountError::Own { source_path, target });
    }
    let access = if mount.readonly { Access::ReadOnly } else { Access::Shared };
    Ok(Bind { source: real, target: spelling::path(&target), access })
}

fn shown(path: &str, real: &Path) -> String {
    if spelling::path(path) == real {
        "it".to_owned()
    } else {
        format!("`{}`, where it leads,", real.display())
    }
}

fn allowed(roots: &[String]) -> String {
    match roots {
        [] => "none is allowed: see `hostpath_roots` in the server's configuration".to_owned(),
        roots => roots.iter().map(|root| format!("`{root}`")).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(path: &Path, roots: &[&Path]) -> MountPlan {
        let roots = roots.iter().map(|root| root.display().to_string()).collect();
        let source = MountFrom::Hostpath { path: path.display().to_string(), roots };
        MountPlan { path: "/data".to_owned(), source, readonly: true }
    }

    #[test]
    fn only_what_lies_below_an_allowed_root_after_resolving_links() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (open, closed) = (root.join("open"), root.join("closed"));
        for path in [&open, &closed, &root.join("open/in")] {
            std::fs::create_dir(path).unwrap();
        }
        std::os::unix::fs::symlink(&closed, open.join("out")).unwrap();
        std::os::unix::fs::symlink(open.join("in"), closed.join("back")).unwrap();
        let check = |path: PathBuf, roots: &[&Path], expected: Result<&str, &str>| match (
            bind(&mount(&path, roots), &[]),
            expected,
        ) {
            (Ok(bind), Ok(real)) => assert_eq!(bind.source, root.join(real)),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (other, _) => panic!("{path:?}: {other:?}"),
        };
        check(open.join("in"), &[&open], Ok("open/in"));
        check(open.clone(), &[&closed, &open], Ok("open"));
        check(closed.join("back"), &[&open], Ok("open/in"));
        check(open.join("out"), &[&open], Err("where it leads"));
        check(closed.clone(), &[&open], Err("not below"));
        check(open.join("no"), &[&open], Err("No such file"));
        check(open.clone(), &[], Err("`hostpath_roots`"));
    }

    #[test]
    fn the_products_own_data_is_never_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        std::fs::create_dir(&own).unwrap();
        let error = bind(&mount(&own, &[dir.path()]), std::slice::from_ref(&own)).unwrap_err();
        assert!(error.to_string().contains("the product's own data"), "{error}");
    }
}
