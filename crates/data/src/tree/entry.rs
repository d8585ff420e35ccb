//! One line of a manifest.
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{DIR_MODE, FILE_MODE, MAX_NAME, MAX_PATH};
use crate::blob::Digest;
use crate::dir::Modified;

/// One file, directory or symbolic link of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative path; in a line of the directory itself it is empty.
    pub path: PathBuf,
    /// What is there.
    pub kind: Kind,
    /// When it was last modified; not known of what was stored as version 1.
    pub modified: Option<Modified>,
}

/// How entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Without.
    One,
    /// With times and packed files.
    Two,
    /// With files in chunks too.
    Three,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Bytes.
        size: u64,
        /// Its content, as it is stored.
        digest: Digest,
        /// How it is stored.
        form: Form,
    },
    /// A directory.
    Dir {
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points; any bytes but NUL, never followed here.
        target: PathBuf,
    },
}

/// How a file is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Plain,
    /// Packed, because it has holes ([`crate::sparse`]).
    Packed,
    /// In chunks, because it is large ([`crate::chunks`]); the digest is that of its recipe.
    Chunks,
}

impl Form {
    fn letter(self) -> char {
        match self {
            Self::Plain => 'f',
            Self::Packed => 's',
            Self::Chunks => 'c',
        }
    }

    fn of_letter(letter: &str) -> Option<Self> {
        [Self::Plain, Self::Packed, Self::Chunks].into_iter().find(|form| letter.chars().eq([form.letter()]))
    }
}

impl Entry {
    pub(super) fn bytes(&self) -> &[u8] {
        bytes(&self.path)
    }

    /// Appends the line.
    pub(super) fn print(&self, format: Format, out: &mut Vec<u8>) {
        match &self.kind {
            Kind::File { mode, size, digest, form } => {
                let letter = form.letter();
                out.extend_from_slice(format!("{letter} {mode:o} {size} {digest} ").as_bytes());
            }
            Kind::Dir { mode } => out.extend_from_slice(format!("d {mode:o} - - ").as_bytes()),
            Kind::Symlink { target } => {
                out.extend_from_slice(b"l - - ");
                escape(bytes(target), out);
                out.push(b' ');
            }
        }
        if format != Format::One {
            let time = match self.modified {
                None => "- ".to_owned(),
                Some(Modified { seconds, nanos: 0 }) => format!("{seconds} "),
                Some(Modified { seconds, nanos }) => format!("{seconds}.{nanos:09} "),
            };
            out.extend_from_slice(time.as_bytes());
        }
        if self.path.as_os_str().is_empty() {
            out.push(b'.');
        }
        escape(self.bytes(), out);
        out.push(b'\n');
    }

    /// Reads a line without its newline; `None` unless it is written exactly as [`Entry::print`] does.
    pub(super) fn parse(line: &[u8], format: Format) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        let mut words = text.split(' ');
        let (kind, mode, size, what) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let modified = match format {
            Format::One => None,
            Format::Two | Format::Three => time(words.next()?).ok()?,
        };
        let octal = || u32::from_str_radix(mode, 8).ok();
        let kind = match kind {
            "d" => Kind::Dir { mode: octal()? },
            "l" => Kind::Symlink { target: unescape(what)? },
            letter => Kind::File {
                mode: octal()?,
                size: size.parse().ok()?,
                digest: what.parse().ok()?,
                form: Form::of_letter(letter)?,
            },
        };
        let path = words.next().map(|path| if path == "." { "" } else { path })?;
        let entry = Self { path: unescape(path)?, kind, modified };
        let mut printed = Vec::with_capacity(line.len() + 1);
        entry.print(format, &mut printed);
        printed.pop();
        (printed == line).then_some(entry)
    }

    /// Whether an entry can have this path.
    pub fn is_path(path: &Path) -> bool {
        let path = bytes(path);
        let part = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && name.len() <= MAX_NAME;
        path.len() <= MAX_PATH && !path.contains(&0) && path.split(|b| *b == b'/').all(part)
    }

    /// Whether the entry by itself could be written to a file system.
    pub(super) fn is_valid(&self) -> bool {
        let rest = match &self.kind {
            Kind::File { mode, .. } => mode & !FILE_MODE == 0,
            Kind::Dir { mode } => mode & !DIR_MODE == 0,
            Kind::Symlink { target } => {
                let target = bytes(target);
                !target.is_empty() && target.len() <= MAX_PATH && !target.contains(&0)
            }
        };
        let time = self.modified.is_none_or(|at| at.nanos < 1_000_000_000);
        time && Self::is_path(&self.path) && rest
    }
}

pub(super) fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// A time as a line has it: nothing, seconds, or seconds with nine digits behind the point.
fn time(word: &str) -> Result<Option<Modified>, std::num::ParseIntError> {
    if word == "-" {
        return Ok(None);
    }
    let (seconds, nanos) = word.split_once('.').unwrap_or((word, "0"));
    Ok(Some(Modified { seconds: seconds.parse()?, nanos: nanos.parse()? }))
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

fn unescape(text: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |b: Option<u8>| char::from(b?).to_digit(16);
            let value = digit(rest.next())? * 16 + digit(rest.next())?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}
