//! How a server proves that it is the one a token belongs to, before a client sends it the token or anything else.
//!
//! ```text
//! client ── nonce ──────────────────────────────────────────▶ server
//! client ◀── keyed BLAKE3 of nonce and entrance, key: token ── server
//! ```
//! The token itself never travels for it, and the answer is good for one nonce and one entrance alone: a program that took
//! the place of a stopped server cannot answer, nor pass the question on to a server that listens elsewhere. Whoever
//! answered is at the other end of the very connection that the client goes on to use.
use std::fmt::Write as _;

/// Separates these keys from every other use of a token. A new text is a new protocol.
const CONTEXT: &str = "vessl 2026-11 proof of a server to its clients";
/// Most bytes of a nonce.
pub const LONGEST_NONCE: usize = 128;

/// Where a client came in, as both ends know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// A Unix socket.
    Unix,
    /// This TCP port; a forwarded one must have the same number at both ends.
    Tcp(u16),
}

/// The proof for a nonce: 64 hex digits.
pub fn answer(token: &str, entrance: Entrance, nonce: &str) -> String {
    let key = blake3::derive_key(CONTEXT, token.as_bytes());
    let mut said = match entrance {
        Entrance::Unix => "unix".to_owned(),
        Entrance::Tcp(port) => format!("tcp {port}"),
    };
    // Writing to memory cannot fail.
    let _ = write!(said, " {nonce}");
    blake3::keyed_hash(&key, said.as_bytes()).to_string()
}

/// Whether `proof` is the answer. Takes the same time whatever it is.
pub fn is_answer(proof: &str, token: &str, entrance: Entrance, nonce: &str) -> bool {
    let Ok(proof) = blake3::Hash::from_hex(proof) else { return false };
    blake3::Hash::from_hex(answer(token, entrance, nonce)).is_ok_and(|expected| expected == proof)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_good_for_one_token_entrance_and_nonce() {
        let proof = answer("token", Entrance::Tcp(7300), "n1");
        let check = |token, entrance, nonce, expected| {
            assert_eq!(is_answer(&proof, token, entrance, nonce), expected, "{token} {entrance:?} {nonce}");
        };
        check("token", Entrance::Tcp(7300), "n1", true);
        check("other", Entrance::Tcp(7300), "n1", false);
        check("token", Entrance::Tcp(7301), "n1", false);
        check("token", Entrance::Unix, "n1", false);
        check("token", Entrance::Tcp(7300), "n2", false);
        for wrong in ["", "x", &proof[1..]] {
            assert!(!is_answer(wrong, "token", Entrance::Tcp(7300), "n1"), "{wrong:?}");
        }
    }
}
