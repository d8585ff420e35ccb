//! The user of a program: its numbers, and becoming it.
use nix::unistd::{Gid, Uid};
use vessl_core::account::User;
use vessl_core::record::InitConfig;

use crate::refusal::Refusal;

/// Numeric user and groups.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    groups: Vec<Gid>,
}

impl Account {
    /// The user of an order.
    pub(crate) fn of(config: &InitConfig) -> Self {
        let groups = config.groups.iter().copied().map(Gid::from_raw).collect();
        Self { uid: Uid::from_raw(config.uid), gid: Gid::from_raw(config.gid), groups }
    }

    /// A user of the image.
    pub(crate) fn of_user(user: &User) -> Self {
        let groups = user.groups.iter().copied().map(Gid::from_raw).collect();
        Self { uid: Uid::from_raw(user.uid), gid: Gid::from_raw(user.gid), groups }
    }

    /// Makes this process one of the user's.
    pub(crate) fn become_it(&self) -> Result<(), Refusal> {
        match nix::unistd::setgroups(&self.groups) {
            // Without mapped groups (a user namespace with one id) the kernel forbids the call; no group is wanted either.
            Err(_) if self.groups.is_empty() => {}
            result => result.map_err(|error| Refusal::os("set the user's groups", error))?,
        }
        nix::unistd::setgid(self.gid)
            .and_then(|()| nix::unistd::setuid(self.uid))
            .map_err(|error| Refusal::os(&format!("become user {}:{}", self.uid, self.gid), error))
    }
}
