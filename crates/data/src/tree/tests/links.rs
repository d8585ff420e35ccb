//! Links of a directory that becomes a tree.
use super::super::walk::OVERFLOWS;
use super::*;

/// A directory `root/out` in a small world, with these links (path below `root`, target).
fn linked(links: &[(&str, &str)]) -> (Bed, Written) {
    let bed = Bed::new();
    for (name, content) in
        [("out/sub/f", "inside"), ("data/f", "outside"), ("data/deep/g", "deep"), ("outer", "x")]
    {
        let path = bed.path("root").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::set_permissions(bed.path("root/data/f"), Permissions::from_mode(0o600)).unwrap();
    for (name, target) in links {
        symlink(target, bed.path("root").join(name)).unwrap();
    }
    let written = bed.write_out(Bounds::FORMAT).unwrap();
    (bed, written)
}

impl Bed {
    fn write_out(&self, bounds: Bounds) -> Result<Written, DataError> {
        let root = Dir::open(&self.path("root")).unwrap();
        write(&self.store, Source { root: &root, path: Path::new("out"), reader: None }, bounds, &Watch::NONE)
    }
}

/// The tree in brief: links with their target, files with their size, and what was said.
fn brief(bed: &Bed, written: &Written) -> Vec<String> {
    let manifest = read(&bed.store, written.version).unwrap();
    let entries = manifest.entries().iter().map(|entry| match &entry.kind {
        Kind::File { size, .. } => format!("{} {size}", entry.path.display()),
        Kind::Dir { .. } => format!("{}/", entry.path.display()),
        Kind::Symlink { target } => format!("{} -> {}", entry.path.display(), target.display()),
    });
    let warnings = written.warnings.iter().map(|w| format!("! {} {}", w.path.display(), w.text));
    entries.filter(|line| !line.starts_with("sub")).chain(warnings).collect()
}

#[test]
fn links_stay_inside_and_become_what_they_lead_to_outside() {
    let check = |links: &[(&str, &str)], followed: u64, expected: &[&str]| {
        let (bed, written) = linked(links);
        assert_eq!(brief(&bed, &written), expected, "{links:?}");
        assert_eq!(written.followed, followed, "{links:?}");
    };
    // Inside, as they are or in words that hold wherever the tree lies.
    check(&[("out/a", "sub/f")], 0, &["a -> sub/f"]);
    check(&[("out/a", "./sub")], 0, &["a -> ./sub"]);
    check(&[("out/a", "/out/sub/f")], 0, &["a -> sub/f"]);
    check(&[("out/a", "../out/sub")], 0, &["a -> sub"]);
    check(&[("out/a", "sub/../sub/f")], 0, &["a -> sub/f"]);
    check(&[("out/a", "/data/back"), ("data/back", "/out/sub/f")], 0, &["a -> sub/f"]);
    check(&[("out/a", "/out")], 0, &["a -> ."]);
    check(&[("out/a", ".")], 0, &["a -> ."]);
    // Outside.
    check(&[("out/a", "/data/f")], 1, &["a 7"]);
    check(&[("out/a", "../../../data/f")], 1, &["a 7"]);
    check(&[("out/a", "/data")], 1, &["a/", "a/deep/", "a/deep/g 4", "a/f 7"]);
    check(&[("out/a", "/data/deep"), ("out/b", "a/g")], 2, &["a/", "a/g 4", "b 4"]);
    check(
        &[("out/a", "/data"), ("data/near", "deep"), ("data/deep/up", "/data/f"), ("data/way", "/out/sub")],
        1,
        &["a/", "a/deep/", "a/deep/g 4", "a/deep/up -> ../f", "a/f 7", "a/near -> deep", "a/way -> ../sub"],
    );
    // Nowhere, in a circle, to what holds it, and to what is no file.
    check(
        &[("out/a", "/none/x")],
        0,
        &["a -> /none/x", "! a stays a link to `/none/x`: where there is nothing"],
    );
    check(
        &[("out/a", "b"), ("out/b", "a")],
        0,
        &[
            "a -> b",
            "b -> a",
            "! a stays a link to `b`: Too many symbolic links encountered",
            "! b stays a link to `a`: Too many symbolic links encountered",
        ],
    );
    for up in ["/", "..", "../../.."] {
        check(
            &[("out/a", up)],
            0,
            &[&format!("! a was left out: it is a link to `{up}`, in which it lies itself")],
        );
    }
    check(
        &[("out/a", "/data/deep"), ("data/deep/up", "..")],
        1,
        &["a/", "a/g 4", "! a/up was left out: it is a link to `..`, in which it lies itself"],
    );
}

#[test]
fn what_a_link_led_to_comes_with_its_permissions_and_time() {
    let (bed, written) = linked(&[("out/a", "/data/f")]);
    let manifest = read(&bed.store, written.version).unwrap();
    let entry = manifest.get(Path::new("a")).unwrap();
    assert!(matches!(entry.kind, Kind::File { mode: 0o600, digest, .. } if digest == Digest::of(b"outside")));
    let modified = Modified::of_file(&File::open(bed.path("root/data/f")).unwrap()).unwrap();
    assert_eq!(entry.modified, Some(modified));
    let pipe = bed.path("root/pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    symlink("/pipe", bed.path("root/out/p")).unwrap();
    let written = bed.write_out(Bounds::FORMAT).unwrap();
    assert_eq!(
        (written.followed, written.warnings[0].text.as_str()),
        (1, "was left out: it is a link to `/pipe`, a socket, pipe or device")
    );
}

#[test]
fn links_from_one_directory_to_the_next_are_bounded() {
    let (bed, _) = linked(&[("out/a", "/d0")]);
    for n in 0..40 {
        let dir = bed.path(&format!("root/d{n}"));
        fs::create_dir(&dir).unwrap();
        // Two each: all of them would be more than a tree can have.
        for name in ["one", "two"] {
            symlink(format!("/d{}", n + 1), dir.join(name)).unwrap();
        }
    }
    let bounds = Bounds { entries: 1000, bytes: u64::MAX };
    let written = bed.write_out(bounds).unwrap();
    let manifest = read(&bed.store, written.version).unwrap();
    assert!(manifest.entries().len() <= 1000 && manifest.get(Path::new("sub/f")).is_some());
    let over = written.warnings.iter().filter(|warning| warning.text.contains("more than 1000 files"));
    assert_eq!(over.count(), OVERFLOWS);
    // What is the directory's own has no other place.
    let own = Bounds { entries: 1, ..bounds };
    assert!(matches!(bed.write_out(own), Err(DataError::Limit { .. })));
    for n in 0..40 {
        fs::remove_file(bed.path(&format!("root/d{n}/two"))).unwrap();
    }
    let written = bed.write_out(bounds).unwrap();
    let [warning] = &written.warnings[..] else { panic!("{:?}", written.warnings) };
    assert_eq!(warning.text, "was left out: it is a link to `/d16`, which is behind too many such links");
}

#[test]
fn a_link_to_too_much_is_left_out_by_itself() {
    let (bed, _) = linked(&[("out/big", "/data"), ("out/huge", "/heavy"), ("out/small", "/data/f")]);
    fs::write(bed.path("root/heavy"), "x".repeat(100)).unwrap();
    fs::write(bed.path("root/data/h"), "").unwrap();
    // Two of its own; `big` would be five more.
    let written = bed.write_out(Bounds { entries: 6, bytes: 50 }).unwrap();
    let expected = [
        "small 7",
        "! big was left out: it is a link to `/data`, and with it there are more than 6 files, links and directories",
        "! huge was left out: it is a link to `/heavy`, and with it there are more than 50 bytes in all",
    ];
    assert_eq!(brief(&bed, &written), expected);
}

#[test]
fn a_link_lends_nobody_the_right_to_read() {
    let (bed, _) = linked(&[
        ("out/closed", "/data/f"),
        ("out/dir", "/data"),
        ("out/below", "/shut/open"),
        ("out/far", "/outer"),
    ]);
    fs::create_dir(bed.path("root/shut")).unwrap();
    fs::write(bed.path("root/shut/open"), "x").unwrap();
    fs::set_permissions(bed.path("root/shut"), Permissions::from_mode(0o700)).unwrap();
    for name in ["root/data", "root/data/deep", "root/outer"] {
        fs::set_permissions(bed.path(name), Permissions::from_mode(0o755)).unwrap();
    }
    let root = Dir::open(&bed.path("root")).unwrap();
    let written = |reader| {
        let source = Source { root: &root, path: Path::new("out"), reader };
        write(&bed.store, source, Bounds::FORMAT, &Watch::NONE).unwrap()
    };
    let owner = nix::unistd::geteuid().as_raw();
    let refused = |link: &str, to: &str| {
        format!("! {link} was left out: it is a link to `{to}`, and the run's user may not read that")
    };
    let expected = [
        "dir/".to_owned(),
        "dir/deep/".to_owned(),
        "dir/deep/g 4".to_owned(),
        "far 1".to_owned(),
        refused("below", "/shut/open"),
        refused("closed", "/data/f"),
        "! dir/f was left out: the run's user may not read that".to_owned(),
    ];
    assert_eq!(brief(&bed, &written(Some((owner + 1, nix::unistd::getegid().as_raw() + 1)))), expected);
    assert_eq!(written(None).warnings, []);
    assert_eq!(written(Some((0, 0))).warnings, []);
}
