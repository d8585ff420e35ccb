//! Imports from a stand-in for Hugging Face: what comes, where from, and who may.
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use vessl_data::Watch;
use vessl_data::hub::{HubError, Kind};

use crate::hub_bed::{Bed, COMMIT, Site, TOKEN, Want, all_files};

#[test]
fn every_file_comes_from_wherever_it_is() {
    for page in [1000, 2, 1] {
        let bed = Bed::new(Site { page, ..Site::new() });
        let (sum, total) = (AtomicU64::new(0), Mutex::new(None));
        let progress = |new, all| {
            sum.fetch_add(new, Ordering::Relaxed);
            *total.lock().unwrap() = all;
        };
        let want = Want { watch: Watch { progress: &progress, ..Watch::NONE }, ..Want::default() };
        let imported = bed.import(&want).unwrap();
        let expected = Site::new().files;
        let bytes = expected.values().map(|content| content.bytes.len() as u64).sum::<u64>();
        assert_eq!((imported.files, imported.bytes), (5, bytes));
        assert_eq!(imported.commit, COMMIT);
        assert_eq!(sum.into_inner(), bytes);
        let expected = expected.into_iter().map(|(path, content)| (path, content.bytes)).collect();
        assert_eq!(all_files(&bed.target()), expected);
        for (path, mode) in [("a b/deep", 0o755), ("README.md", 0o644), ("model.bin", 0o644)] {
            let found = std::fs::metadata(bed.target().join(path)).unwrap().permissions().mode();
            assert_eq!(found & 0o7777, mode, "{path}");
        }
        if page == 1000 {
            assert_eq!(total.into_inner().unwrap(), Some(bytes));
        }
    }
}

#[test]
fn the_token_reaches_the_endpoint_alone() {
    let bed = Bed::new(Site { is_private: true, page: 2, ..Site::new() });
    let want = Want { token: Some(TOKEN), ..Want::default() };
    assert_eq!(bed.pin(&want).unwrap().commit, COMMIT);
    bed.import(&want).unwrap();
    let near = bed.near().seen();
    let bearer = format!("Bearer {TOKEN}");
    assert!(near.iter().all(|asked| asked.header("authorization") == Some(&bearer)));
    let far = bed.far().seen();
    assert!(far.len() == 1 && far.iter().all(|asked| !format!("{asked:?}").contains("s3cret")));
}

#[test]
fn a_next_page_elsewhere_is_asked_for_at_the_endpoint() {
    let stranger = Bed::new(Site::new());
    let address = stranger.near().address();
    let fault = move |asked: &crate::scripted::Request, _, mut reply: crate::scripted::Reply| {
        let host = asked.header("host").unwrap().to_owned();
        for (_, value) in reply.headers.iter_mut().filter(|(name, _)| name == "Link") {
            *value = value.replace(&host, &address);
        }
        reply
    };
    let bed = Bed::new(Site { page: 2, fault: Box::new(fault), ..Site::new() });
    assert_eq!(bed.import(&Want { token: Some(TOKEN), ..Want::default() }).unwrap().files, 5);
    assert!(stranger.near().seen().is_empty());
}

#[test]
fn revisions_are_pinned() {
    let bed = Bed::new(Site::new());
    for revision in [None, Some("v1"), Some("refs/pr/1"), Some(COMMIT)] {
        assert_eq!(bed.pin(&Want { revision, ..Want::default() }).unwrap().commit, COMMIT);
    }
    let said = bed.pin(&Want { revision: Some("nope"), ..Want::default() }).unwrap_err();
    assert!(matches!(said, HubError::NoRevision { .. }), "{said}");
    let host = bed.near().address();
    assert_eq!(
        said.to_string(),
        format!("the model `owner/name` at `{host}` has no branch, tag or commit `nope`")
    );
}

#[test]
fn a_dataset_has_addresses_of_its_own() {
    let bed = Bed::new(Site { kind: "datasets", id: "iris", ..Site::new() });
    let want = Want { kind: Kind::Dataset, id: "iris", ..Want::default() };
    assert_eq!(bed.pin(&want).unwrap().commit, COMMIT);
    assert_eq!(bed.import(&want).unwrap().files, 5);
    let said = bed.pin(&Want { id: "iris", ..Want::default() }).unwrap_err().to_string();
    assert!(said.starts_with("there is no model `iris` at `127.0.0.1:"), "{said}");
}

#[test]
fn who_may_not_read_is_told_what_to_do() {
    let private = Bed::new(Site { is_private: true, ..Site::new() });
    let gated = Bed::new(Site { is_gated: true, ..Site::new() });
    let check = |bed: &Bed, token, expected: &[&str]| {
        let want = Want { token, ..Want::default() };
        let said = bed.refusal(&want);
        for part in expected {
            assert!(said.contains(part), "{said}");
        }
    };
    let store = "store it with `vessl credential create NAME --kind hf` and name it in `credential_name`";
    check(
        &private,
        None,
        &["there is no model `owner/name` at", "or it is private (401: Repository not found)", store],
    );
    check(
        &private,
        Some("hf_wr0ng"),
        &[
            "may not be read (401: Invalid credentials in Authorization header)",
            "token of the credential `mine`",
        ],
    );
    check(&private, Some("a\nb"), &["the token of the credential `mine` cannot be used"]);
    let page = format!("accept its conditions at `{}/owner/name`", gated.endpoint());
    check(&gated, None, &["is gated; ", &page, store]);
    check(&gated, Some(TOKEN), &["is gated; the account of the credential `mine` has no access", &page]);
    let want = Want { id: "owner/other", token: Some(TOKEN), ..Want::default() };
    let said = private.refusal(&want);
    assert!(said.contains("or it is private (404: Repository not found); check the token"), "{said}");
}
