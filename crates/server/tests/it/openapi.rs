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

/// What stands in a path is a part of it, and nothing else is.
#[test]
fn parameters_are_where_they_are_said_to_be() {
    let document: serde_json::Value = serde_json::from_str(&vessl_server::openapi()).unwrap();
    let mut queries = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for operation in operations.as_object().unwrap().values() {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let in_path = path.contains(&format!("{{{}}}", parameter["name"].as_str().unwrap()));
                let expected = if in_path { "path" } else { "query" };
                assert_eq!(parameter["in"], expected, "{path} {parameter}");
                queries += usize::from(!in_path);
            }
        }
    }
    assert!(queries > 10, "only {queries} query parameters were found");
}
