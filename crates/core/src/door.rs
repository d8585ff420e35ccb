//! What crosses `door.sock`: how somebody outside reaches into a run. Init listens there; whoever may open the run directory may ask.
//!
//! ```text
//! one connection, one ask                          what comes with the answer (SCM_RIGHTS)
//! Exec      a program beside the commands          Open: [terminal], or [standard input, output, error]
//! Dial      a connection made inside the run       Open: [the connected socket]
//! Listen    a socket that listens inside the run   Open: [the listening socket]
//!           it cannot be done                      Refused
//! after an Exec: Signal → init, Ended ← init; who closes the connection has hung up
//! ```
//! Every document has its length before it ([`crate::frame`]). Init copies no byte of what goes through the descriptors.
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::secret::{Secret, expose};

/// Name of the socket in the run directory.
pub const SOCKET: &str = "door.sock";
/// Most connections at a time whose ask is not answered.
pub const MOST: usize = 64;

/// What is asked of init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum DoorAsk {
    /// Start a program.
    Exec(Exec),
    /// Connect to something that listens inside.
    Dial {
        /// What.
        to: Target,
    },
    /// Listen inside.
    Listen {
        /// Where.
        at: Target,
    },
    /// Send a signal to the program of this connection and to those of its session.
    Signal {
        /// Signal number.
        signal: i32,
    },
}

/// A program that is started beside the commands, with their capabilities, limits and view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments; the program is searched in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// Its whole environment as `KEY=VALUE`. The values of the run's secrets are among them.
    pub env: Vec<Variable>,
    /// `user[:group]`, names or numbers of the image; absent: the run's user. Another user's `HOME` is its own.
    pub user: Option<String>,
    /// Where it starts.
    pub workdir: String,
    /// With a terminal of this size; without one it has three pipes.
    pub terminal: Option<TerminalSize>,
    /// Whether its session gets SIGHUP when the connection is closed. The programs of a terminal get it in any case, from the kernel.
    pub hang_up: bool,
}

/// One `KEY=VALUE`, which may be a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Variable(#[serde(serialize_with = "expose")] Secret);

impl Variable {
    /// The text.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What stands before the first `=`.
    pub fn key(&self) -> &str {
        self.expose().split('=').next().unwrap_or_default()
    }
}

impl From<String> for Variable {
    fn from(pair: String) -> Self {
        Self(pair.into())
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.key())
    }
}

/// Sets a variable in a list of them.
pub fn set(env: &mut Vec<Variable>, key: &str, value: &str) {
    let pair = Variable::from(format!("{key}={value}"));
    match env.iter_mut().find(|known| known.key() == key) {
        Some(known) => *known = pair,
        None => env.push(pair),
    }
}

/// Something to connect to or to listen at, as seen inside the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A TCP port of the loopback addresses, the one of version 4 first.
    Port(u16),
    /// A TCP port of any address.
    Address(std::net::SocketAddr),
    /// A unix socket.
    Path(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port}"),
            Self::Address(address) => address.fmt(f),
            Self::Path(path) => write!(f, "`{path}`"),
        }
    }
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// What init answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "say")]
pub enum DoorReply {
    /// Done; the descriptors come with it.
    Open,
    /// Not done.
    Refused {
        /// In words.
        why: String,
        /// What kind of reason it is.
        because: Refused,
    },
    /// The program has ended.
    Ended {
        /// Exit code, 128+n for a signal.
        exit_code: i32,
    },
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// The program cannot be run; the exit code that a shell gives: 126 or 127.
    Program(i32),
    /// Nothing listens there.
    Nobody,
    /// The ask makes no sense, or the system says no.
    Failed,
}

/// What the agent of a run knows of it that a session needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// The environment of the commands.
    pub env: Vec<Variable>,
    /// Where they started.
    pub workdir: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variables_are_not_shown() {
        let mut env = vec![Variable::from("TOKEN=hunter2".to_owned()), Variable::from("A=1".to_owned())];
        set(&mut env, "A", "2");
        set(&mut env, "B", "x=y");
        assert_eq!(format!("{env:?}"), "[TOKEN=…, A=…, B=…]");
        let texts: Vec<&str> = env.iter().map(Variable::expose).collect();
        assert_eq!(texts, ["TOKEN=hunter2", "A=2", "B=x=y"]);
        let text = serde_json::to_string(&env).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Variable>>(&text).unwrap(), env);
    }
}
