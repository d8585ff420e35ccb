//! Exports to real servers of buckets, and back.
use std::os::unix::fs::{PermissionsExt, symlink};

use vessl_data::bucket::{BucketError, Identity, MANIFEST, ManifestUse};

use crate::bucket_bed::{
    Server, Signed, bytes, content, export, files, import, import_as, journal, keys, mode, session,
};

fn check_there_and_back(server: &Server, identity: &Identity) {
    let large = bytes(70 << 20);
    let (_temp, dir) = files(&[
        ("a.txt", b"a"),
        ("empty", b""),
        ("sub/with space+plus%.bin", b"odd"),
        ("sub/deep/\u{fc}.txt", b"unicode"),
        ("medium", &large[..3 << 20]),
        ("large", &large),
    ]);
    std::fs::create_dir(dir.join("nothing")).unwrap();
    std::fs::set_permissions(dir.join("a.txt"), std::fs::Permissions::from_mode(0o750)).unwrap();
    symlink("../a.txt", dir.join("sub/link")).unwrap();
    symlink("sub", dir.join("latest")).unwrap();
    symlink("nowhere", dir.join("dangling")).unwrap();
    let session = session(server.at("out/1"), identity.clone());
    let exported = export(&session, &dir, "run 1").unwrap();
    assert_eq!((exported.files, exported.already), (7, false));
    assert_eq!(exported.bytes, (73 << 20) + 1 + 3 + 7 + 1);
    let warnings: Vec<String> = exported
        .warnings
        .iter()
        .map(|warning| format!("{} {}", warning.path.display(), warning.text))
        .collect();
    assert_eq!(
        warnings,
        [
            "dangling was left out: it is a link to `nowhere`, where there is nothing",
            "latest is a link to the directory `sub`: it stands in the list of the export alone",
        ]
    );
    let again = export(&session, &dir, "run 1").unwrap();
    assert!(
        again.already && (again.files, again.bytes, &again.version) == (7, exported.bytes, &exported.version)
    );

    let (imported, into) = import(&session).unwrap();
    assert_eq!((imported.files, imported.bytes), (exported.files, exported.bytes));
    let mut expected = content(&dir);
    expected.remove("dangling");
    expected.insert("sub/link".into(), b"a".to_vec());
    assert!(into.content() == expected);
    assert_eq!(mode(&into.path().join("a.txt")), 0o750);
    let time = |path: &std::path::Path| std::fs::metadata(path).unwrap().modified().unwrap();
    assert_eq!(time(&into.path().join("large")), time(&dir.join("large")));
    assert_eq!(time(&into.path().join("nothing")), time(&dir.join("nothing")));
    assert_eq!(imported.top.map(|top| top.mode), Some(mode(&dir)));
    assert!(import_as(&session, Some((&imported, &into)), ManifestUse::Follow).unwrap().0.unchanged);

    let (imported, into) = import_as(&session, None, ManifestUse::Ignore).unwrap();
    assert_eq!(imported.files, 8);
    assert!(into.path().join(MANIFEST).exists() && !into.path().join("latest").exists());
}

#[test]
fn there_and_back_at_s3() {
    check_there_and_back(&Server::s3s(Signed::Checked), &keys());
}

#[test]
fn there_and_back_at_another_s3() {
    check_there_and_back(&Server::moto(), &keys());
}

#[test]
fn there_and_back_at_google() {
    check_there_and_back(&Server::google(), &Identity::Anonymous);
}

#[test]
fn the_list_of_another_is_replaced_but_not_in_a_race() {
    let server = Server::s3s(Signed::Checked);
    let session = session(server.at("p"), keys());
    let (_one, first) = files(&[("a", b"one"), ("old", b"stays")]);
    let (_two, second) = files(&[("a", b"two")]);
    assert!(!export(&session, &first, "run 1").unwrap().last_writer_wins);
    assert!(!export(&session, &second, "run 2").unwrap().last_writer_wins);
    let found = import(&session).unwrap().1.content();
    let both = [("a".to_owned(), b"two".to_vec()), ("old".to_owned(), b"stays".to_vec())];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), both);
    // The journal of the first knows what was there when it began.
    let taken = export(&session, &first, "run 1").map(|_| ()).unwrap_err();
    assert!(matches!(&taken, BucketError::Taken { who, .. } if who == "`run 2`"), "{taken}");
    session.abort(&journal(&first)).unwrap();
    assert!(!journal(&first).exists());
}

#[test]
fn a_list_of_somebody_evil_reaches_nothing_outside() {
    let server = Server::s3s(Signed::Ignored);
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    let before = mode(&victim);
    let check = |list: &str, expected: &str| {
        let list = list.replace("VICTIM", victim.to_str().unwrap()).replace('\'', "\"");
        assert_eq!(server.put("evil/.vessl-manifest.json", list.as_bytes()), 200);
        let imported = import(&session(server.at("evil"), Identity::Anonymous));
        let text = match imported {
            Ok((imported, _into)) => imported.left_out.join(" "),
            Err(failed) => failed.to_string(),
        };
        assert!(text.contains(expected), "{list}: {text}");
        assert_eq!(mode(&victim), before);
    };
    let list = |dirs: &str, links: &str| {
        format!("{{'v': 1, 'who': 'x', 'files': [], 'dirs': [{dirs}], 'links': [{links}]}}")
    };
    let dir = |path: &str| format!("{{'path': '{path}', 'mode': 0, 'modified': [0, 0]}}");
    let link = |path: &str, target: &str| format!("{{'path': '{path}', 'target': '{target}'}}");
    check(&list(&dir("../victim"), ""), "it has a name `.` or `..`");
    check(&list("", &link("l", "VICTIM")), "`l`: it is a link that leads out");
    check(&list("", &link("l", "../..")), "`l`: it is a link that leads out");
    check(&list("", &link("../l", "x")), "`../l`: it is a link that leads out");
    check(
        &list(&dir("d"), &[link("d/l", ".."), link("d/l/m", "../..")].join(",")),
        "`d/l/m`: it is a link that leads out",
    );
    check(&list(&dir("d"), &link("d", ".")), "cannot make `d`");
}

#[test]
fn a_place_that_may_not_be_written_to_is_said() {
    let server = Server::s3s(Signed::Checked);
    let (_temp, dir) = files(&[("a", b"a")]);
    let failed = export(&session(server.at("p"), Identity::Anonymous), &dir, "run").map(|_| ()).unwrap_err();
    assert!(failed.to_string().contains("no permission, asked anonymously"), "{failed}");
    let server = Server::moto();
    let mut other = server.at("p");
    other.bucket = "nobodys".into();
    let failed = export(&session(other, keys()), &dir, "run").map(|_| ()).unwrap_err();
    assert!(matches!(failed, BucketError::NoBucket { .. }), "{failed}");
}
