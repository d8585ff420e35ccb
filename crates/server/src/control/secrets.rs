//! Stored secrets and credentials: written sealed, listed by name, opened only for an agent.
use vessl_core::access::{Action, Caller, Scope, allowed};
use vessl_core::credential::{CredentialKind, CredentialRef, kind_takes};
use vessl_core::ids::{OrganizationName, RunId};
use vessl_core::record::{Login, Secrets};
use vessl_core::secret::Secret;
use vessl_core::wire::{SecretView, StoredKind};

use super::{Control, ControlError, Inner, Result};
use crate::secrets::{SecretError, bound, keys};
use crate::store::names::check_name;
use crate::store::secrets::{Class, NewSealed};

/// Longest value in bytes.
const LONGEST: usize = 256 << 10;

/// A value to be stored.
pub struct NewValue {
    /// Name.
    pub name: String,
    /// What it is.
    pub kind: StoredKind,
    /// User name, for a credential.
    pub username: Option<String>,
    /// The value.
    pub value: Secret,
    /// Token of a session, for keys of a store.
    pub session_token: Option<Secret>,
}

impl Control {
    /// Stores a secret or credential under its name; an existing one is replaced.
    pub async fn put_secret(
        &self,
        caller: &Caller,
        organization: &OrganizationName,
        class: Class,
        new: NewValue,
    ) -> Result<SecretView> {
        allowed(caller, Action::Manage, Scope::Organization(organization.clone()))?;
        self.0.known_organization(organization).await?;
        check_name(class.word(), &new.name).map_err(ControlError::Malformed)?;
        if new.value.is_empty() || new.value.len() > LONGEST {
            let words = format!("the value of `{}` must have 1 to {LONGEST} bytes", new.name);
            return Err(ControlError::Malformed(words));
        }
        let NewValue { value, session_token, .. } = new;
        let value = match new.kind.credential() {
            None => value,
            Some(kind) => {
                kind_takes(kind, new.username.as_deref(), &value, session_token.is_some())
                    .map_err(ControlError::refused)?;
                if kind == CredentialKind::S3 {
                    keys(value, session_token).map_err(|error| ControlError::Malformed(error.to_string()))?
                } else {
                    value
                }
            }
        };
        let view = SecretView {
            name: new.name,
            kind: new.kind,
            username: new.username,
            created_at: self.now(),
            replaced: false,
        };
        let bound = bound(organization, class.word(), &view.name);
        let sealed = self.0.parts.vault.seal(&bound, value.expose().as_bytes())?;
        let row = NewSealed { organization: organization.clone(), class, view: view.clone(), sealed };
        let replaced = self.0.parts.store.put_sealed(row).await?;
        Ok(SecretView { replaced, ..view })
    }

    /// Names of the secrets or credentials.
    pub async fn secret_names(
        &self,
        caller: &Caller,
        organization: &OrganizationName,
        class: Class,
    ) -> Result<Vec<SecretView>> {
        allowed(caller, Action::Read, Scope::Organization(organization.clone()))?;
        self.0.known_organization(organization).await?;
        Ok(self.0.parts.store.sealed_names(organization.clone(), class).await?)
    }

    /// Forgets a secret or credential.
    pub async fn delete_secret(
        &self,
        caller: &Caller,
        organization: &OrganizationName,
        class: Class,
        name: &str,
    ) -> Result<()> {
        allowed(caller, Action::Manage, Scope::Organization(organization.clone()))?;
        self.0.known_organization(organization).await?;
        if self.0.parts.store.delete_sealed(organization.clone(), class, name.to_owned()).await? {
            return Ok(());
        }
        let known = self.0.parts.store.sealed_names(organization.clone(), class).await?;
        let known: Vec<String> = known.into_iter().map(|view| view.name).collect();
        Err(ControlError::not_found(class.word(), name, &known))
    }
}

impl Inner {
    /// Opens everything that a run's agent needs.
    pub(super) async fn run_secrets(&self, id: RunId) -> Result<Secrets> {
        let (store, vault) = (&self.parts.store, &self.parts.vault);
        let missing = || ControlError::not_found("run", &id.0.to_string(), &[]);
        let stored = store.run(id).await?.ok_or_else(missing)?;
        let keys = store.run_texts(id).await?.ok_or_else(missing)?.keys;
        let mut secrets = Secrets::default();
        for (key, sealed) in store.run_secrets(id).await? {
            let value = vault.unseal(&bound_to_run(id, &key), &sealed)?;
            secrets.env.insert(key, value);
        }
        for (key, name) in keys.stored {
            let login = self.open(&stored.project.organization, Class::Secret, &name).await?;
            secrets.env.insert(key, login.password);
        }
        for credential in keys.credentials {
            let login = self.login(&stored.project.organization, &credential).await?;
            secrets.credentials.insert(credential, login);
        }
        Ok(secrets)
    }

    /// The login of a stored credential.
    pub(super) async fn login(
        &self,
        organization: &OrganizationName,
        credential: &CredentialRef,
    ) -> Result<Login> {
        let CredentialRef { kind, name } = credential;
        let found =
            self.parts.store.sealed(organization.clone(), Class::Credential, name.to_string()).await?;
        match found {
            Some(row) if row.kind.credential() != Some(*kind) => Err(ControlError::refused(format!(
                "the credential `{name}` is of the kind `{}`, here one of the kind `{kind}` is needed",
                row.kind
            ))),
            _ => self.open(organization, Class::Credential, name.as_str()).await,
        }
    }

    async fn open(&self, organization: &OrganizationName, class: Class, name: &str) -> Result<Login> {
        let found = self.parts.store.sealed(organization.clone(), class, name.to_owned()).await?;
        let row = found.ok_or_else(|| ControlError::not_found(class.word(), name, &[]))?;
        let bound = bound(organization, class.word(), name);
        let opened = self.parts.vault.login(&bound, row.kind.credential(), row.username, &row.value);
        opened.map_err(|error| match error {
            SecretError::Keys(_) => ControlError::refused(error.to_string()),
            other => other.into(),
        })
    }
}

/// What a literal secret of a run is sealed for.
pub(super) fn bound_to_run(id: RunId, key: &str) -> String {
    format!("run/{}/{key}", id.0)
}
