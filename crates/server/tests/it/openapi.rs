//! The committed `OpenAPI` document is the one that the routes make.
use std::path::Path;

#[test]
fn the_committed_document_is_the_one_of_the_routes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi/v1.json");
    let made = vessl_server::openapi();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "openapi/v1.json is not what the routes say; if the change is meant, run\n\
         UPDATE_OPENAPI=1 cargo nextest run -p vessl-server openapi\n\
         commit the file, and write a line into CHANGELOG.md"
    );
}
