//! Who may do what, decided from what the caller brings. Pure; who the caller is was settled before.
//!
//! A grant holds for its scope and for everything inside: the server ⊃ an organization ⊃ its projects.
use std::fmt;

use crate::ids::{OrganizationName, ProjectRef, TokenId, UserName};

/// Who asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user: UserName,
    /// The token that the user came with.
    pub token: TokenId,
    /// What the user may do.
    pub grants: Vec<Grant>,
}

impl Caller {
    /// The user of the server's own token, who may do everything.
    pub fn admin() -> Self {
        let grants = vec![Grant { role: Role::Admin, on: Scope::Server }];
        Self { user: "admin".into(), token: TokenId(0), grants }
    }

    /// The user of a public key, with everything that the user may do; nobody if there is no such user any more.
    pub fn of_key(user: &UserName) -> Option<Self> {
        Some(Self::admin()).filter(|admin| admin.user == *user)
    }
}

/// A role somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What may be done.
    pub role: Role,
    /// Where.
    pub on: Scope,
}

/// What somebody may do in a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// See runs, files, names.
    Read,
    /// Submit, change, end and delete runs.
    Run,
    /// Make projects, store and delete secrets and credentials.
    Manage,
    /// Stop the server, pull and prune images, make organizations.
    Operate,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Read => "look",
            Self::Run => "run anything",
            Self::Manage => "change anything",
            Self::Operate => "operate anything",
        }
    }
}

/// Where something is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The server and everything on it.
    Server,
    /// An organization with its projects.
    Organization(OrganizationName),
    /// A project.
    Project(ProjectRef),
}

impl Scope {
    /// Whether `inner` is this scope or inside it.
    fn holds(&self, inner: &Self) -> bool {
        match (self, inner) {
            (Self::Server, _) => true,
            (Self::Organization(own), Self::Organization(other)) => own == other,
            (Self::Organization(own), Self::Project(other)) => *own == other.organization,
            (Self::Project(own), Self::Project(other)) => own == other,
            _ => false,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("on this server"),
            Self::Organization(name) => write!(f, "in the organization `{name}`"),
            Self::Project(project) => write!(f, "in the project `{project}`"),
        }
    }
}

/// Somebody may not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{user}` may not {} {on}", .action.word())]
pub struct Denied {
    user: UserName,
    action: Action,
    on: Scope,
}

/// Whether `caller` may do `action` in `scope`.
pub fn allowed(caller: &Caller, action: Action, scope: Scope) -> Result<(), Denied> {
    let may = |role: Role| match (role, action) {
        (Role::Admin, Action::Read | Action::Run | Action::Manage | Action::Operate) => true,
    };
    if caller.grants.iter().any(|grant| may(grant.role) && grant.on.holds(&scope)) {
        return Ok(());
    }
    Err(Denied { user: caller.user.clone(), action, on: scope })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_hold_for_what_is_inside() {
        let project = |o: &str, p: &str| Scope::Project(ProjectRef::new(o, p));
        let organization = |o: &str| Scope::Organization(o.into());
        let places = [
            Scope::Server,
            organization("a"),
            project("a", "p"),
            project("a", "q"),
            organization("b"),
            project("b", "p"),
        ];
        for (grant, expected) in [
            (None, [false; 6]),
            (Some(Scope::Server), [true; 6]),
            (Some(organization("a")), [false, true, true, true, false, false]),
            (Some(project("a", "p")), [false, false, true, false, false, false]),
        ] {
            let grants: Vec<Grant> =
                grant.iter().map(|on| Grant { role: Role::Admin, on: on.clone() }).collect();
            let caller = Caller { user: "u".into(), token: TokenId(1), grants };
            for action in [Action::Read, Action::Run, Action::Manage, Action::Operate] {
                let found = places.clone().map(|place| allowed(&caller, action, place).is_ok());
                assert_eq!(found, expected, "{grant:?} {action:?}");
            }
        }
    }

    #[test]
    fn a_refusal_says_who_what_and_where() {
        let nobody = Caller { user: "u".into(), token: TokenId(1), grants: Vec::new() };
        let said = allowed(&nobody, Action::Run, Scope::Project(ProjectRef::new("o", "p"))).unwrap_err();
        assert_eq!(said.to_string(), "`u` may not run anything in the project `o/p`");
    }
}
