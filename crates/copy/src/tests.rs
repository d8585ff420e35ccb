//! What comes back of what was packed, and what does not.
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

fn packed(path: &Path) -> (Vec<u8>, Copied) {
    let mut bytes = Vec::new();
    let copied = pack(path, &mut bytes).unwrap();
    (bytes, copied)
}

#[test]
fn a_directory_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    fs::create_dir_all(from.join("deep/er")).unwrap();
    fs::write(from.join("deep/er/x"), vec![7; 100_000]).unwrap();
    fs::write(from.join("run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.join("run.sh"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("deep/er/x", from.join("link")).unwrap();
    symlink("/nowhere", from.join("dangling")).unwrap();
    fs::set_permissions(from.join("deep"), fs::Permissions::from_mode(0o555)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
    let (bytes, copied) = packed(&from);
    assert_eq!((copied.files, copied.bytes, copied.left_out.len()), (2, 100_010, 1));
    // As a name that is not there, and into a directory that is.
    for (to, there) in [("as", "as"), ("", "from")] {
        let place = dir.path().join("to");
        fs::create_dir_all(&place).unwrap();
        let copied = unpack(&*bytes, &place.join(to)).unwrap();
        assert_eq!((copied.files, copied.bytes), (2, 100_010));
        let at = place.join(there);
        assert_eq!(fs::read(at.join("deep/er/x")).unwrap(), vec![7; 100_000]);
        assert_eq!(fs::read_link(at.join("link")).unwrap(), Path::new("deep/er/x"));
        assert_eq!(fs::read_link(at.join("dangling")).unwrap(), Path::new("/nowhere"));
        let mode = |name: &str| fs::metadata(at.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("run.sh"), mode("deep")), (0o750, 0o555));
        fs::set_permissions(at.join("deep"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(from.join("deep"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_file_takes_the_name_that_it_is_given_and_replaces_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    fs::write(&a, "new").unwrap();
    fs::write(dir.path().join("kept"), "kept").unwrap();
    symlink("kept", &b).unwrap();
    unpack(&*packed(&a).0, &b).unwrap();
    assert_eq!(fs::read_to_string(&b).unwrap(), "new");
    assert_eq!(fs::read_to_string(dir.path().join("kept")).unwrap(), "kept");
    let wrong = |to: &str| unpack(&*packed(&a).0, &dir.path().join(to)).unwrap_err().to_string();
    assert!(wrong("no/such/b").contains("the directory that it would be in is not there"));
    assert!(wrong("nothing/").contains("there is no such directory"));
    assert!(pack(&dir.path().join("none"), Vec::new()).unwrap_err().to_string().starts_with("cannot find"));
}

/// An archive with one file of this name, which no library of ours would write.
fn hostile(name: &str, links: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, target) in links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, path, target).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(4);
    header.set_mode(0o4755);
    header.set_cksum();
    archive.get_mut().write_all(header.as_bytes()).unwrap();
    archive.get_mut().write_all(b"evil").unwrap();
    archive.get_mut().write_all(&[0; 508 + 1024]).unwrap();
    archive.into_inner().unwrap()
}

#[test]
fn nothing_lands_elsewhere_and_no_file_gets_other_rights() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
    fs::create_dir_all(&inside).unwrap();
    fs::create_dir_all(&outside).unwrap();
    let out = outside.to_str().unwrap();
    let cases = [
        ("../outside/x".to_owned(), vec![]),
        (format!("{out}/x"), vec![]),
        ("a/../../outside/x".to_owned(), vec![]),
        ("link/x".to_owned(), vec![("link", out)]),
    ];
    for (name, links) in cases {
        assert!(unpack(&*hostile(&name, &links), &inside).is_err(), "{name}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{name}");
    }
    let target = outside.join("kept");
    fs::write(&target, "kept").unwrap();
    let bytes = hostile("over", &[("over", target.to_str().unwrap())]);
    unpack(&*bytes, &inside).unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    let mode = fs::metadata(inside.join("over")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
}
