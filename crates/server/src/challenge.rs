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
use std::net::SocketAddr;

/// Separates these keys from every other use of a token. A new text is a new protocol.
const CONTEXT: &str = "vessl 2026-11 proof of a server to its clients";
/// Most bytes of a nonce.
pub const LONGEST_NONCE: usize = 128;

/// Where a client came in, as both ends know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// A Unix socket.
    Unix,
    /// This address and port. A program of this machine that passes everything on cannot have the very address of the server that
    /// it passes it on to; a forwarded port must have the same one at both ends.
    Tcp(SocketAddr),
}

/// The proof for a nonce: 64 hex digits.
pub fn answer(token: &str, entrance: Entrance, nonce: &str) -> String {
    let key = blake3::derive_key(CONTEXT, token.as_bytes());
    let mut said = match entrance {
        Entrance::Unix => "unix".to_owned(),
        Entrance::Tcp(address) => format!("tcp {address}"),
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
        let at = |address: &str| Entrance::Tcp(address.parse().unwrap());
        let here = at("127.0.0.1:7300");
        let proof = answer("token", here, "n1");
        let check = |token, entrance, nonce, expected| {
            assert_eq!(is_answer(&proof, token, entrance, nonce), expected, "{token} {entrance:?} {nonce}");
        };
        check("token", here, "n1", true);
        check("other", here, "n1", false);
        for other in ["127.0.0.1:7301", "127.0.0.2:7300", "[::1]:7300", "[::ffff:127.0.0.1]:7300"] {
            check("token", at(other), "n1", false);
        }
        check("token", Entrance::Unix, "n1", false);
        check("token", here, "n2", false);
        for wrong in ["", "x", &proof[1..]] {
            assert!(!is_answer(wrong, "token", here, "n1"), "{wrong:?}");
        }
    }
}
