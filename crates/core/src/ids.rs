//! The names and numbers by which things are known, a type each, so that none is taken for another. Whether a new name may be given
//! is not decided here (see `spec::labels`).
use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! names {
    ($($(#[doc = $doc:literal])* $name:ident;)*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }
    )*};
}

names! {
    /// An organization: it owns projects, secrets and credentials.
    OrganizationName;
    /// A project of an organization.
    ProjectName;
    /// A cluster of the server's settings.
    ClusterName;
    /// A node of a cluster.
    NodeName;
    /// A preset of a cluster.
    PresetName;
    /// A stored credential of an organization.
    CredentialName;
    /// A storage of an organization: volumes lie on it.
    StorageName;
    /// A volume of a storage.
    VolumeName;
    /// A person, or a program that acts for one.
    UserName;
}

/// A project with its organization.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProjectRef {
    /// Its organization.
    pub organization: OrganizationName,
    /// Its own name.
    pub project: ProjectName,
}

impl ProjectRef {
    /// The project `project` of `organization`.
    pub fn new(organization: impl Into<OrganizationName>, project: impl Into<ProjectName>) -> Self {
        Self { organization: organization.into(), project: project.into() }
    }

    /// An artifact of this project.
    pub fn artifact(&self, name: impl Into<String>) -> ArtifactName {
        ArtifactName {
            organization: self.organization.clone(),
            project: self.project.clone(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ProjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organization, self.project)
    }
}

/// An artifact with its project.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ArtifactName {
    /// Its organization.
    pub organization: OrganizationName,
    /// Its project.
    pub project: ProjectName,
    /// Its own name.
    pub name: String,
}

impl ArtifactName {
    /// Its project.
    pub fn project(&self) -> ProjectRef {
        ProjectRef { organization: self.organization.clone(), project: self.project.clone() }
    }
}

impl fmt::Display for ArtifactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.organization, self.project, self.name)
    }
}

/// Identity of a run: a 12-digit number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
pub struct RunId(pub u64);

/// A token that the server has given out; 0 is the server's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenId(pub u64);

/// A run as people name it: by project and number.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunRef {
    /// Its project.
    pub project: ProjectRef,
    /// Its number.
    pub id: RunId,
}

/// What makes one attempt this one and no other, whatever its number: random, made at submit. Run ids can come again (a
/// database that was restored or lost); a record with another nonce is another attempt's and is not believed.
///
/// 16 hex digits as text. 0 is an attempt from before there were nonces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(pub u64);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        nonce.to_string()
    }
}

impl TryFrom<String> for Nonce {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Self)
    }
}

/// One attempt of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// The run.
    pub run: RunId,
    /// Number of the attempt, from 1.
    pub number: u32,
    /// What makes it this one.
    pub nonce: Nonce,
}

impl AttemptId {
    /// Its name among the attempts of its run, and that of its directory below the run's: `<attempt>-<nonce>`.
    pub fn name(self) -> String {
        match self.nonce {
            Nonce(0) => self.number.to_string(),
            nonce => format!("{}-{nonce}", self.number),
        }
    }

    /// The attempt of a run with this name.
    pub fn of_name(run: RunId, name: &str) -> Option<Self> {
        let (number, nonce) = match name.split_once('-') {
            Some((number, nonce)) => (number, nonce.to_owned().try_into().ok()?),
            None => (name, Nonce::default()),
        };
        Some(Self { run, number: number.parse().ok()?, nonce }).filter(|at| at.name() == name)
    }
}
