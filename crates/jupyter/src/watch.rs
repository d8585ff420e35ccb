//! Whether JupyterLab is used: what its kernels and terminals say, and never that somebody asks, because a page that is only open asks
//! without end.
use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use vessl_core::secret::Secret;
use vessl_reach::door::DoorError;

use crate::http;

/// Without this a look at the kernels would itself count as their use.
const KERNELS: &str = "/api/kernels?no_track_activity=1";
const TERMINALS: &str = "/api/terminals?no_track_activity=1";

#[derive(Clone, Debug, Deserialize)]
struct Kernel {
    id: String,
    #[serde(default)]
    execution_state: String,
    #[serde(default)]
    last_activity: String,
    #[serde(default)]
    connections: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Terminal {
    name: String,
    #[serde(default)]
    last_activity: String,
}

/// What was seen at the last look: the last activity of each kernel and terminal.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    last: HashMap<String, String>,
}

impl Seen {
    /// Looks again: whether somebody, or what he started, has worked since the last look.
    pub(crate) async fn look(&mut self, dir: &Path, token: &Secret) -> Result<bool, DoorError> {
        let (kernels, terminals) = (list(dir, KERNELS, token).await?, list(dir, TERMINALS, token).await?);
        Ok(self.compare(kernels, terminals))
    }

    fn compare(&mut self, kernels: Vec<Kernel>, terminals: Vec<Terminal>) -> bool {
        let mut now = HashMap::new();
        let mut used = false;
        for kernel in kernels {
            // One that nobody is connected to says that it starts for ever; but what works, works.
            let busy = kernel.execution_state == "busy";
            let key = format!("kernel {}", kernel.id);
            used |= busy || kernel.connections > 0 && self.moved(&key, &kernel.last_activity);
            now.insert(key, kernel.last_activity);
        }
        for terminal in terminals {
            let key = format!("terminal {}", terminal.name);
            used |= self.moved(&key, &terminal.last_activity);
            now.insert(key, terminal.last_activity);
        }
        self.last = now;
        used
    }

    fn moved(&self, key: &str, at: &str) -> bool {
        self.last.get(key).is_none_or(|before| before != at)
    }
}

async fn list<T: for<'de> Deserialize<'de>>(
    dir: &Path,
    path: &str,
    token: &Secret,
) -> Result<Vec<T>, DoorError> {
    let (_, body) = http::get(dir, path, Some(token)).await?;
    // One that has no terminals says so with an error, which is no list.
    Ok(serde_json::from_slice(&body).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(state: &str, at: &str, connections: u64) -> Vec<Kernel> {
        let text = |text: &str| text.to_owned();
        vec![Kernel { id: text("k"), execution_state: text(state), last_activity: text(at), connections }]
    }

    fn terminal(at: &str) -> Vec<Terminal> {
        vec![Terminal { name: "1".to_owned(), last_activity: at.to_owned() }]
    }

    #[test]
    fn work_counts_and_presence_does_not() {
        let mut seen = Seen::default();
        assert!(!seen.compare(Vec::new(), Vec::new()));
        // Somebody opened a notebook and left it open.
        assert!(seen.compare(kernel("idle", "1", 1), Vec::new()));
        assert!(!seen.compare(kernel("idle", "1", 1), Vec::new()));
        // A long cell, with and without its page.
        assert!(seen.compare(kernel("busy", "1", 1), Vec::new()));
        assert!(seen.compare(kernel("busy", "1", 0), Vec::new()));
        assert!(seen.compare(kernel("idle", "2", 1), Vec::new()));
        // Keys in a terminal.
        assert!(seen.compare(kernel("idle", "2", 1), terminal("1")));
        assert!(!seen.compare(kernel("idle", "2", 1), terminal("1")));
        assert!(seen.compare(kernel("idle", "2", 1), terminal("2")));
        assert!(!seen.compare(Vec::new(), Vec::new()));
    }

    #[test]
    fn a_kernel_that_nobody_is_connected_to_is_not_used() {
        let mut seen = Seen::default();
        assert!(!seen.compare(kernel("starting", "1", 0), Vec::new()));
        assert!(!seen.compare(kernel("starting", "2", 0), Vec::new()));
    }
}
