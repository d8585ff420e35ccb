//! Kits: JupyterLab for one kind of Python, unpacked once on this machine and only read from then on. A kit has its name when it is whole
//! and on disk; its name is made of everything that is in it.
//!
//! ```text
//! <data>/jupyter/            seen read-only in every interactive run, at the same name
//!   .lock                    held (flock) by whoever makes a kit
//!   .new-XXXXXX/             a kit that is not whole; the next maker removes what a killed one left
//!   cp311-0123456789abcdef/
//!     lib/                   modules
//!     share/ etc/ bin/       what packages have for the system
//!     vessl/                 the launchers of server and kernel
//! ```
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use futures::{StreamExt, stream};
use vessl_core::jupyter::KITS;
use vessl_data::durable;
use vessl_data::fetch::FetchError;

use crate::index::{Source, WheelError};
use crate::lock::{self, NoWheel, PYTHONS, Wheel};
use crate::tags::Platform;
use crate::wheel::{self, DIR, UnpackError};

/// What starts the server; its comment says how.
pub(crate) const SERVER: &str = include_str!("server.py");
/// What starts a kernel.
const KERNEL: &str = include_str!("kernel.py");
/// Where both are in a kit.
pub(crate) const LAUNCHERS: &str = "vessl";
/// Changes when kits are made in another way.
const KIT_VERSION: u32 = 2;
/// Wheels that are fetched at the same time.
const AT_ONCE: usize = 8;
/// How a kit is called that is not whole.
const NEW: &str = ".new-";

/// Why there is no kit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KitError {
    /// There is no lock for this Python.
    #[error("JupyterLab is brought along for Python {PYTHONS}, and the image has 3.{0}")]
    NoLock(u32),
    /// The platform is too old or too strange.
    #[error("{0} the image's system ({1} {2:?})", package.0, platform.machine, platform.libc)]
    NoWheel {
        /// Which.
        package: NoWheel,
        /// For what.
        platform: Platform,
    },
    /// A wheel is missing.
    #[error(transparent)]
    Wheel(#[from] WheelError),
    /// The index cannot be asked at all.
    #[error(transparent)]
    Http(#[from] FetchError),
    /// A wheel cannot be unpacked.
    #[error("cannot unpack `{file}`: {source}")]
    Unpack {
        /// Which.
        file: &'static str,
        /// Why.
        source: UnpackError,
    },
    /// The directory of kits.
    #[error("cannot {what} `{}`: {source}", path.display())]
    Os {
        /// The step.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl KitError {
    /// Whether another try, a while later, may go well.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Wheel(error) => error.may_pass(),
            Self::Os { .. } | Self::Unpack { source: UnpackError::Write { .. }, .. } => true,
            _ => false,
        }
    }
}

fn os(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KitError + use<> {
    let path = path.to_owned();
    move |source| KitError::Os { what, path, source }
}

/// The kits of this machine.
#[derive(Debug)]
pub(crate) struct Kits {
    root: PathBuf,
}

impl Kits {
    /// Below a data directory.
    pub(crate) fn of(data: &Path) -> Self {
        Self { root: data.join(KITS) }
    }

    /// Name of the kit for a platform, which is made if it is not there. `tell` hears what is being done.
    pub(crate) async fn get(
        &self,
        platform: &Platform,
        tell: &mut dyn FnMut(String),
    ) -> Result<String, KitError> {
        let wheels = lock::choose(platform).ok_or(KitError::NoLock(platform.minor))?;
        let wheels = wheels.map_err(|package| KitError::NoWheel { package, platform: platform.clone() })?;
        let name = name(platform.minor, &wheels);
        let place = self.root.join(&name);
        if place.is_dir() {
            return Ok(name);
        }
        let source = Source::of_settings()?;
        durable::create_dir_all(&self.root, DIR).map_err(os("make", &self.root))?;
        let held = self.lock(tell).await?;
        // Whoever had the lock may have made it.
        if !place.is_dir() {
            self.make(&wheels, (platform.minor, &place), &source, tell).await?;
        }
        drop(held);
        Ok(name)
    }

    async fn lock(&self, tell: &mut dyn FnMut(String)) -> Result<File, KitError> {
        let path = self.root.join(".lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(os("open", &path))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(os("lock", &path)(error)),
            Err(TryLockError::WouldBlock) => tell("another run is fetching JupyterLab".to_owned()),
        }
        let waiting = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
        waiting.await.map_err(io::Error::other).flatten().map_err(os("lock", &path))
    }

    async fn make(
        &self,
        wheels: &[Wheel],
        (minor, place): (u32, &Path),
        source: &Source,
        tell: &mut dyn FnMut(String),
    ) -> Result<(), KitError> {
        self.sweep().map_err(os("clean up", &self.root))?;
        let new = tempfile::Builder::new()
            .prefix(NEW)
            .tempdir_in(&self.root)
            .map_err(os("write to", &self.root))?;
        let (count, size) = (wheels.len(), wheels.iter().map(|wheel| wheel.size).sum());
        let (mut done, mut bytes) = (0, 0);
        let said = |done, bytes| {
            let (bytes, size) = (megabytes(bytes), megabytes(size));
            format!(
                "fetching JupyterLab for Python 3.{minor}: {done} of {count} wheels, {bytes} of {size} MB"
            )
        };
        tell(said(0, 0));
        let fetches = wheels.iter().map(|wheel| async move { (wheel, source.wheel(wheel).await) });
        let mut fetched = stream::iter(fetches).buffered(AT_ONCE);
        while let Some((wheel, content)) = fetched.next().await {
            let (content, into) = (content?, new.path().to_owned());
            let unpacked = tokio::task::spawn_blocking(move || wheel::unpack(&content, &into)).await;
            let unpacked = unpacked.map_err(io::Error::other).map_err(os("unpack into", place))?;
            unpacked.map_err(|source| KitError::Unpack { file: wheel.file, source })?;
            (done, bytes) = (done + 1, bytes + wheel.size);
            tell(said(done, bytes));
        }
        drop(fetched);
        let (path, to) = (new.path().to_owned(), place.to_owned());
        let finished = tokio::task::spawn_blocking(move || finish(&path, &to)).await;
        finished.map_err(io::Error::other).flatten().map_err(os("write", place))?;
        // It has another name by now.
        let _ = new.keep();
        Ok(())
    }

    /// Removes what makers left that were killed. For who holds the lock.
    fn sweep(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(NEW.as_bytes()) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Gives a kit its launchers, waits for the disk, and gives it its name.
fn finish(new: &Path, place: &Path) -> io::Result<()> {
    let launchers = new.join(LAUNCHERS);
    std::fs::create_dir(&launchers)?;
    std::fs::set_permissions(&launchers, Permissions::from_mode(DIR))?;
    write(&launchers.join("server.py"), SERVER)?;
    write(&launchers.join("kernel.py"), KERNEL)?;
    let kernel = format!("{}/{LAUNCHERS}/kernel.py", inside(place));
    let spec = serde_json::json!({
        // The server puts its own Python in the place of this name.
        "argv": ["python", kernel, "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
        "metadata": { "debugger": true },
    });
    let kernels = new.join("share/jupyter/kernels/python3");
    std::fs::create_dir_all(&kernels)?;
    write(&kernels.join("kernel.json"), &spec.to_string())?;
    // Nobody is asked whether he wants news, which need a network.
    let quiet = serde_json::json!({
        "@jupyterlab/apputils-extension:notification": { "fetchNews": "false", "checkForUpdates": false },
    });
    let settings = new.join("share/jupyter/lab/settings");
    std::fs::create_dir_all(&settings)?;
    std::fs::set_permissions(&settings, Permissions::from_mode(DIR))?;
    write(&settings.join("overrides.json"), &quiet.to_string())?;
    std::fs::set_permissions(new, Permissions::from_mode(DIR))?;
    durable::sync_file_system(new)?;
    match std::fs::rename(new, place) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => std::fs::remove_dir_all(new)?,
        renamed => renamed?,
    }
    durable::sync_dir(place.parent().unwrap_or(place))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o644))
}

/// Where a kit is seen in a run.
pub(crate) fn inside(kit: &Path) -> String {
    let name = kit.file_name().unwrap_or_default().to_string_lossy();
    format!("{}/{name}", vessl_core::jupyter::KITS_INSIDE)
}

/// Made of everything that is in the kit.
fn name(minor: u32, wheels: &[Wheel]) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(format!("{KIT_VERSION}\n{SERVER}\0{KERNEL}\0").as_bytes());
    for wheel in wheels {
        hash.update(format!("{} {}\n", wheel.sha256, wheel.file).as_bytes());
    }
    format!("cp3{minor}-{}", &hash.finalize().to_hex()[..16])
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tags::Libc;

    #[test]
    fn one_kit_serves_every_image_that_takes_the_same_wheels() {
        let of = |minor, libc| {
            let platform = Platform { minor, machine: "x86_64".to_owned(), libc };
            name(minor, &lock::choose(&platform).unwrap().unwrap())
        };
        assert_eq!(of(11, Libc::Glibc(2, 36)), of(11, Libc::Glibc(2, 39)));
        assert_ne!(of(11, Libc::Glibc(2, 36)), of(11, Libc::Musl(1, 2)));
        assert_ne!(of(11, Libc::Glibc(2, 36)), of(12, Libc::Glibc(2, 36)));
        assert!(of(11, Libc::Glibc(2, 36)).starts_with("cp311-"));
    }

    #[test]
    fn sizes_are_told_in_megabytes() {
        assert_eq!([0, 99_999, 5_250_000, 47_000_000].map(megabytes), ["0.0", "0.0", "5.2", "47.0"]);
    }
}
