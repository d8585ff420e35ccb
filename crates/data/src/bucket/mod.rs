//! Directories from and to buckets of S3 (any endpoint) and Google Cloud Storage. Credentials and signatures are those of the library
//! `object_store`; the requests are ours, because the library's listing loses keys and its uploads know no conditions. It must not know
//! who asks, or under which name a version is kept.
//!
//! A [`Location`] is a directory (everything below `PREFIX/`) or, if nothing is there, the one object whose key is the prefix. If both
//! exist, the directory is meant.
//!
//! ```text
//! import   list ──▶ queue ──▶ 32 requests in flight ──▶ pwrite ──▶ checksums
//! export   walk ──▶ puts and parts ──▶ all uploads completed ──▶ looked at again ──▶ .vessl-manifest.json, if nobody else's is there
//! ```
mod admit;
mod change;
mod drive;
mod error;
mod export;
mod get;
mod gs;
mod import;
mod journal;
mod keys;
mod listing;
mod login;
mod manifest;
mod outgoing;
mod picture;
mod plain;
mod read;
mod refusal;
mod s3;
mod send;
mod store;
mod sums;
mod wire;

use std::fmt;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use vessl_core::secret::Secret;

use crate::fetch::RetryPolicy;
use keys::{Slash, encode};
use login::Login;
use store::Store;
use wire::Wire;

pub use change::{Added, Addition, ListChange};
pub use error::BucketError;
pub use export::{Export, Exported};
pub use import::{Empty, Import, Imported, ManifestUse, Previous};
pub use listing::{BucketFile, FileKind, Known, Recursive};
pub use outgoing::Outgoing;
pub use picture::{Object, Picture};
pub use plain::{Mark, PlainFile};
pub use read::Reader;

/// What an export puts beside its files last of all: the list of them.
pub const MANIFEST: &str = ".vessl-manifest.json";

/// Threads that move bytes, at least and at most; they wait for the network or the disk most of the time.
const THREADS: (usize, usize) = (4, 8);

/// Whose interface a bucket has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Amazon S3, and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gs,
}

impl Provider {
    /// The scheme of its addresses.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
        }
    }
}

/// A bucket, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Whose interface.
    pub provider: Provider,
    /// Its name.
    pub bucket: String,
    /// A key, or the beginning of keys up to a `/`, which may be left out; empty for the whole bucket.
    pub prefix: String,
    /// Address of another server than the cloud's own: `http://127.0.0.1:9000`. The bucket is then part of the path.
    pub endpoint: Option<String>,
    /// Where the bucket is; found out if it is not given.
    pub region: Option<String>,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.of_key(&self.prefix))
    }
}

impl Location {
    /// The address of an object of the bucket.
    fn of_key(&self, key: &str) -> String {
        format!("{}://{}/{}", self.provider.scheme(), self.bucket, key.escape_debug())
    }

    /// What the keys below it begin with.
    fn directory(&self) -> String {
        if self.prefix.is_empty() || self.prefix.ends_with('/') {
            self.prefix.clone()
        } else {
            format!("{}/", self.prefix)
        }
    }

    /// The address that requests begin with: the bucket (S3), or the server (Google).
    fn base(&self, region: &str) -> String {
        let bucket = encode(&self.bucket, Slash::Escaped);
        match (self.provider, &self.endpoint) {
            (Provider::Gs, None) => "https://storage.googleapis.com".to_owned(),
            (Provider::Gs, Some(endpoint)) => endpoint.trim_end_matches('/').to_owned(),
            (Provider::S3, Some(endpoint)) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
            (Provider::S3, None) => {
                let end = if region.starts_with("cn-") { ".cn" } else { "" };
                // A certificate for `*.s3…` does not fit a name with dots.
                if bucket.contains('.') {
                    format!("https://s3.{region}.amazonaws.com{end}/{bucket}")
                } else {
                    format!("https://{bucket}.s3.{region}.amazonaws.com{end}")
                }
            }
        }
    }

    fn check(&self) -> Result<(), BucketError> {
        let fits = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        let is_web = |address: &str| {
            let url = reqwest::Url::parse(address).ok();
            url.is_some_and(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.username().is_empty()
                    && url.password().is_none()
                    && url.query().is_none()
                    && url.fragment().is_none()
            })
        };
        let why = if self.bucket.is_empty() || !fits(&self.bucket) || self.bucket.starts_with('.') {
            "the name of a bucket has letters, digits, `-`, `_` and `.`"
        } else if keys::unaddressable(&self.prefix) {
            "no web address has a name `.` or `..`"
        } else if self.prefix.chars().any(char::is_control) {
            "it has a control character"
        } else if !self.endpoint.as_deref().is_none_or(is_web) {
            "the endpoint must be like `https://storage.example.com` or `http://127.0.0.1:9000`"
        } else if !self.region.as_deref().is_none_or(|region| !region.is_empty() && fits(region)) {
            "a region is like `eu-west-1`"
        } else {
            return Ok(());
        };
        Err(BucketError::Address { location: self.to_string(), why: why.to_owned() })
    }
}

/// As whom a bucket is asked.
#[derive(Clone, Debug)]
pub enum Identity {
    /// As nobody: for public buckets.
    Anonymous,
    /// With keys of S3.
    Keys {
        /// The id; not secret.
        id: String,
        /// The secret.
        secret: Secret,
        /// Of temporary keys.
        session_token: Option<Secret>,
    },
    /// With the key file (JSON) of a service account of Google.
    ServiceAccount(Secret),
    /// As the machine is known to its cloud, or as the environment of this process says.
    Machine,
}

/// A way to one place of one bucket. Its calls block; they must not be made from asynchronous code.
#[derive(Debug)]
pub struct Session {
    runtime: Runtime,
    store: Arc<Store>,
}

impl Session {
    /// Makes ready; asks nobody yet.
    pub fn open(at: Location, identity: Identity) -> Result<Self, BucketError> {
        // A store that asks to be asked more slowly wants that for some time.
        let policy = RetryPolicy { retries: 8, ..RetryPolicy::default() };
        Self::open_with(at, identity, &policy)
    }

    /// Like [`Session::open`], as patient as this says.
    pub fn open_with(at: Location, identity: Identity, policy: &RetryPolicy) -> Result<Self, BucketError> {
        at.check()?;
        // Fails only if another part of the process chose a provider before, which is as good. Credentials need it too.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.clamp(THREADS.0, THREADS.1))
            .thread_name("bucket")
            .enable_all()
            .build();
        let runtime = runtime.map_err(crate::DataError::os("start threads for", at.to_string()))?;
        // The library's credentials that need requests are made within the runtime.
        let login = {
            let _inside = runtime.enter();
            Login::new(&at, identity)?
        };
        let store = Arc::new(Store::new(Wire::new(at, login, policy)?));
        Ok(Self { runtime, store })
    }

    /// Where it leads.
    pub fn location(&self) -> &Location {
        self.store.wire.at()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(provider: Provider, bucket: &str, prefix: &str, endpoint: Option<&str>) -> Location {
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        Location { provider, bucket, prefix, endpoint: endpoint.map(str::to_owned), region: None }
    }

    #[test]
    fn addresses() {
        let check = |provider, bucket, endpoint, region, expected: &str| {
            assert_eq!(location(provider, bucket, "p", endpoint).base(region), expected);
        };
        check(Provider::S3, "b", None, "eu-west-1", "https://b.s3.eu-west-1.amazonaws.com");
        check(Provider::S3, "b.c", None, "eu-west-1", "https://s3.eu-west-1.amazonaws.com/b.c");
        check(Provider::S3, "b", None, "cn-north-1", "https://b.s3.cn-north-1.amazonaws.com.cn");
        check(Provider::S3, "b", Some("http://h:9/"), "x", "http://h:9/b");
        check(Provider::Gs, "b", None, "x", "https://storage.googleapis.com");
        check(Provider::Gs, "b", Some("http://h:9"), "x", "http://h:9");
    }

    #[test]
    fn what_cannot_be_an_address_is_refused() {
        let check = |bucket: &str, prefix: &str, endpoint: Option<&str>, expected: &str| {
            let found = location(Provider::S3, bucket, prefix, endpoint).check();
            let found = found.err().map(|e| e.to_string()).unwrap_or_default();
            assert!(
                found.contains(expected) && found.is_empty() == expected.is_empty(),
                "{bucket} {prefix}: {found}"
            );
        };
        check("b", "a/b", Some("https://h"), "");
        check("b", "", None, "");
        check("", "a", None, "name of a bucket");
        check("a/b", "a", None, "name of a bucket");
        check("b", "a/../b", None, "`.` or `..`");
        check("b", "a\nb", None, "control character");
        check("b", "a", Some("h:9"), "endpoint");
        check("b", "a", Some("ftp://h"), "endpoint");
        check("b", "a", Some("http://user:secret@h"), "endpoint");
    }

    #[test]
    fn no_secret_is_printed() {
        let keys = Identity::Keys {
            id: "AKIA".into(),
            secret: "hunter2".into(),
            session_token: Some("hunter3".into()),
        };
        let session = Session::open(location(Provider::S3, "b", "", None), keys.clone()).unwrap();
        let account = Identity::ServiceAccount("{\"private_key\": \"hunter4\", \"client_email\": 5}".into());
        let failed = Session::open(location(Provider::Gs, "b", "", None), account.clone()).unwrap_err();
        let odd = Identity::Keys { id: "AKIA".into(), secret: "hunter 5".into(), session_token: None };
        let refused = Session::open(location(Provider::S3, "b", "", None), odd).unwrap_err();
        let text = format!("{keys:?} {session:?} {account:?} {failed:?} {failed} {refused:?} {refused}");
        assert!(!text.contains("hunter"), "{text}");
        assert!(text.contains("it is not the key file of a service account"), "{text}");
    }
}
