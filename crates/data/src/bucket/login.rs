//! As whom a bucket is asked. Credentials of every kind are the library's, which also renews those that end.
use std::fmt;
use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::aws::{AmazonS3Builder, AwsCredential, AwsCredentialProvider};
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorageBuilder};
use vessl_core::secret::Secret;

use super::error::BucketError;
use super::{Identity, Location, Provider};

/// A way to sign.
#[derive(Debug)]
pub(super) enum Login {
    Nobody,
    Aws { credentials: AwsCredentialProvider, who: String },
    Google { credentials: GcpCredentialProvider, who: String },
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("anonymously"),
            Self::Aws { who, .. } | Self::Google { who, .. } => f.write_str(who),
        }
    }
}

const MACHINE: &str = "with the machine's own identity";

impl Login {
    pub(super) fn new(at: &Location, identity: Identity) -> Result<Self, BucketError> {
        match (at.provider, identity) {
            (_, Identity::Anonymous) => Ok(Self::Nobody),
            (Provider::S3, Identity::Keys { id, secret, session_token }) => {
                keys(at, id, &secret, session_token.as_ref())
            }
            (Provider::Gs, Identity::ServiceAccount(key)) => service_account(at, &key),
            (Provider::S3, Identity::Machine) => {
                let region = at.region.as_deref().unwrap_or("us-east-1");
                let store =
                    AmazonS3Builder::from_env().with_bucket_name(&at.bucket).with_region(region).build();
                let store = store.map_err(|e| no_machine(at, &e))?;
                Ok(Self::Aws { credentials: Arc::clone(store.credentials()), who: MACHINE.to_owned() })
            }
            (Provider::Gs, Identity::Machine) => {
                let store = GoogleCloudStorageBuilder::from_env().with_bucket_name(&at.bucket).build();
                let store = store.map_err(|e| no_machine(at, &e))?;
                Ok(Self::Google { credentials: Arc::clone(store.credentials()), who: MACHINE.to_owned() })
            }
            (Provider::S3, Identity::ServiceAccount(_)) => {
                Err(unfit(at, "with a service account", "that is one for Google Cloud Storage"))
            }
            (Provider::Gs, Identity::Keys { id, .. }) => {
                Err(unfit(at, &format!("with the key `{id}`"), "that is one for S3"))
            }
        }
    }

    /// The library has no credential; its words may quote what it read, so they are not shown where that is a secret.
    pub(super) fn failed(&self, at: &Location, error: &object_store::Error) -> BucketError {
        let is_machine = matches!(self, Self::Aws { who, .. } | Self::Google { who, .. } if who == MACHINE);
        let why = if is_machine { no_identity(error) } else { "it cannot be used to sign".to_owned() };
        unfit(at, &self.to_string(), &why)
    }
}

fn keys(at: &Location, id: String, secret: &Secret, token: Option<&Secret>) -> Result<Login, BucketError> {
    let who = format!("with the key `{}`", id.escape_debug());
    let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain(&id) || !is_plain(secret.expose()) || !token.is_none_or(|token| is_plain(token.expose())) {
        return Err(unfit(
            at,
            &who,
            "its id, secret or session token is empty or has spaces or odd characters",
        ));
    }
    let credential = AwsCredential {
        key_id: id,
        secret_key: secret.expose().to_owned(),
        token: token.map(|token| token.expose().to_owned()),
    };
    Ok(Login::Aws { credentials: Arc::new(StaticCredentialProvider::new(credential)), who })
}

fn service_account(at: &Location, key: &Secret) -> Result<Login, BucketError> {
    let read: Option<serde_json::Value> = serde_json::from_str(key.expose()).ok();
    let name = read.as_ref().and_then(|key| key.get("client_email")?.as_str());
    let who = name.map_or_else(
        || "with a service account".to_owned(),
        |name| format!("with the service account `{}`", name.escape_debug()),
    );
    let store = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&at.bucket)
        .with_service_account_key(key.expose())
        .build();
    // What the library says may quote the key.
    let store = store.map_err(|_| unfit(at, &who, "it is not the key file of a service account (JSON)"))?;
    Ok(Login::Google { credentials: Arc::clone(store.credentials()), who })
}

fn no_machine(at: &Location, error: &object_store::Error) -> BucketError {
    unfit(at, MACHINE, &no_identity(error))
}

fn no_identity(error: &object_store::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let text: String =
        last.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    format!("this machine has none, or it cannot be had: {text}")
}

fn unfit(at: &Location, who: &str, why: &str) -> BucketError {
    BucketError::Credential { location: at.to_string(), who: who.to_owned(), why: why.to_owned() }
}
