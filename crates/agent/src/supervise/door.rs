//! The socket on which init answers whoever reaches into the container. The agent makes it, because init has no view of the run
//! directory, and hands it on.
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use vessl_core::door::{SOCKET, Surroundings};
use vessl_core::record::InitConfig;

use crate::record::run_dir::{RunDir, remove_any};

/// Makes it: for nobody but the owner of the run directory.
pub(crate) fn listen(dir: &RunDir) -> io::Result<OwnedFd> {
    // The address of a socket has 108 bytes; a run directory may be deeper than that.
    let address = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", dir.as_fd().as_raw_fd()));
    remove_any(&address)?;
    let listener = UnixListener::bind(&address)?;
    std::fs::set_permissions(&address, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener.into())
}

/// What a program needs that is started beside the commands of an order.
pub(crate) fn surroundings(config: &InitConfig) -> Surroundings {
    let env = config.env.iter().cloned().map(Into::into).collect();
    Surroundings { env, workdir: config.workdir.clone() }
}
