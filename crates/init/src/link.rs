//! The socket to the agent, descriptor 3: documents in, documents out. It does not know what they mean.
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use vessl_core::frame::{self, Frames};
use vessl_core::record::{InitAsk, InitConfig, InitReport};

/// Number of the descriptor that the agent passes.
const LINK_FD: i32 = 3;

/// The agent is gone or speaks something else: there is nothing left to live for.
#[derive(Debug)]
pub(crate) struct Gone;

/// The socket to the agent.
#[derive(Debug)]
pub(crate) struct Link {
    socket: File,
    frames: Frames,
}

impl Link {
    /// Takes descriptor 3; the script will not inherit it.
    pub(crate) fn inherited() -> Result<Self, Gone> {
        // SAFETY: called once, first thing in the process; descriptor 3 was passed by the agent and nothing else owns it.
        #[allow(unsafe_code)]
        let socket = unsafe { File::from_raw_fd(LINK_FD) };
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|_| Gone)?;
        close_the_rest();
        Ok(Self { socket, frames: Frames::default() })
    }

    /// Waits for the order.
    pub(crate) fn config(&mut self) -> Result<InitConfig, Gone> {
        loop {
            if let Some(config) = self.frames.pop().map_err(|_| Gone)? {
                return Ok(config);
            }
            self.fill()?;
        }
    }

    /// Reads what has arrived (waits if nothing has).
    pub(crate) fn fill(&mut self) -> Result<(), Gone> {
        let mut bytes = [0; 8192];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(Gone),
                Ok(n) => {
                    self.frames.push(&bytes[..n]);
                    return Ok(());
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
    }

    /// The next request that has arrived whole.
    pub(crate) fn ask(&mut self) -> Result<Option<InitAsk>, Gone> {
        self.frames.pop().map_err(|_| Gone)
    }

    /// Tells the agent.
    pub(crate) fn report(&mut self, report: &InitReport) -> Result<(), Gone> {
        let bytes = frame::encode(report).map_err(|_| Gone)?;
        self.socket.write_all(&bytes).map_err(|_| Gone)
    }
}

/// Closes what was inherited by accident, so that the script cannot have it.
fn close_the_rest() {
    // SAFETY: first thing in the process: no object owns a descriptor above the door's.
    #[allow(unsafe_code)]
    unsafe {
        // Kernels before 5.9 do not know the call; then the agent's own care has to do.
        libc::syscall(libc::SYS_close_range, crate::door::DOOR_FD + 1, libc::c_uint::MAX, 0);
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
