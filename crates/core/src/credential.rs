//! What a stored credential logs in to, and how a run names the credentials that it uses. A new kind is a variant here, and whoever
//! uses it.
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::CredentialName;

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
    /// A store with the S3 API. No run can use it yet, so nobody can send one.
    #[serde(skip)]
    S3,
    /// Google Cloud Storage. No run can use it yet.
    #[serde(skip)]
    Gcs,
    /// Hugging Face. No run can use it yet.
    #[serde(skip)]
    Hf,
}

impl CredentialKind {
    /// The kinds that a run can use in this version.
    pub const USABLE: [Self; 2] = [Self::Registry, Self::Git];

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
        let all = [Self::Registry, Self::Git, Self::S3, Self::Gcs, Self::Hf];
        all.into_iter().find(|kind| kind.word() == word).ok_or_else(|| UnknownKind(word.to_owned()))
    }
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
    fn nobody_can_send_a_kind_that_no_run_can_use() {
        for kind in CredentialKind::USABLE {
            assert_eq!(serde_json::from_str::<CredentialKind>(&format!("\"{kind}\"")).unwrap(), kind);
        }
        let refused = serde_json::from_str::<CredentialKind>("\"s3\"").unwrap_err().to_string();
        assert!(refused.contains("expected `registry` or `git`"), "{refused}");
    }
}
