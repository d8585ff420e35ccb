//! Text that must not be shown: it has no `Display` and no `Serialize`, its `Debug` is `…`, and its memory is wiped.
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize as _, Serializer};
use subtle::ConstantTimeEq as _;
use zeroize::ZeroizeOnDrop;

/// A secret text. Only [`Secret::expose`] gives it out.
#[derive(Clone, Default, Deserialize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself. It must not reach a log, an error, a file, an argument or the environment of another program.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Takes the same time for all texts of one length.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

/// `serialize_with` of a field that must carry the value, or perhaps one: a request, or a pipe to an agent.
pub fn expose<'s, S: Serializer>(secret: impl Into<Option<&'s Secret>>, to: S) -> Result<S::Ok, S::Error> {
    secret.into().map(Secret::expose).serialize(to)
}

/// Like [`expose`], for values by name.
pub fn expose_all<S: Serializer>(secrets: &BTreeMap<String, Secret>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(secrets.iter().map(|(name, secret)| (name, secret.expose())))
}

/// `serialize_with` of a field that says only that there is a value.
pub fn hide<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{secret:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::from("hunter2");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "… Some(…)");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn secrets_are_compared_by_their_text() {
        assert_eq!(Secret::from("a"), Secret::from("a".to_owned()));
        assert_ne!(Secret::from("a"), Secret::from("b"));
        assert_ne!(Secret::from("a"), Secret::from("ab"));
    }
}
