//! Imports from real servers of buckets.
use std::path::Path;

use vessl_data::bucket::{BucketError, Identity, ManifestUse, Picture, Provider};

use crate::bucket_bed::{Server, Signed, bytes, import, import_as, inode, keys, location, session};

/// What every server can hold.
const FILES: [(&str, &[u8]); 6] = [
    ("data/a.txt", b"a"),
    ("data/empty", b""),
    ("data/sub/with space+plus%.bin", b"odd"),
    ("data/sub/deep/\u{fc}\u{65e5}.txt", b"unicode"),
    ("data/sub-not", b"beside"),
    ("database", b"not below the prefix"),
];

fn seed(server: &Server) {
    for (key, content) in FILES {
        assert_eq!(server.put(key, content), 200, "{key}");
    }
}

fn check_import(server: &Server, identity: &Identity) {
    for prefix in ["data", "data/"] {
        let session = session(server.at(prefix), identity.clone());
        let (imported, into) = import(&session).unwrap();
        assert_eq!((imported.files, imported.bytes, imported.unchanged), (5, 17, false));
        assert!(imported.left_out.is_empty());
        let found = into.content();
        for (key, content) in &FILES[..5] {
            let path = key.strip_prefix("data/").unwrap();
            assert_eq!(found.get(path).map(Vec::as_slice), Some(*content), "{path}");
        }
        assert_eq!(found.len(), 7, "{found:?}");
        let again = import_as(&session, Some((&imported, &into)), ManifestUse::Follow).unwrap();
        assert!(again.0.unchanged && again.1.content().is_empty());
        assert_eq!(again.0.picture.digest(), imported.picture.digest());
        assert_eq!(Picture::parse(&imported.picture.text()), Some(imported.picture));
    }
    let (imported, into) =
        import(&session(server.at("data/sub/deep/\u{fc}\u{65e5}.txt"), identity.clone())).unwrap();
    assert_eq!((imported.files, imported.bytes), (1, 7));
    assert_eq!(
        into.content().into_iter().collect::<Vec<_>>(),
        [("\u{fc}\u{65e5}.txt".to_owned(), b"unicode".to_vec())]
    );
    let (imported, _into) = import(&session(server.at(""), identity.clone())).unwrap();
    assert_eq!(imported.files, 6);
    for nothing in ["dat", "data/sub/dee", "nothing/"] {
        let missing = import(&session(server.at(nothing), identity.clone())).map(|_| ()).unwrap_err();
        assert!(matches!(&missing, BucketError::Missing(place) if place.ends_with(nothing)), "{missing}");
    }
}

#[test]
fn a_prefix_of_s3() {
    let server = Server::s3s(Signed::Ignored);
    seed(&server);
    check_import(&server, &Identity::Anonymous);
}

#[test]
fn a_prefix_of_another_s3() {
    let server = Server::moto();
    seed(&server);
    check_import(&server, &keys());
}

#[test]
fn a_prefix_of_google() {
    let server = Server::google();
    seed(&server);
    check_import(&server, &Identity::Anonymous);
}

#[test]
fn what_may_not_be_read_is_said() {
    let server = Server::s3s(Signed::Checked);
    std::fs::create_dir_all(server.root.join("bkt/data")).unwrap();
    std::fs::write(server.root.join("bkt/data/a b"), b"content").unwrap();
    let (imported, into) = import(&session(server.at("data"), keys())).unwrap();
    assert_eq!((imported.files, into.content()["a b"].as_slice()), (1, b"content".as_slice()));
    let failed = |at, identity| import(&session(at, identity)).map(|_| ()).unwrap_err().to_string();
    let wrong =
        |id: &str, secret: &str| Identity::Keys { id: id.into(), secret: secret.into(), session_token: None };
    let check = |text: String, expected: &str| {
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("not-so-secret"), "{text}");
    };
    check(failed(server.at("data"), Identity::Anonymous), "no permission, asked anonymously");
    check(
        failed(server.at("data"), wrong("AKIATEST", "hunter2")),
        "the secret key does not belong to the key id",
    );
    check(failed(server.at("data"), wrong("AKIAOTHER", "hunter2")), "AKIAOTHER");
    let mut other = server.at("data");
    other.bucket = "nobodys".into();
    check(failed(other, keys()), "there is no bucket `nobodys` at http://127.0.0.1:");
    let gone = server.at("data");
    drop(server);
    check(failed(gone, keys()), "it cannot be reached");
}

#[test]
fn large_objects_come_in_parts() {
    let server = Server::s3s(Signed::Ignored);
    let content = bytes(40 << 20);
    assert_eq!(server.put("big/one", &content), 200);
    assert_eq!(server.put("big/exact", &content[..16 << 20]), 200);
    let (imported, into) = import(&session(server.at("big"), Identity::Anonymous)).unwrap();
    assert_eq!((imported.files, imported.bytes), (2, 56 << 20));
    assert!(std::fs::read(into.path().join("one")).unwrap() == content);
    assert!(std::fs::read(into.path().join("exact")).unwrap() == content[..16 << 20]);
}

#[test]
fn what_is_the_same_is_not_fetched_again() {
    let server = Server::s3s(Signed::Ignored);
    for (key, content) in [("d/same", b"same"), ("d/other", b"old!"), ("d/gone", b"gone")] {
        assert_eq!(server.put(key, content), 200);
    }
    let session = session(server.at("d"), Identity::Anonymous);
    let (first, old) = import(&session).unwrap();
    assert_eq!(server.put("d/other", b"new!"), 200);
    assert_eq!(server.ask("DELETE", "/bkt/d/gone", b"").0 / 100, 2);
    let (second, new) = import_as(&session, Some((&first, &old)), ManifestUse::Follow).unwrap();
    assert!(!second.unchanged && second.picture != first.picture);
    let found: Vec<_> = new.content().into_iter().collect();
    assert_eq!(found, [("other".to_owned(), b"new!".to_vec()), ("same".to_owned(), b"same".to_vec())]);
    assert_eq!(inode(&new.path().join("same")), inode(&old.path().join("same")));
    assert_eq!(std::fs::read(old.path().join("other")).unwrap(), b"old!");
}

#[test]
fn keys_that_cannot_be_files_are_named() {
    let server = Server::moto();
    let check = |prefix: &str, keys: &[&str], expected: &[&str]| {
        for key in keys {
            assert_eq!(server.put(&format!("{prefix}/{key}"), b"x"), 200, "{key}");
        }
        let failed = import(&session(server.at(prefix), crate::bucket_bed::keys())).map(|_| ()).unwrap_err();
        let text = failed.to_string();
        assert!(matches!(failed, BucketError::Keys { .. }), "{text}");
        for word in expected {
            assert!(text.contains(word), "{word}: {text}");
        }
    };
    let long = "n".repeat(256);
    check(
        "up",
        &["a/../b", "fine"],
        &["1 key that cannot be files", "`up/a/../b` (it has a name `.` or `..`)"],
    );
    check("slash", &["/a"], &["`slash//a` (it begins with `/`)"]);
    check("twice", &["a//b"], &["`twice/a//b` (it has an empty name)"]);
    check("long", &[&long], &["more than 255 bytes"]);
    check("both", &["a", "a-b", "a/b"], &["`both/a` (it is a file where a directory is needed)"]);
    check("control", &["a\tb"], &["`control/a\\tb` (it has a control character)"]);
    check("many", &["a//1", "a//2", "a//3", "a//4", "a//5", "a//6"], &["6 keys that", "`many/a//5`"]);
}

#[test]
fn directories_and_names_that_differ_in_case_alone_come() {
    let server = Server::moto();
    for key in ["d/", "d/empty/", "d/A", "d/a", "d/\u{e9}", "d/e\u{301}", "d/sub/", "d/sub/f"] {
        assert_eq!(server.put(key, if key.ends_with('/') { b"" } else { key.as_bytes() }), 200, "{key}");
    }
    assert_eq!(server.put("d/odd/", b"bytes"), 200);
    assert_eq!(server.put("only/", b""), 200);
    let (imported, into) = import(&session(server.at("d/"), keys())).unwrap();
    let found = into.content();
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["A", "a", "empty/", "e\u{301}", "odd/", "sub/", "sub/f", "\u{e9}"]);
    assert_eq!(found["\u{e9}"], "d/\u{e9}".as_bytes());
    assert_eq!(imported.left_out, ["`d/odd/`: it is a directory by its name and has 5 bytes"]);
    let missing = import(&session(server.at("only"), keys())).map(|_| ()).unwrap_err();
    assert!(matches!(missing, BucketError::Missing(_)), "{missing}");
}

#[test]
fn an_empty_bucket_has_nothing() {
    for server in [Server::s3s(Signed::Ignored), Server::google()] {
        let missing = import(&session(server.at(""), Identity::Anonymous)).map(|_| ()).unwrap_err();
        assert!(matches!(missing, BucketError::Missing(_)), "{missing}");
    }
    let nobody = location(Provider::Gs, &Server::google().endpoint(), "x");
    let failed = import(&session(nobody, Identity::Anonymous)).map(|_| ()).unwrap_err();
    assert!(matches!(failed, BucketError::Unreachable { .. }), "{failed}");
    let server = Server::google();
    let mut other = server.at("x");
    other.bucket = "nobodys".into();
    let failed = import(&session(other, Identity::Anonymous)).map(|_| ()).unwrap_err();
    assert!(matches!(failed, BucketError::NoBucket { .. }), "{failed}");
}

#[test]
fn listings_of_several_pages_are_whole() {
    let server = Server::moto();
    for n in 0..1_050 {
        assert_eq!(server.put(&format!("many/{}/{n:05}", n % 7), b"."), 200);
    }
    let (imported, into) = import(&session(server.at("many"), keys())).unwrap();
    assert_eq!((imported.files, imported.picture.len()), (1_050, 1_050));
    assert!(Path::new(&into.path().join("6/01049")).exists());
}
