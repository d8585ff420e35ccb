//! Mounts: what of the machine and of NFS servers a run may see, decided again where the links are resolved.
use std::path::{Path, PathBuf};

use vessl_container::rootfs::nfs::{self, Export, NfsAccess, Patience};
use vessl_container::rootfs::{Access, Bind, Merged};
use vessl_core::plan::{MountFrom, MountPlan, VolumePlace};
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

/// Mounts everything of the machine that `mounts` names; versions of the store are the matter of the imports.
pub(crate) fn mount_all(merged: &Merged, mounts: &[&MountPlan], own: &Own<'_>) -> Result<(), SetupError> {
    for mount in mounts {
        match &mount.source {
            MountFrom::Hostpath { path, roots } => {
                let bind = bind(mount, (path, roots), own.hidden).map_err(SetupError::because)?;
                merged.bind(&bind).map_err(SetupError::because)?;
            }
            MountFrom::Volume(volume) => match &volume.place {
                VolumePlace::Path { root, volume, roots } => {
                    let path = format!("{}/{volume}", root.trim_end_matches('/'));
                    let bind = match roots {
                        Some(roots) => bind(mount, (&path, roots), own.hidden),
                        None => built_in(mount, &path, own.volumes),
                    };
                    merged.bind(&bind.map_err(SetupError::because)?).map_err(SetupError::because)?;
                }
                VolumePlace::Nfs { server, path, volume } => {
                    let path = format!("{}/{volume}", path.trim_end_matches('/'));
                    mount_nfs(merged, mount, (server, &path), own)?;
                }
            },
            MountFrom::Nfs { server, path } => mount_nfs(merged, mount, (server, path), own)?,
            MountFrom::Tree { .. } => {}
        }
    }
    Ok(())
}

/// What is the product's own.
#[derive(Clone, Copy)]
pub(crate) struct Own<'a> {
    /// Directories that no run may see.
    pub(crate) hidden: &'a [PathBuf],
    /// The directory of the volumes of the built-in storage.
    pub(crate) volumes: &'a Path,
    /// Whether nobody waits for the mounts any more.
    pub(crate) stop: &'a dyn Fn() -> bool,
}

/// Mounts an NFS export; a server that does not answer is waited for as long as its time limit says, or until the run is stopped.
fn mount_nfs(
    merged: &Merged,
    mount: &MountPlan,
    (server, path): (&str, &str),
    own: &Own<'_>,
) -> Result<(), SetupError> {
    let access = if mount.readonly { NfsAccess::ReadOnly } else { NfsAccess::ReadWrite };
    let patience = Patience { limit: nfs::LIMIT, stop: own.stop };
    let mounted = Export::new(server, path).and_then(|export| export.mount(access, &patience));
    let mounted = mounted.map_err(SetupError::because)?;
    merged.show_nfs(&mounted, &spelling::path(&mount.path)).map_err(SetupError::because)
}

/// The directory of a volume of the built-in storage, which lies in the product's own data.
fn built_in(mount: &MountPlan, path: &str, volumes: &Path) -> Result<Bind, MountError> {
    let (source_path, target) = (path.to_owned(), mount.path.clone());
    let real = spelling::path(path).canonicalize().and_then(|real| Ok((real, volumes.canonicalize()?)));
    let (real, volumes) = match real {
        Ok(found) => found,
        Err(source) => return Err(MountError::Os { source_path, target, source }),
    };
    if real.parent().and_then(Path::parent) != Some(volumes.as_path()) {
        return Err(MountError::Own { source_path, target });
    }
    let access = if mount.readonly { Access::ReadOnly } else { Access::Shared };
    Ok(Bind { source: real, target: spelling::path(&target), access })
}

fn bind(mount: &MountPlan, (path, roots): (&str, &[String]), hidden: &[PathBuf]) -> Result<Bind, MountError> {
    let (source_path, target) = (path.to_owned(), mount.path.clone());
    let real = match spelling::path(path).canonicalize() {
        Ok(real) => real,
        Err(source) => return Err(MountError::Os { source_path, target, source }),
    };
    let below = |root: &String| Path::new(root).canonicalize().is_ok_and(|root| real.starts_with(root));
    if !roots.iter().any(below) {
        return Err(MountError::NotAllowed { source_path, real, target, roots: roots.to_vec() });
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

    fn bound(path: &Path, roots: &[&Path], hidden: &[PathBuf]) -> Result<Bind, MountError> {
        let (path, roots): (_, Vec<String>) =
            (path.display().to_string(), roots.iter().map(|root| root.display().to_string()).collect());
        let source = MountFrom::Hostpath { path: path.clone(), roots: roots.clone() };
        let mount = MountPlan { path: "/data".to_owned(), source, readonly: true };
        bind(&mount, (&path, &roots), hidden)
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
            bound(&path, roots, &[]),
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
        let error = bound(&own, &[dir.path()], std::slice::from_ref(&own)).unwrap_err();
        assert!(error.to_string().contains("the product's own data"), "{error}");
    }
}
