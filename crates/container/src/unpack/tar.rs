//! The entries of a tar stream: ustar, GNU long names, PAX records. Everything is bounded before it is read.
//!
//! Not the `tar` crate's iterator: that reads extension headers of any size into memory and ignores PAX sizes in raw mode.
//! Its field decoders are used.
use std::io::{BufRead, Read, Write};

use super::UnpackError;
use super::decode::read_error;

const BLOCK: usize = 512;
/// Largest extension header (long names, PAX records with extended attributes).
const MAX_EXTENSION: u64 = 1 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry; its content, if it is a file, follows in the stream.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    /// Bytes of content; 0 for everything but files.
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, i64),
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
}

/// What extension headers said about the entry that follows them.
#[derive(Default)]
struct Extensions {
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
}

/// Reader of a tar stream.
pub(crate) struct Tar<R> {
    input: R,
    /// Content of the current entry that was not read yet, and its padding.
    content: u64,
    padding: u64,
}

impl<R: BufRead> Tar<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, content: 0, padding: 0 }
    }

    /// The next entry, after skipping what was not read of the one before.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, UnpackError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_content()?;
            let Some(block) = self.block()? else { return end(&extensions) };
            let header = ::tar::Header::from_byte_slice(&block);
            check_sum(header, &block)?;
            let kind = header.entry_type().as_byte();
            match kind {
                b'L' | b'K' | b'x' | b'g' => self.extension(kind, header, &mut extensions)?,
                _ => {
                    let entry = entry(header, kind, &extensions)?;
                    self.expect(entry.size)?;
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Copies the content of the current entry.
    pub(crate) fn copy(&mut self, to: &mut impl Write) -> Result<(), CopyError> {
        while self.content > 0 {
            let have = self.input.fill_buf().map_err(|e| CopyError::From(read_error(&e)))?;
            if have.is_empty() {
                return Err(CopyError::From(cut_short()));
            }
            let n = have.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
            to.write_all(&have[..n]).map_err(CopyError::To)?;
            self.input.consume(n);
            self.content -= n as u64;
        }
        Ok(())
    }

    fn expect(&mut self, size: u64) -> Result<(), UnpackError> {
        let padded = size.checked_next_multiple_of(BLOCK as u64);
        self.padding =
            padded.ok_or_else(|| UnpackError::Format("an entry has an absurd size".into()))? - size;
        self.content = size;
        Ok(())
    }

    fn skip_content(&mut self) -> Result<(), UnpackError> {
        self.content += std::mem::take(&mut self.padding);
        self.copy(&mut std::io::sink()).map_err(|error| match error {
            CopyError::From(error) => error,
            CopyError::To(_) => cut_short(),
        })
    }

    /// The next header block; `None` at the end, which is a block of zeros or the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, UnpackError> {
        if self.input.fill_buf().map_err(|e| read_error(&e))?.is_empty() {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.read_exact(&mut block)?;
        Ok(block.iter().any(|b| *b != 0).then_some(block))
    }

    fn read_exact(&mut self, to: &mut [u8]) -> Result<(), UnpackError> {
        self.input.read_exact(to).map_err(|e| {
            if e.kind() == std::io::ErrorKind::UnexpectedEof { cut_short() } else { read_error(&e) }
        })
    }

    fn extension(
        &mut self,
        kind: u8,
        header: &::tar::Header,
        to: &mut Extensions,
    ) -> Result<(), UnpackError> {
        let size = header.entry_size().map_err(|e| UnpackError::Format(e.to_string()))?;
        if size > MAX_EXTENSION {
            return Err(UnpackError::Format(format!(
                "an extension header has {size} bytes, more than 1 MiB"
            )));
        }
        self.expect(size)?;
        let mut bytes = Vec::new();
        (&mut self.input).take(size).read_to_end(&mut bytes).map_err(|e| read_error(&e))?;
        if (bytes.len() as u64) < size {
            return Err(cut_short());
        }
        self.content = 0;
        let slot = match kind {
            b'L' => &mut to.long_path,
            b'K' => &mut to.long_link,
            b'x' => &mut to.pax,
            _ => return Ok(()), // a global header: comments of `git archive` and the like
        };
        if kind != b'x' {
            bytes.truncate(bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()));
        }
        if slot.replace(bytes).is_some() {
            return Err(UnpackError::Format("an entry has the same extension header twice".into()));
        }
        Ok(())
    }
}

/// Which side of a copy failed.
pub(crate) enum CopyError {
    From(UnpackError),
    To(std::io::Error),
}

fn end(extensions: &Extensions) -> Result<Option<Entry>, UnpackError> {
    if extensions.long_path.is_some() || extensions.long_link.is_some() || extensions.pax.is_some() {
        return Err(UnpackError::Format("the tar ends after an extension header".into()));
    }
    Ok(None)
}

fn cut_short() -> UnpackError {
    UnpackError::Format("the tar is cut short".into())
}

fn check_sum(header: &::tar::Header, block: &[u8; BLOCK]) -> Result<(), UnpackError> {
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, b)| u32::from(if (148..156).contains(&at) { b' ' } else { *b }))
        .sum();
    if header.cksum().is_ok_and(|said| said == sum) {
        return Ok(());
    }
    Err(UnpackError::Format("it is not a tar: a header has a wrong checksum".into()))
}

fn entry(header: &::tar::Header, kind: u8, extensions: &Extensions) -> Result<Entry, UnpackError> {
    let path = extensions.long_path.clone().unwrap_or_else(|| header.path_bytes().into_owned());
    let link = extensions.long_link.clone();
    let link = link
        .unwrap_or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default());
    let number = |value: std::io::Result<u64>| {
        value.map_err(|e| UnpackError::refused(&path, format!("has a damaged header: {e}")))
    };
    let mut entry = Entry {
        kind: kind_of(kind, &path)?,
        size: number(header.entry_size())?,
        mode: header.mode().unwrap_or(0) & 0o7777,
        uid: id(&path, number(header.uid())?)?,
        gid: id(&path, number(header.gid())?)?,
        mtime: (header.mtime().ok().and_then(|t| i64::try_from(t).ok()).unwrap_or(0), 0),
        device: device(header),
        xattrs: Vec::new(),
        path,
        link,
    };
    if let Some(pax) = &extensions.pax {
        apply_pax(&mut entry, pax)?;
    }
    if entry.kind != Kind::File {
        entry.size = 0;
    }
    Ok(entry)
}

fn kind_of(kind: u8, path: &[u8]) -> Result<Kind, UnpackError> {
    Ok(match kind {
        0 if path.ends_with(b"/") => Kind::Directory,
        b'0' | 0 | b'7' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'S' => {
            return Err(UnpackError::refused(path, "is a GNU sparse file, which images must not contain"));
        }
        other => {
            let reason = format!("has the unknown type `{}`", char::from(other).escape_debug());
            return Err(UnpackError::refused(path, reason));
        }
    })
}

fn id(path: &[u8], value: u64) -> Result<u32, UnpackError> {
    match u32::try_from(value) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(UnpackError::refused(path, format!("has the impossible owner {value}"))),
    }
}

fn device(header: &::tar::Header) -> (u32, u32) {
    let part = |value: std::io::Result<Option<u32>>| value.ok().flatten().unwrap_or(0);
    (part(header.device_major()), part(header.device_minor()))
}

/// Applies the records `LENGTH KEY=VALUE\n` of a PAX header.
fn apply_pax(entry: &mut Entry, pax: &[u8]) -> Result<(), UnpackError> {
    let name = entry.path.clone();
    let damaged = || UnpackError::refused(&name, "has a damaged PAX header");
    let mut seen = std::collections::HashSet::new();
    let mut rest = pax;
    while !rest.is_empty() {
        let (record, after) = split_record(rest).ok_or_else(damaged)?;
        rest = after;
        let at = record.iter().position(|b| *b == b'=').ok_or_else(damaged)?;
        let key = std::str::from_utf8(&record[..at]).map_err(|_| damaged())?;
        if !seen.insert(key) {
            return Err(UnpackError::refused(&name, format!("has `{key}` twice in its PAX header")));
        }
        apply_record(entry, key, &record[at + 1..], &name)?;
    }
    Ok(())
}

fn split_record(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = rest.iter().take(20).position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
    let record = rest.get(space + 1..length)?;
    Some((record.strip_suffix(b"\n")?, &rest[length..]))
}

fn apply_record(entry: &mut Entry, key: &str, value: &[u8], name: &[u8]) -> Result<(), UnpackError> {
    let damaged = || UnpackError::refused(name, format!("has a damaged `{key}` in its PAX header"));
    let text = || std::str::from_utf8(value).map_err(|_| damaged());
    let number = || text()?.parse::<u64>().map_err(|_| damaged());
    match key {
        "path" => value.clone_into(&mut entry.path),
        "linkpath" => value.clone_into(&mut entry.link),
        "size" => entry.size = number()?,
        "uid" => entry.uid = id(name, number()?)?,
        "gid" => entry.gid = id(name, number()?)?,
        "mtime" => entry.mtime = time(text()?).ok_or_else(damaged)?,
        _ if key.starts_with("GNU.sparse.") => {
            return Err(UnpackError::refused(name, "is a sparse file, which images must not contain"));
        }
        _ => {
            if let Some(attribute) = key.strip_prefix("SCHILY.xattr.") {
                entry.xattrs.push((attribute.to_owned(), value.to_owned()));
            }
        }
    }
    Ok(())
}

/// `[-]seconds[.fraction]` as seconds and nanoseconds (0 to 999 999 999).
fn time(text: &str) -> Option<(i64, i64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i64 = digits.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(tar: &[u8]) -> Result<Vec<Entry>, UnpackError> {
        let mut reader = Tar::new(tar);
        let mut all = Vec::new();
        while let Some(entry) = reader.next()? {
            all.push(entry);
        }
        Ok(all)
    }

    fn header(kind: u8, path: &str, size: u64) -> Vec<u8> {
        let mut header = ::tar::Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_entry_type(::tar::EntryType::new(kind));
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(1);
        header.set_gid(2);
        header.set_mtime(3);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn with_content(kind: u8, path: &str, content: &[u8]) -> Vec<u8> {
        let mut tar = header(kind, path, content.len() as u64);
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
        tar
    }

    fn record(key: &str, value: &str) -> String {
        let body = format!(" {key}={value}\n");
        let mut length = body.len() + 1;
        while format!("{length}{body}").len() != length {
            length += 1;
        }
        format!("{length}{body}")
    }

    fn pax(records: &[(&str, &str)], after: &[u8]) -> Vec<u8> {
        let text: String = records.iter().map(|(k, v)| record(k, v)).collect();
        [with_content(b'x', "pax", text.as_bytes()), after.to_vec()].concat()
    }

    #[test]
    fn extension_headers_override_the_plain_one() {
        let long = "d/".repeat(120) + "name";
        let file = with_content(b'0', "short", b"abc");
        let gnu = [with_content(b'L', "x", format!("{long}\0").as_bytes()), file.clone()].concat();
        assert_eq!(list(&gnu).unwrap()[0].path, long.as_bytes());
        let records =
            [("path", long.as_str()), ("mtime", "-1.5"), ("uid", "70000"), ("SCHILY.xattr.user.a", "b=c\n")];
        let entry = &list(&pax(&records, &file)).unwrap()[0];
        assert_eq!((entry.path.as_slice(), entry.uid, entry.gid, entry.size), (long.as_bytes(), 70000, 2, 3));
        assert_eq!(entry.mtime, (-2, 500_000_000));
        assert_eq!(entry.xattrs, [("user.a".to_owned(), b"b=c\n".to_vec())]);
        let big =
            [with_content(b'x', "p", record("size", "3").as_bytes()), header(b'0', "f", 0), b"abc".to_vec()];
        assert_eq!(list(&[big.concat(), vec![0; 509]].concat()).unwrap()[0].size, 3);
    }

    #[test]
    fn content_is_copied_and_skipped_with_its_padding() {
        let tar =
            [with_content(b'0', "a", &[1; 700]), with_content(b'0', "b", b"two"), vec![0; 1024]].concat();
        let mut reader = Tar::new(tar.as_slice());
        reader.next().unwrap();
        reader.next().unwrap();
        let mut content = Vec::new();
        assert!(reader.copy(&mut content).is_ok());
        assert_eq!(content, b"two");
        assert!(reader.next().unwrap().is_none());
    }

    fn refused(tar: &[u8], reason: &str) {
        let error = list(tar).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn what_is_not_an_honest_tar_is_refused() {
        let file = with_content(b'0', "f", b"x");
        refused(&[7; 512], "wrong checksum");
        refused(&file[..700], "cut short");
        refused(&file[..100], "cut short");
        refused(&with_content(b'S', "f", b""), "sparse");
        refused(&pax(&[("GNU.sparse.major", "1")], &file), "sparse");
        refused(&with_content(b'Z', "f", b""), "unknown type `Z`");
        refused(&header(b'x', "p", 2 << 20), "more than 1 MiB");
        refused(&pax(&[("path", "a")], &pax(&[("path", "b")], &file)), "header twice");
        refused(&pax(&[("path", "a"), ("path", "b")], &file), "`path` twice");
        refused(&pax(&[("uid", "99999999999")], &file), "impossible owner");
        refused(&pax(&[("uid", "-1")], &file), "damaged `uid`");
        refused(&[with_content(b'x', "p", b"9999 path=a\n"), file.clone()].concat(), "damaged PAX");
        refused(&pax(&[("path", "a")], &[]), "ends after an extension");
        refused(&pax(&[("size", "18446744073709551615")], &file), "absurd size");
    }

    #[test]
    fn times_have_fractions_and_signs() {
        for (text, expected) in [
            ("0", Some((0, 0))),
            ("1700000000.25", Some((1_700_000_000, 250_000_000))),
            ("-1.5", Some((-2, 500_000_000))),
            ("1.1234567899", Some((1, 123_456_789))),
            ("x", None),
            ("1.x", None),
            ("", None),
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
    }
}
