//! The terminal of whoever calls: its size, and every key as it is while a session lasts.
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use vessl_core::door::TerminalSize;

use crate::error::{Error, Result};

/// Size of the terminal at standard input; a usual one if it does not say.
pub(super) fn size() -> TerminalSize {
    match tcgetwinsize(std::io::stdin()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            TerminalSize { rows: size.ws_row, columns: size.ws_col }
        }
        _ => TerminalSize { rows: 24, columns: 80 },
    }
}

/// While this lives, standard input gives every key as it is.
#[derive(Debug)]
pub(super) struct Raw(Termios);

impl Raw {
    /// Changes the terminal.
    pub(super) fn begin() -> Result<Self> {
        let failed = |error: rustix::io::Errno| Error::os("change the terminal")(error.into());
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Drain, &raw).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.0);
    }
}
