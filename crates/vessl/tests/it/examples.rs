//! The examples do what they say, on real input: code and data from a repository, a model and its metrics back.
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::registry::Registry;
use crate::test::{Done, Test};

/// The examples as a repository of their own in the working directory of a test.
fn checkout(test: &Test) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let script = "cp -r \"$EXAMPLES\" examples && git init -q -b main . && git add examples && \
                  git -c user.name=a -c user.email=a@example.org commit -q -m examples";
    let mut shell = Command::new("sh");
    shell
        .args(["-ec", script])
        .current_dir(test.path(""))
        .env("EXAMPLES", examples)
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    assert!(shell.status().unwrap().success());
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Brings the results of a run back and looks at them.
fn check_results(test: &Test, run: &Done) {
    let run = run.json();
    let id = run["id"].to_string();
    assert!(run["imports"][0]["bytes"].as_u64().unwrap() > 100_000, "{run}");
    assert_eq!(run["exports"][0]["files"], 2, "{run}");
    test.vessl(["run", "logs", &id]).ok().prints(&["455 tumours to learn from", "area under the curve"]);
    test.vessl(["run", "download", &id, "results", "--path", "/output"]).ok();
    let metrics = json(&test.path("results/metrics.json"));
    assert!(metrics["test"]["accuracy"].as_f64().unwrap() > 0.9, "{metrics}");
    assert!(metrics["test"]["auc"].as_f64().unwrap() > 0.95, "{metrics}");
    let model = json(&test.path("results/model.json"));
    assert_eq!(
        (model["features"].as_array().unwrap().len(), model["weights"].as_array().unwrap().len()),
        (30, 30)
    );
}

#[test]
fn the_quickstart_needs_no_registry() {
    let test = Test::new();
    checkout(&test);
    let run =
        test.vessl(["run", "create", "-f", "examples/quickstart.yaml", "--wait", "--output", "json"]).ok();
    check_results(&test, &run);
}

/// Debian with Python, made once by debootstrap from the machine's own package source, as the tree `root` of `dir`.
fn debian(dir: &Path) {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-python.tar");
    let script = r#"mkdir root
        if [ ! -f "$KEPT" ]; then
            site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Codename: bookworm' 'Component: main' | head -n 1)
            debootstrap --variant=minbase --include=python3 bookworm made $site
            rm -rf made/var/cache/apt made/var/lib/apt/lists
            tar -C made -cf "$KEPT.new" . && mv "$KEPT.new" "$KEPT"
        fi
        tar -C root -xf "$KEPT""#;
    let mut shell = Command::new("sh");
    let done = shell.args(["-ec", script]).current_dir(dir).env("KEPT", kept).output();
    let done = done.unwrap();
    assert!(
        done.status.success(),
        "cannot make Debian (packages `debootstrap`, `tar`): {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn the_same_in_a_private_image_from_a_registry() {
    let test = Test::new();
    checkout(&test);
    let dir = test.path("registry");
    let registry = Registry::start(&dir);
    debian(&dir);
    registry.push(&dir);
    test.vessl_with(
        ["credential", "create", "my-registry", "--kind", "registry", "--username", "robot"],
        registry.password.as_bytes(),
    )
    .ok();
    let example = std::fs::read_to_string(test.path("examples/container.yaml")).unwrap();
    let image = "image: python:3.12-slim";
    assert!(example.contains(image), "{example}");
    let private = format!("image: {{url: '{}/team/box:1', credential_name: my-registry}}", registry.address);
    test.file("examples/container.yaml", example.replace(image, &private));
    let run =
        test.vessl(["run", "create", "-f", "examples/container.yaml", "--wait", "--output", "json"]).ok();
    check_results(&test, &run);
    assert_eq!(test.leaks(&registry.password), Vec::<String>::new());
}
