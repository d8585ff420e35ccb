//! The pages of the guide say what happens: their run files are run as they stand, in directories of a test.
use std::path::Path;

use crate::test::Test;

const DAILY: &str = include_str!("../../../../docs/daily.md");
const FAILING: &str = include_str!("../../../../docs/failing-early.md");
const CACHES: &str = include_str!("../../../../docs/caches.md");

/// The first block of a page that begins with `first`.
fn block<'p>(page: &'p str, kind: &str, first: &str) -> &'p str {
    let begin = format!("```{kind}\n");
    let mut blocks = page.split(&begin).skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find(|block| block.starts_with(first)).unwrap_or_else(|| panic!("no {kind} begins with `{first}`"))
}

/// A text in which each of the `changes` has something to change.
fn changed(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "no `{from}` in {text}");
        text.replace(from, to)
    })
}

/// A program that writes a result, and something beside itself where it may.
fn write_program(project: &Path, version: &str) {
    let text = format!(
        "import os, sys\nopen(sys.argv[2] + '/result', 'w').write(os.environ['LR'] + ' {version}')\n\
         try: open('beside', 'w').write('x')\nexcept OSError as error: print(error.strerror)\n"
    );
    std::fs::create_dir_all(project).unwrap();
    std::fs::write(project.join("train.py"), text).unwrap();
}

/// The id of a run of `file`, and what it exported as its result.
fn result(test: &Test, file: &str, more: &[&str]) -> (String, String) {
    let args = ["run", "create", "-f", "-", "--strict", "--wait", "--output", "json"];
    let run = test.vessl_with(args.iter().chain(more), file.as_bytes()).ok();
    assert!(!run.stderr.contains("note["), "{}", run.stderr);
    let id = run.json()["id"].to_string();
    test.vessl(["run", "download", &id, &id, "--path", "/output"]).ok();
    let text = std::fs::read_to_string(test.path(&id).join("result")).unwrap();
    (id, text)
}

#[test]
fn the_daily_loop_runs_the_code_as_it_is_now() {
    let test = Test::new();
    let project = test.path("project");
    let shown = project.display().to_string();
    test.file("../config/vessl/server.toml", format!("hostpath_roots = [{shown:?}]\n"));
    let on_machine = changed(block(DAILY, "yaml", "name: daily\n"), &[("/home/you/project", &shown)]);
    let changes = [("/home/you/project", shown.as_str()), ("python:3.12-slim", "host://")];
    let in_image = changed(block(DAILY, "yaml", "name: daily-in-an-image\n"), &changes);
    for (version, file) in [("first", &on_machine), ("second", &on_machine), ("third", &in_image)] {
        write_program(&project, version);
        assert_eq!(result(&test, file, &[]).1, format!("1e-3 {version}"));
        assert!(!project.join("beside").exists(), "a run wrote into the project");
    }
    let (before, _) = result(&test, &on_machine, &[]);
    let (after, text) = result(&test, &on_machine, &["-e", "LR=3e-4"]);
    assert_eq!(text, "3e-4 third");
    test.vessl(["run", "compare", &before, &after]).ok().prints(&[&before, "1e-3", &after, "3e-4"]);
}

#[test]
fn strict_runs_fail_early_and_others_do_not() {
    let test = Test::new();
    let commands = [("pip install -r requirements.txt", "false"), ("python train.py", "false")];
    let unseen = changed(block(FAILING, "text", "run:"), &commands).replace("/output/log", "/dev/null");
    let unseen = format!("name: x\nimage: host://\n{unseen}");
    let create = ["run", "create", "-f", "-", "--wait"];
    test.vessl_with(create, unseen.as_bytes()).ok().says(&["note[unseen-failure]"]);
    test.vessl_with(create.iter().chain(&["--strict"]), unseen.as_bytes()).code(1);
    let changes = [("python:3.12-slim", "host://"), commands[0], ("python train.py", "echo never")];
    let seen = changed(block(FAILING, "yaml", "name: strict\n"), &changes);
    let done = test.vessl_with(["run", "create", "-f", "-", "--watch"], seen.as_bytes()).code(1);
    assert_eq!(done.stdout, "");
}

#[test]
fn a_cache_outlives_its_run() {
    let test = Test::new();
    let cache = test.path("cache");
    std::fs::create_dir(&cache).unwrap();
    let shown = cache.display().to_string();
    test.file("../config/vessl/server.toml", format!("hostpath_roots = [{shown:?}]\n"));
    let fill = "for dir in $PIP_CACHE_DIR $UV_CACHE_DIR $HF_HOME; do mkdir -p $dir; cat $dir/* 2>/dev/null || true; echo $SEED > $dir/kept; done";
    let changes = [
        ("/srv/cache", shown.as_str()),
        ("python:3.12-slim", "host://"),
        ("pip install -r requirements.txt", fill),
        ("python train.py", "true"),
    ];
    let file = changed(block(CACHES, "yaml", "name: with-caches\n"), &changes);
    let run = |seed: &str| {
        let create = ["run", "create", "-f", "-", "--watch", "-e"].map(str::to_owned);
        let args = create.into_iter().chain([format!("SEED={seed}")]);
        test.vessl_with(args, file.as_bytes()).ok().stdout
    };
    assert_eq!(run("first"), "");
    assert_eq!(run("second"), "first\n".repeat(3));
    for name in ["pip", "uv", "huggingface"] {
        assert_eq!(std::fs::read_to_string(cache.join(name).join("kept")).unwrap(), "second\n");
    }
}
