//! Secret values in text: found and replaced, also when a value is cut by the end of a read. It never prints or keeps a
//! value anywhere but in its own pattern.
use std::fmt;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use vessl_core::credential::{CredentialKind, service_account_key};
use vessl_core::record::{Login, Secrets};
use vessl_core::secret::Secret;
use vessl_data::git::TOKEN_USER;

/// What stands in the log instead of a value.
const SHOWN: &str = "***";
/// Shorter values would mask ordinary text, in bytes.
pub(crate) const SHORTEST: usize = 4;
/// Lines of a value of many lines are values themselves from this length on, in bytes.
const SHORTEST_LINE: usize = 8;

/// The values to hide. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Mask {
    patterns: Arc<Patterns>,
}

struct Patterns {
    values: Vec<Vec<u8>>,
    finder: Option<Finder>,
}

struct Finder(AhoCorasick);

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mask(..)")
    }
}

impl Mask {
    /// Hides every value of `secrets`. The second part names the variables whose values are too short to be hidden.
    pub(crate) fn new(secrets: &Secrets) -> (Self, Vec<String>) {
        let mut short = Vec::new();
        let mut values = Vec::new();
        for (key, value) in &secrets.env {
            let value = value.expose();
            if value.trim().len() < SHORTEST {
                short.push(key.clone());
            } else {
                add(&mut values, value);
            }
        }
        for (credential, login) in &secrets.credentials {
            // Of the rest of that JSON much is ordinary text.
            let account =
                (credential.kind == CredentialKind::Gcs).then(|| service_account_key(&login.password));
            match account.flatten() {
                Some(key) => add(&mut values, key.expose()),
                None if login.password.expose().trim().len() >= SHORTEST => add_login(&mut values, login),
                None => {}
            }
            login.session_token.iter().for_each(|token| add(&mut values, token.expose()));
        }
        (Self::of(values), short)
    }

    /// Hides this value too.
    pub(crate) fn and(&self, value: &Secret) -> Self {
        let mut values = self.patterns.values.clone();
        add(&mut values, value.expose());
        Self::of(values)
    }

    fn of(mut values: Vec<Vec<u8>>) -> Self {
        values.sort_unstable();
        values.dedup();
        let finder = AhoCorasick::new(&values);
        // The builder refuses only more states than a run's secrets can make; nothing unmasked may pass then either.
        let finder = (!values.is_empty())
            .then(|| Finder(finder.expect("secrets are far below the automaton's limits")));
        Self { patterns: Arc::new(Patterns { values, finder }) }
    }

    /// `text` with every value replaced.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut stream = self.stream();
        let mut out = Vec::new();
        let mut shown = stream.feed(text.as_bytes(), &mut out).to_vec();
        shown.extend(stream.finish());
        // A value is whole characters, so what is left is.
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// A stream of bytes to be masked piece by piece.
    pub(crate) fn stream(&self) -> MaskStream {
        MaskStream { mask: self.clone(), held: Vec::new(), hidden: 0 }
    }
}

/// One stream being masked. Bytes that may be the beginning of a value wait for what follows.
pub(crate) struct MaskStream {
    mask: Mask,
    held: Vec<u8>,
    /// The first bytes of `held` that a value covers which was replaced already.
    hidden: usize,
}

impl fmt::Debug for MaskStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskStream(..)")
    }
}

impl MaskStream {
    /// Takes bytes in and hands out what is certain: `bytes` themselves where nothing has to be hidden.
    pub(crate) fn feed<'a>(&mut self, bytes: &'a [u8], out: &'a mut Vec<u8>) -> &'a [u8] {
        let Some(finder) = &self.mask.patterns.finder else {
            return bytes;
        };
        let joined;
        let text = if self.held.is_empty() {
            bytes
        } else {
            joined = [&std::mem::take(&mut self.held), bytes].concat();
            &joined
        };
        let certain = text.len() - self.mask.patterns.open_end(text);
        out.clear();
        let hidden = finder.hide(text, (self.hidden, certain), out);
        self.hidden = hidden - certain;
        self.held = text[certain..].to_vec();
        out
    }

    /// What still waits, now that nothing follows: a value may stand in it that could have been a longer one.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        let hidden = std::mem::take(&mut self.hidden);
        let Some(finder) = &self.mask.patterns.finder else { return held };
        let mut out = Vec::new();
        finder.hide(&held, (hidden, held.len()), &mut out);
        out
    }
}

impl Finder {
    /// Appends `text` up to `certain` with one replacement for each stretch that values cover; its first `hidden` bytes
    /// were replaced already. How far what was replaced reaches, at least `certain`.
    fn hide(&self, text: &[u8], (mut hidden, certain): (usize, usize), out: &mut Vec<u8>) -> usize {
        let mut done = hidden;
        for (start, end) in self.places(text).into_iter().filter(|place| place.0 < certain) {
            if start >= hidden {
                out.extend_from_slice(&text[done..start]);
                out.extend_from_slice(SHOWN.as_bytes());
            }
            hidden = hidden.max(end);
            done = hidden;
        }
        if let Some(rest) = text.get(done..certain) {
            out.extend_from_slice(rest);
        }
        hidden.max(certain)
    }

    /// Where values stand, also where they overlap, by their beginning.
    fn places(&self, text: &[u8]) -> Vec<(usize, usize)> {
        // The search for one is much faster than the one for all.
        if !self.0.is_match(text) {
            return Vec::new();
        }
        let mut places: Vec<_> = self.0.find_overlapping_iter(text).map(|m| (m.start(), m.end())).collect();
        places.sort_unstable();
        places
    }
}

impl Patterns {
    /// Length of the longest end of `text` that is the beginning (not the whole) of a value.
    fn open_end(&self, text: &[u8]) -> usize {
        let open = |value: &Vec<u8>| {
            let longest = (value.len() - 1).min(text.len());
            (1..=longest).rev().find(|&n| text.ends_with(&value[..n]))
        };
        self.values.iter().filter_map(open).max().unwrap_or(0)
    }
}

/// A value counts as it is, without the newlines around it, and line by line if it has several.
fn add(values: &mut Vec<Vec<u8>>, value: &str) {
    let value = value.trim_matches(['\r', '\n']);
    values.push(value.as_bytes().to_vec());
    if value.contains('\n') {
        let lines = value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE);
        values.extend(lines.map(|line| line.as_bytes().to_vec()));
    }
}

/// A password counts alone, and with its user as it goes over the network: whoever gets it there may say it again.
fn add_login(values: &mut Vec<Vec<u8>>, login: &Login) {
    let password = login.password.expose();
    add(values, password);
    let password = password.trim_end_matches(['\r', '\n']);
    // A private key never goes there.
    if password.contains('\n') {
        return;
    }
    let users = if login.username.is_empty() { vec!["", TOKEN_USER] } else { vec![login.username.as_str()] };
    for pair in users.iter().map(|user| format!("{user}:{password}")) {
        let forms = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
        values.extend(forms.map(|form| form.encode(&pair).into_bytes()));
        values.push(pair.into_bytes());
    }
}

#[cfg(test)]
mod tests {
    use vessl_core::credential::{CredentialKind, CredentialRef};

    use super::*;

    fn mask(values: &[&str]) -> Mask {
        let env = values.iter().enumerate().map(|(i, value)| (format!("S{i}"), (*value).into())).collect();
        Mask::new(&Secrets { env, ..Secrets::default() }).0
    }

    /// Every cut of the text gives the same masked text.
    fn check(values: &[&str], text: &str, expected: &str) {
        let mask = mask(values);
        assert_eq!(mask.text(text), expected);
        for size in 1..=text.len() {
            let mut stream = mask.stream();
            let (mut got, mut out) = (Vec::new(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                got.extend_from_slice(stream.feed(piece, &mut out));
            }
            got.extend(stream.finish());
            assert_eq!(String::from_utf8_lossy(&got), expected, "pieces of {size} bytes");
        }
    }

    #[test]
    fn values_are_hidden_wherever_they_are_cut() {
        check(
            &["hunter2"],
            "the word is hunter2, hunter, hunter2hunter2.",
            "the word is ***, hunter, ******.",
        );
        check(&["abab"], "abababab ab", "*** ab");
        check(&["abcd", "abcdef"], "abcdef abcdeg abcd", "*** ***eg ***");
        check(&["xyabc", "abcq1"], "xyabcq1 xyab abcq1", "*** xyab ***");
        check(&["wxyz"], "wxy", "wxy");
        check(&[], "anything", "anything");
    }

    #[test]
    fn no_byte_of_any_value_is_shown() {
        let values = ["abab", "babb", "aabba"];
        for number in 0..1 << 12 {
            let text: Vec<u8> = (0..12).map(|bit| if number >> bit & 1 == 1 { b'a' } else { b'b' }).collect();
            let mut places: Vec<(usize, usize)> = Vec::new();
            for start in 0..text.len() {
                let found = values.iter().filter(|value| text[start..].starts_with(value.as_bytes()));
                let Some(end) = found.map(|value| start + value.len()).max() else { continue };
                match places.last_mut() {
                    Some(last) if start < last.1 => last.1 = last.1.max(end),
                    _ => places.push((start, end)),
                }
            }
            let (mut expected, mut done) = (String::new(), 0);
            for (start, end) in places {
                expected += std::str::from_utf8(&text[done..start]).unwrap();
                expected += SHOWN;
                done = end;
            }
            expected += std::str::from_utf8(&text[done..]).unwrap();
            check(&values, std::str::from_utf8(&text).unwrap(), &expected);
        }
    }

    #[test]
    fn a_value_of_many_lines_is_hidden_line_by_line() {
        let key = "-----BEGIN-----\nMIIEpAIBAAKC\nab\n-----END-----\n";
        check(&[key], "x -----BEGIN-----\r\nMIIEpAIBAAKC\r\nab\r\n", "x ***\r\n***\r\nab\r\n");
        check(&[key], &format!("{key}."), "***\n.");
    }

    #[test]
    fn a_newline_around_a_value_does_not_matter() {
        check(&["token-1\n"], "token-1;", "***;");
    }

    #[test]
    fn short_values_are_named_and_not_hidden() {
        let env = [("A", "abc"), ("B", "abcd"), ("C", ""), ("D", " x \n")];
        let env = env.map(|(key, value)| (key.to_owned(), value.into())).into();
        let (mask, short) = Mask::new(&Secrets { env, ..Secrets::default() });
        assert_eq!(short, ["A", "C", "D"]);
        assert_eq!(mask.text("abc abcd"), "abc ***");
    }

    #[test]
    fn a_login_is_hidden_in_every_form_that_it_is_sent_in() {
        let hidden = |username: &str, password: &str, text: &str| {
            let login =
                Login { username: username.to_owned(), password: password.into(), ..Login::default() };
            [CredentialKind::Registry, CredentialKind::Git].map(|kind| {
                let credential = CredentialRef { kind, name: "name".into() };
                let secrets =
                    Secrets { credentials: [(credential, login.clone())].into(), ..Secrets::default() };
                Mask::new(&secrets).0.text(text)
            })
        };
        let check = |username, password, text, expected: &str| {
            assert_eq!(hidden(username, password, text), [expected, expected], "{text}");
        };
        check(
            "me",
            "s3cret",
            "https://me:s3cret@host wants me and s3cret",
            "https://***@host wants me and ***",
        );
        check("bobby", "hunter>~~?", "Basic Ym9iYnk6aHVudGVyPn5+Pw== or", "Basic *** or");
        check("bobby", "hunter>~~?", "Ym9iYnk6aHVudGVyPn5+Pw.Ym9iYnk6aHVudGVyPn5-Pw.", "***.***.");
        check("bobby", "hunter>~~?\n", "Ym9iYnk6aHVudGVyPn5-Pw==;", "***;");
        check("", "s3cretw0rd", "eC1hY2Nlc3MtdG9rZW46czNjcmV0dzByZA==", "***");
        check("", "s3cretw0rd", "OnMzY3JldHcwcmQ= x-access-token", "*** x-access-token");
    }

    #[test]
    fn of_a_service_account_the_key_is_hidden() {
        let json = r#"{"type": "service_account", "client_email": "a@b", "private_key": "-----BEGIN-----\nMIIEvQIBADAN\n"}"#;
        let credential = CredentialRef { kind: CredentialKind::Gcs, name: "name".into() };
        let login = Login { password: json.into(), ..Login::default() };
        let token = Login {
            password: "secret-key".into(),
            session_token: Some("s3ssion".into()),
            ..Login::default()
        };
        let keys = CredentialRef { kind: CredentialKind::S3, name: "name".into() };
        let secrets =
            Secrets { credentials: [(credential, login), (keys, token)].into(), ..Secrets::default() };
        let text = "service_account a@b MIIEvQIBADAN s3ssion secret-key";
        assert_eq!(Mask::new(&secrets).0.text(text), "service_account a@b *** *** ***");
    }

    #[test]
    fn nothing_of_a_value_is_in_debug_output() {
        let mut stream = mask(&["hunter2"]).stream();
        let mut out = Vec::new();
        assert_eq!(stream.feed(b"hunt", &mut out), b"");
        assert_eq!(format!("{stream:?} {:?}", mask(&["hunter2"])), "MaskStream(..) Mask(..)");
    }
}
