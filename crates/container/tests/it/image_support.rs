//! A store of a test, and pulls into it.
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tempfile::TempDir;
use vessl_container::store::{Auth, Image, Options, PullWatch, Store, StoreError};
use vessl_data::fetch::RetryPolicy;

/// An empty store in a directory of its own.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) store: Store,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("images")).unwrap().with(quick());
        Self { dir, store }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    pub(crate) fn pull(&self, reference: &str) -> Result<Image, StoreError> {
        pull(&self.store, reference, &Auth::Anonymous)
    }

    pub(crate) fn refused(&self, reference: &str) -> String {
        self.pull(reference).expect_err(reference).to_string()
    }

    /// Paths below the store's `name`, sorted.
    pub(crate) fn names(&self, name: &str) -> Vec<String> {
        names(&self.root().join(name))
    }

    /// Fails unless nothing of a failed pull is left but downloads that the next pull continues.
    pub(crate) fn assert_no_half_work(&self) {
        assert_eq!(self.names("layers"), [""; 0]);
        assert_eq!(self.names("images"), [""; 0]);
        for work in self.names("tmp") {
            let left = names(&self.root().join("tmp").join(work));
            assert!(
                left.iter().all(|name| Path::new(name).extension().is_some_and(|e| e == "part")),
                "{left:?}"
            );
        }
    }
}

/// Options with which a test does not wait long.
pub(crate) fn quick() -> Options {
    retrying(RetryPolicy { pause: Duration::from_millis(5), retries: 3, ..RetryPolicy::default() })
}

/// Options with this patience.
pub(crate) fn retrying(fetch: RetryPolicy) -> Options {
    Options { fetch, ..Options::default() }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn pull(store: &Store, reference: &str, auth: &Auth) -> Result<Image, StoreError> {
    let cancel = AtomicBool::new(false);
    store.pull(reference, auth, &PullWatch { progress: &|_, _| {}, cancel: &cancel })
}

pub(crate) fn login(username: &str, password: &str) -> Auth {
    Auth::Basic { username: username.into(), password: password.into() }
}

/// The topmost layer that has `path`, as a path of this machine.
pub(crate) fn find_in(image: &Image, path: &str) -> PathBuf {
    let found =
        image.layers.iter().rev().map(|layer| layer.join(path)).find(|p| p.symlink_metadata().is_ok());
    found.unwrap_or_else(|| panic!("`{path}` is in no layer"))
}

pub(crate) fn read(image: &Image, path: &str) -> String {
    std::fs::read_to_string(find_in(image, path)).unwrap()
}

/// Threads of this process.
pub(crate) fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Threads of this process that a pull made.
pub(crate) fn pull_threads() -> usize {
    let all = std::fs::read_dir("/proc/self/task").unwrap();
    let names = all.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("pull-")).count()
}
