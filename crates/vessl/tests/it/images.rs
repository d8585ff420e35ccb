//! Images from a private registry on loopback.
use crate::registry::Registry;
use crate::specs::{head, item};
use crate::test::Test;

#[test]
fn a_private_image_is_pulled_with_a_credential_and_run() {
    pull_and_run(&Test::new());
}

#[test]
fn an_ordinary_user_pulls_and_runs_it_as_well() {
    pull_and_run(&Test::ordinary());
    pull_and_run(&Test::with_ids());
}

fn pull_and_run(test: &Test) {
    let dir = test.path("registry");
    let registry = Registry::start(&dir);
    registry.fill(&dir);
    let image = format!("{}/team/box:1", registry.address);
    let store = "`vessl credential create NAME --kind registry --username USER`";
    test.vessl(["image", "pull", &image]).code(5).says(&["team/box", store, "`--credential-name NAME`"]);
    test.vessl_with(
        ["credential", "create", "reg", "--kind", "registry", "--username", "robot"],
        registry.password.as_bytes(),
    )
    .ok();
    let other = ["image", "pull", &image, "--credential-name", "regg"];
    test.vessl(other).code(5).says(&["`regg`", "there is `reg`; or store it"]);
    let pulled =
        test.vessl(["image", "pull", &image, "--credential-name", "reg", "--output", "json"]).ok().json();
    assert_eq!((pulled["reference"].as_str(), pulled["layers"].as_u64()), (Some(image.as_str()), Some(1)));
    let listed = test.vessl(["image", "list", "--output", "json"]).ok().json();
    assert_eq!(listed[0]["digest"], pulled["digest"]);
    test.vessl(["image", "read", pulled["id"].as_str().unwrap()]).ok().prints(&[&image]);
    let yaml = format!(
        "{}{}",
        head(&format!("{{url: '{image}', credential_name: reg}}")),
        item("echo $FROM_IMAGE in $PWD")
    );
    let id = test.wait(&yaml).ok().json()["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "yes in /bin\n");
    assert_eq!(test.read(&id)["image_digest"], pulled["digest"], "what the name meant for the run");
    let again = ["run", "create", "--from", &id, "--exact", "--wait", "--output", "json"];
    let exact = test.vessl(again).ok().json();
    let pinned = format!("{image}@{}", pulled["digest"].as_str().unwrap());
    assert_eq!((&exact["image"], &exact["image_digest"]), (&pinned.into(), &pulled["digest"]), "{exact}");
    let missing = yaml.replace("box:1", "box:2");
    let run = test.wait(&missing).code(1).json();
    assert!(run["reason"].as_str().unwrap().contains("box:2"), "{run}");
    let using = test.create(&yaml.replace("echo $FROM_IMAGE", "echo ready; sleep 1000; echo $FROM_IMAGE"));
    test.until_log(&using, "ready");
    let freed = test.vessl(["image", "prune", "--output", "json"]).ok().json();
    assert_eq!((freed["images"].as_u64(), freed["layers"].as_u64()), (Some(1), Some(0)), "{freed}");
    test.vessl(["run", "terminate", &using, "--grace", "0"]).ok();
    test.until_end(&using);
    let freed = test.vessl(["image", "prune", "--output", "json"]).ok().json();
    assert_eq!((freed["images"].as_u64(), freed["layers"].as_u64()), (Some(1), Some(1)), "{freed}");
    assert_eq!(test.vessl(["image", "list", "--output", "json"]).ok().json(), serde_json::json!([]));
    assert_eq!(test.leaks(&registry.password), Vec::<String>::new());
    // As `docs/install.md` says: then an ordinary user can remove it all.
    test.vessl(["server", "stop"]).ok();
    let mut remove = std::process::Command::new("rm");
    remove.arg("-r").arg(test.data());
    test.start_command(remove).finish().ok();
    assert!(!test.data().exists());
}
