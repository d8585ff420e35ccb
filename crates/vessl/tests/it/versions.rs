//! Versions of the registry: what is damaged is not served.
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::test::{Test, files_below};

/// The head and the body of what the server answers to a request for a file of the dataset `big`.
fn content(test: &Test, path: &str) -> (String, Vec<u8>) {
    let read = |name: &str| std::fs::read_to_string(test.data().join(name)).unwrap();
    let server: Value = serde_json::from_str(&read("server.json")).unwrap();
    let mut stream =
        UnixStream::connect(server["url"].as_str().unwrap().trim_start_matches("unix://")).unwrap();
    let path = format!("/v1/organizations/default/objects/dataset/big/versions/1/files/content?path={path}");
    let token = read("token");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        token.trim()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = memchr::memmem::find(&answer, b"\r\n\r\n").unwrap();
    (String::from_utf8(answer[..end].to_vec()).unwrap(), answer.split_off(end + 4))
}

#[test]
fn a_damaged_file_is_not_served() {
    let test = Test::new();
    let bytes: Vec<u8> = (0..600_000_u32).flat_map(u32::to_le_bytes).collect();
    test.file("d/alone", &bytes);
    test.vessl(["dataset", "create", "big"]).ok();
    test.vessl(["dataset", "upload", "big", "d/.", "/"]).ok();
    let (head, body) = content(&test, "alone");
    assert!(head.starts_with("HTTP/1.1 200 ") && body == bytes, "{head}");
    let size = bytes.len() as u64;
    let stored = files_below(&test.data().join("blobs"));
    let blob = stored.iter().find(|path| path.metadata().unwrap().len() == size).unwrap();
    let file = std::fs::File::options().write(true).open(blob).unwrap();
    file.write_all_at(&[bytes[1_000_000] ^ 1], 1_000_000).unwrap();
    let (head, body) = content(&test, "alone");
    let said = String::from_utf8_lossy(&body).into_owned();
    assert!(head.starts_with("HTTP/1.1 500 ") && said.contains("the files are lost"), "{head} {said}");
    test.vessl(["dataset", "download", "big", "alone", "back"]).code(5).says(&["the files are lost"]);
    assert!(!test.path("back").exists());
}
