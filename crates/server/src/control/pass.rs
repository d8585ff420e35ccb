//! What lets a browser at a port of a run: a code that is good once and for a minute, and the pass that it is exchanged for.
//!
//! ```text
//! pass = END "." MAC          MAC = keyed BLAKE3 of run, attempt, nonce, port and END, key derived from `secret.key`
//! ```
//! A code is only in memory. A pass is nowhere here: whoever brings it has kept it.
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use vessl_core::ids::{AttemptId, RunId};
use vessl_data::locked;

use super::{ControlError, Result};
use crate::secrets::Vault;

/// How long a code is good.
pub(super) const CODE_LIFE: Duration = Duration::from_mins(1);
/// How long a pass is good.
pub(crate) const PASS_LIFE: Duration = Duration::from_hours(7 * 24);
/// Most passes of one request that are looked at: a browser may have kept several of one name.
const TRIED: usize = 4;
/// Most codes that wait.
const MOST: usize = 10_000;
/// Random bytes of a code.
const LENGTH: usize = 32;

/// A port of a run, as it is seen inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PortOf {
    /// The run.
    pub(crate) run: RunId,
    /// Its number.
    pub(crate) port: u16,
}

/// Codes that nobody has used yet.
#[derive(Debug, Default)]
pub(super) struct Codes(Mutex<HashMap<String, Code>>);

#[derive(Debug)]
struct Code {
    to: PortOf,
    ends: Timestamp,
}

impl Codes {
    /// A new code to a port, and when it ends.
    pub(super) fn make(&self, to: PortOf, now: Timestamp) -> Result<(String, Timestamp)> {
        let mut random = [0; LENGTH];
        getrandom::fill(&mut random).map_err(|error| ControlError::Random(error.to_string()))?;
        let (code, ends) = (crate::hex(&random), now + CODE_LIFE);
        let mut codes = locked(&self.0);
        codes.retain(|_, code| code.ends > now);
        if codes.len() >= MOST {
            return Err(ControlError::refused("too many links wait to be opened: try again in a minute"));
        }
        codes.insert(code.clone(), Code { to, ends });
        Ok((code, ends))
    }

    /// Whether a code leads to this port. It is used up, whatever is the answer.
    pub(super) fn take(&self, code: &str, to: PortOf, now: Timestamp) -> bool {
        locked(&self.0).remove(code).is_some_and(|code| code.to == to && code.ends > now)
    }
}

/// A pass to a port of an attempt from now on.
pub(super) fn make(vault: &Vault, at: AttemptId, port: u16, now: Timestamp) -> String {
    let ends = (now + PASS_LIFE).as_second();
    format!("{ends}.{}", mac(vault, at, port, ends))
}

/// Whether one of these is a pass to this port of this attempt.
pub(super) fn any_is_good<'p>(
    vault: &Vault,
    passes: impl Iterator<Item = &'p str>,
    (at, port): (AttemptId, u16),
    now: Timestamp,
) -> bool {
    passes.take(TRIED).any(|pass| {
        let Some((ends, given)) = pass.split_once('.') else { return false };
        let (Ok(ends), Ok(given)) = (ends.parse(), blake3::Hash::from_hex(given)) else { return false };
        // Hashes are compared in constant time.
        mac(vault, at, port, ends) == given && ends > now.as_second()
    })
}

fn mac(vault: &Vault, at: AttemptId, port: u16, ends: i64) -> blake3::Hash {
    vault.sign(&format!("{} {} {} {port} {ends}", at.run.0, at.number, at.nonce))
}

#[cfg(test)]
mod tests {
    use vessl_core::ids::Nonce;

    use super::*;

    fn at(run: u64, number: u32, nonce: u64) -> AttemptId {
        AttemptId { run: RunId(run), number, nonce: Nonce(nonce) }
    }

    #[test]
    fn a_pass_is_good_for_one_port_of_one_attempt_for_a_week() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(&dir.path().join("secret.key")).unwrap();
        let other = Vault::open(&dir.path().join("other.key")).unwrap();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let week = Duration::from_hours(7 * 24);
        let pass = make(&vault, at(7, 1, 9), 8501, now);
        let good =
            |vault: &Vault, passes: &[&str], to, now| any_is_good(vault, passes.iter().copied(), to, now);
        let to = (at(7, 1, 9), 8501);
        for (to, later, expected) in [
            (to, Duration::ZERO, true),
            (to, Duration::from_secs(7 * 24 * 3600 - 1), true),
            (to, week, false),
            ((at(7, 1, 9), 8502), Duration::ZERO, false),
            ((at(8, 1, 9), 8501), Duration::ZERO, false),
            ((at(7, 2, 9), 8501), Duration::ZERO, false),
            ((at(7, 1, 8), 8501), Duration::ZERO, false),
        ] {
            assert_eq!(good(&vault, &[&pass], to, now + later), expected, "{to:?} {later:?}");
        }
        assert!(!good(&other, &[&pass], to, now));
        let longer = pass.replacen('1', "9", 1);
        for wrong in ["", ".", "x", &pass[1..], &pass[..pass.len() - 1], &longer] {
            assert!(!good(&vault, &[wrong], to, now), "{wrong}");
        }
        assert!(good(&vault, &["x", "y", "z", &pass], to, now));
        assert!(!good(&vault, &["w", "x", "y", "z", &pass], to, now));
    }

    #[test]
    fn a_code_is_good_once_for_its_port_and_a_minute() {
        let codes = Codes::default();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (to, other) = (PortOf { run: RunId(1), port: 80 }, PortOf { run: RunId(1), port: 81 });
        let (code, ends) = codes.make(to, now).unwrap();
        assert_eq!(ends, now + Duration::from_mins(1));
        assert!(codes.take(&code, to, now));
        assert!(!codes.take(&code, to, now), "twice");
        let (code, ends) = codes.make(to, now).unwrap();
        assert!(!codes.take(&code, to, ends), "late");
        let (code, _) = codes.make(to, now).unwrap();
        assert!(!codes.take(&code, other, now), "elsewhere");
        assert!(!codes.take(&code, to, now), "it was shown to another port");
    }
}
