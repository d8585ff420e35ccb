//! The user of a program: its numbers, and becoming it.
use std::io;

use nix::unistd::{Gid, Uid, getgroups, setfsgid, setfsuid, setgroups};
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

    /// Does something with files as this user may, and no more: what is made is the user's. For an instant the whole process looks so to
    /// the file system, which is why this must not be called where there is a second thread.
    pub(crate) fn with_files<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let groups = getgroups()?;
        self.set_groups()?;
        let (uid, gid) = (setfsuid(self.uid), setfsgid(self.gid));
        // The calls tell of no failure; a second one tells who it is.
        let is_it = setfsuid(self.uid) == self.uid && setfsgid(self.gid) == self.gid;
        let done = if is_it { work() } else { Err(io::ErrorKind::PermissionDenied.into()) };
        setfsuid(uid);
        setfsgid(gid);
        if !self.groups.is_empty() || !groups.is_empty() {
            // Where groups cannot be set, they were not set before either.
            let _ = setgroups(&groups);
        }
        done
    }

    fn set_groups(&self) -> nix::Result<()> {
        match setgroups(&self.groups) {
            // Without mapped groups (a user namespace with one id) the kernel forbids the call; no group is wanted either.
            Err(_) if self.groups.is_empty() => Ok(()),
            result => result,
        }
    }

    /// Makes this process one of the user's.
    pub(crate) fn become_it(&self) -> Result<(), Refusal> {
        self.set_groups().map_err(|error| Refusal::os("set the user's groups", error))?;
        nix::unistd::setgid(self.gid)
            .and_then(|()| nix::unistd::setuid(self.uid))
            .map_err(|error| Refusal::os(&format!("become user {}:{}", self.uid, self.gid), error))
    }
}
