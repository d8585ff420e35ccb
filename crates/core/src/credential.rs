//! What a stored credential logs in to, and how a run names the credentials that it uses. A new kind is a variant here, and whoever
//! uses it.
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::CredentialName;
use crate::secret::Secret;

/// What a credential logs in to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// A container registry.
    Registry,
    /// A git server.
    Git,
    /// A store with the S3 API.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Hugging Face.
    Hf,
}

impl CredentialKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Registry, Self::Git, Self::S3, Self::Gcs, Self::Hf];

    /// As it is stored and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Git => "git",
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Hf => "hf",
        }
    }
}

impl CredentialKind {
    /// What it logs in to, in words.
    pub fn what(self) -> &'static str {
        match self {
            Self::Registry => "A container registry",
            Self::Git => "A git server",
            Self::S3 => "A store with the S3 API",
            Self::Gcs => "Google Cloud Storage",
            Self::Hf => "Hugging Face",
        }
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for CredentialKind {
    type Err = UnknownKind;

    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(|| UnknownKind(word.to_owned()))
    }
}

/// Why a credential of this kind cannot be made of these parts, in words.
pub fn kind_takes(
    kind: CredentialKind,
    username: Option<&str>,
    value: &Secret,
    has_session_token: bool,
) -> Result<(), String> {
    if has_session_token && kind != CredentialKind::S3 {
        return Err("a session token belongs to a credential of the kind `s3`".to_owned());
    }
    match kind {
        CredentialKind::S3 if username.is_none_or(str::is_empty) => {
            Err("a credential of the kind `s3` needs the id of the key as its user name".to_owned())
        }
        CredentialKind::Gcs if service_account_key(value).is_none() => {
            let words = "a credential of the kind `gcs` is the JSON of a service account, with `client_email` and `private_key`";
            Err(words.to_owned())
        }
        _ => Ok(()),
    }
}

/// The private key in the JSON of a Google service account; nothing if it is none.
pub fn service_account_key(json: &Secret) -> Option<Secret> {
    #[derive(Deserialize)]
    struct ServiceAccount {
        #[serde(rename = "client_email")]
        _email: String,
        private_key: Secret,
    }
    serde_json::from_str::<ServiceAccount>(json.expose()).ok().map(|account| account.private_key)
}

/// No credential is of this kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no kind of credential")]
pub struct UnknownKind(String);

/// A credential that a run uses: `git/NAME` as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CredentialRef {
    /// What it logs in to.
    pub kind: CredentialKind,
    /// The name under which it is stored.
    pub name: CredentialName,
}

impl From<CredentialRef> for String {
    fn from(credential: CredentialRef) -> Self {
        format!("{}/{}", credential.kind, credential.name)
    }
}

impl TryFrom<String> for CredentialRef {
    type Error = UnknownKind;

    fn try_from(text: String) -> Result<Self, UnknownKind> {
        let (kind, name) = text.split_once('/').ok_or_else(|| UnknownKind(text.clone()))?;
        Ok(Self { kind: kind.parse()?, name: name.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_survives_as_text() {
        let credential = CredentialRef { kind: CredentialKind::Git, name: "a/b".into() };
        let text = serde_json::to_string(&credential).unwrap();
        assert_eq!(text, "\"git/a/b\"");
        assert_eq!(serde_json::from_str::<CredentialRef>(&text).unwrap(), credential);
        assert!(serde_json::from_str::<CredentialRef>("\"ftp/a\"").is_err());
    }

    #[test]
    fn what_cannot_log_in_is_said() {
        let check = |kind, username: Option<&str>, value: &str, expected: Option<&str>| {
            let found = kind_takes(kind, username, &value.into(), false);
            assert_eq!(found.err().as_deref(), expected, "{kind} {value}");
        };
        check(CredentialKind::S3, Some("AKIA"), "key", None);
        check(
            CredentialKind::S3,
            None,
            "key",
            Some("a credential of the kind `s3` needs the id of the key as its user name"),
        );
        check(CredentialKind::Hf, None, "hf_x", None);
        let json = r#"{"client_email": "a@b", "private_key": "k"}"#;
        check(CredentialKind::Gcs, None, json, None);
        let words = "a credential of the kind `gcs` is the JSON of a service account, with `client_email` and `private_key`";
        check(CredentialKind::Gcs, None, "token", Some(words));
        check(CredentialKind::Gcs, None, r#"{"client_email": "a@b"}"#, Some(words));
        let token = kind_takes(CredentialKind::Git, None, &"x".into(), true).unwrap_err();
        assert_eq!(token, "a session token belongs to a credential of the kind `s3`");
    }
}
