//! A client that speaks by hand.
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

/// What a client writes.
#[derive(Default)]
struct Says(Vec<u8>);

impl Says {
    fn packet(mut self, kind: u8, id: u32, parts: &[&[u8]]) -> Self {
        let body: usize = parts.iter().map(|part| part.len()).sum();
        self.0.extend_from_slice(&u32::try_from(5 + body).unwrap().to_be_bytes());
        self.0.push(kind);
        self.0.extend_from_slice(&id.to_be_bytes());
        for part in parts {
            self.0.extend_from_slice(part);
        }
        self
    }

    /// The replies without their lengths.
    fn heard(self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        serve(&self.0[..], &mut out).unwrap();
        let (mut rest, mut replies) = (&out[..], Vec::new());
        while let Some((length, more)) = rest.split_first_chunk::<4>() {
            let (reply, more) = more.split_at(u32::from_be_bytes(*length) as usize);
            replies.push(reply.to_vec());
            rest = more;
        }
        replies
    }
}

fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

fn path(path: &Path) -> Vec<u8> {
    text(path.to_str().unwrap())
}

fn number(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

const NONE: [u8; 4] = [0; 4];

/// The code of a status.
fn code(reply: &[u8]) -> u32 {
    assert_eq!(reply[0], 101, "{reply:?}");
    u32::from_be_bytes(reply[5..9].try_into().unwrap())
}

#[test]
fn a_file_is_written_and_read_and_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let handle = text(number(1));
    let again = text(number(2));
    let heard = Says::default()
        .packet(3, 1, &[&path(&a), &number(2 | 8 | 16), &number(4), &number(0o640)])
        .packet(6, 2, &[&handle, &number(0), &number(0), &text("hello")])
        .packet(6, 3, &[&handle, &number(0), &number(5), &text(" world")])
        .packet(4, 4, &[&handle])
        .packet(18, 5, &[&path(&a), &path(&b)])
        .packet(3, 6, &[&path(&b), &number(1), &NONE])
        .packet(5, 7, &[&again, &number(0), &number(6), &number(100)])
        .packet(5, 8, &[&again, &number(0), &number(11), &number(100)])
        .heard();
    assert_eq!(heard[0][..5], [102, 0, 0, 0, 1]);
    assert_eq!([1, 2, 3, 4].map(|nth| code(&heard[nth])), [0; 4]);
    assert_eq!(heard[6][5..], text("world"));
    assert_eq!(code(&heard[7]), 1);
    assert_eq!(std::fs::read(&b).unwrap(), b"hello world");
    assert_eq!(std::fs::metadata(&b).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn directories_links_and_times() {
    let dir = tempfile::tempdir().unwrap();
    let (sub, link, file) = (dir.path().join("sub"), dir.path().join("link"), dir.path().join("sub/f"));
    std::fs::create_dir(&sub).unwrap();
    std::fs::write(&file, "x").unwrap();
    symlink("sub/f", &link).unwrap();
    let handle = text(number(1));
    let heard = Says::default()
        .packet(11, 1, &[&path(dir.path())])
        .packet(12, 2, &[&handle])
        .packet(12, 3, &[&handle])
        .packet(19, 4, &[&path(&link)])
        .packet(9, 5, &[&path(&link), &number(8), &number(7), &number(1_000_000_000)])
        .packet(16, 6, &[&path(&dir.path().join("sub/../new"))])
        .packet(15, 7, &[&path(&sub)])
        .packet(13, 8, &[&path(&file)])
        .packet(15, 9, &[&path(&sub)])
        .packet(17, 10, &[&path(&link)])
        .packet(14, 11, &[&path(&sub), &number(4), &number(0o700)])
        .heard();
    let names = String::from_utf8_lossy(&heard[1]);
    assert_eq!(u32::from_be_bytes(heard[1][5..9].try_into().unwrap()), 4, "{names}");
    assert!(names.contains("lrwxrwxrwx") && names.contains("sub"), "{names}");
    assert_eq!(code(&heard[2]), 1);
    assert!(heard[3].windows(5).any(|part| part == b"sub/f"));
    assert_eq!(code(&heard[4]), 0);
    let new = dir.path().canonicalize().unwrap().join("new");
    assert!(String::from_utf8_lossy(&heard[5]).contains(new.to_str().unwrap()));
    assert_eq!([6, 7, 8, 9, 10].map(|nth| code(&heard[nth])), [4, 0, 0, 2, 0]);
}

#[test]
fn a_large_directory_comes_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..2000 {
        std::fs::write(dir.path().join(format!("{n:0>200}")), "").unwrap();
    }
    let handle = text(number(1));
    let mut says = Says::default().packet(11, 1, &[&path(dir.path())]);
    for n in 0..20 {
        says = says.packet(12, n + 2, &[&handle]);
    }
    let heard = says.heard();
    let counts = heard[1..].iter().filter(|reply| reply[0] == 104);
    let counts = counts.map(|reply| u32::from_be_bytes(reply[5..9].try_into().unwrap()));
    assert_eq!(counts.sum::<u32>(), 2002);
    assert!(heard.iter().all(|reply| reply.len() < LARGEST));
    assert_eq!(code(&heard[20]), 1);
}

#[test]
fn what_makes_no_sense_is_answered_and_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let mut out = Vec::new();
    let hello = [&[0, 0, 0, 5, 1], &number(3)[..]].concat();
    serve(&hello[..], &mut out).unwrap();
    assert!(out[4] == 2 && out.windows(12).any(|part| part == b"posix-rename"), "{out:?}");
    let heard = Says::default()
        .packet(99, 1, &[])
        .packet(200, 2, &[&text("nonsense")])
        .packet(3, 3, &[&number(1000)])
        .packet(5, 4, &[&text(number(77)), &NONE, &NONE, &number(1)])
        .packet(17, 5, &[&path(&missing)])
        .packet(5, 6, &[&text("long handle"), &NONE, &NONE, &number(1)])
        .packet(17, 7, &[&text(b"a\0b")])
        .packet(200, 8, &[&text("limits@openssh.com")])
        .heard();
    let codes: Vec<u32> = heard[..7].iter().map(|reply| code(reply)).collect();
    assert_eq!(codes, [8, 8, 5, 4, 2, 5, 5]);
    assert_eq!(heard[7][0], 201);
    for wrong in [&[255, 255, 255, 255, 1][..], &[0, 0, 0, 0], &[0, 0, 0, 9, 1]] {
        assert!(serve(wrong, &mut Vec::new()).is_err(), "{wrong:?}");
    }
}
