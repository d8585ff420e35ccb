//! `vessl configure` and what wins over what.
use std::os::unix::fs::PermissionsExt;

use crate::test::Test;

#[test]
fn settings_are_kept_private_and_shown_without_the_token() {
    let test = Test::new();
    let file = test.path("../config/vessl/config.toml");
    let set = test.vessl_with(["configure", "server", "http://127.77.77.77:9"], b"tok-3141\n").ok();
    assert!(!set.stdout.contains("3141") && !set.stderr.contains("3141"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    test.vessl(["configure", "project", "vision"]).ok();
    let shown = test.vessl(["configure", "list", "--output", "json"]).ok().json();
    assert_eq!(shown["server"], "http://127.77.77.77:9");
    assert_eq!(shown["token_is_set"], true);
    assert!(!shown.to_string().contains("3141"));
    assert_eq!(shown["project"], "vision");
    test.vessl(["run", "list"]).code(4).says(&["127.77.77.77:9"]);
    test.vessl(["configure", "reset"]).ok().prints(&["the one of this machine"]);
    assert!(!std::fs::read_to_string(&file).unwrap().contains("3141"));
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let test = Test::new().env("VESSL_SERVER", "http://127.77.77.77:8");
    test.vessl_with(["configure", "server", "http://127.77.77.77:9"], b"t").ok();
    test.vessl(["whoami"]).code(4).says(&["127.77.77.77:8"]);
    test.vessl(["whoami", "--server", "http://127.77.77.77:7"]).code(4).says(&["127.77.77.77:7"]);
}

#[test]
fn whoami_shows_what_commands_use() {
    let test = Test::new();
    test.vessl(["configure", "project", "foo"]).ok();
    let shown = test.vessl(["whoami", "--output", "json"]).ok().says(&["warning: ", "`default/foo`"]).json();
    assert_eq!((&shown["organization"], &shown["project"]), (&"default".into(), &"foo".into()));
    test.vessl(["run", "list"]).code(5).says(&["`default/foo`"]);
    let shown = test.vessl(["whoami", "--project", "default", "--output", "json"]).ok();
    assert!(!shown.stderr.contains("warning"), "{}", shown.stderr);
    assert_eq!(shown.json()["project"], "default");
}

#[test]
fn a_wrong_settings_file_is_named() {
    let test = Test::new();
    test.file("../config/vessl/config.toml", "servre = \"x\"\n");
    test.vessl(["whoami"]).code(2).says(&["config.toml", "servre"]);
}

#[test]
fn others_who_can_read_the_token_are_mentioned() {
    let test = Test::new();
    let file =
        test.file("../config/vessl/config.toml", "server = \"http://127.77.77.77:9\"\ntoken = \"t\"\n");
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o644)).unwrap();
    test.vessl(["whoami"]).code(4).says(&["chmod 600"]);
}

#[test]
fn a_data_directory_does_not_depend_on_where_the_command_is_called() {
    let test = Test::new().env("VESSL_DATA", "here");
    for args in [["whoami"].as_slice(), &["server", "status"], &["server", "run"]] {
        test.vessl(args).code(2).says(&["`VESSL_DATA` is not an absolute path: `here`", "/var/lib/vessl"]);
    }
    assert!(!test.path("here").exists());
}

#[test]
fn the_servers_own_settings_say_where_its_data_is() {
    let test = Test::new();
    let data = test.data();
    test.file("../config/vessl/server.toml", format!("data_dir = \"{}\"\n", data.display()));
    // Without the variable, as most people are.
    let bare = |args: &[&str]| {
        let mut command = std::process::Command::new("env");
        command.args(["-u", "VESSL_DATA"]).arg(test.program()).args(args);
        test.start_command(command).finish()
    };
    bare(&["whoami"]).ok().says(&["started a server", &data.display().to_string()]);
    assert!(data.join("token").exists());
    // What else is wrong in it is nothing to the clients of a server that runs.
    let wrong = format!("hostpath_root = 1\nlisten = 1\ndata_dir = \"{}\"\n", data.display());
    test.file("../config/vessl/server.toml", wrong);
    bare(&["run", "list"]).ok();
    bare(&["server", "stop"]).ok().says(&["stopped the server"]);
    bare(&["whoami"]).code(4).says(&["did not start", "server.toml:1:1", "hostpath_root"]);
    test.file("../config/vessl/server.toml", "not TOML\n");
    bare(&["server", "status"]).code(2).says(&["config/vessl/server.toml:1:5` is wrong"]);
    test.vessl(["server", "status"]).code(4);
    test.file("../config/vessl/server.toml", "data_dir = \"here\"\n");
    bare(&["whoami"]).code(2).says(&["data_dir", "absolute"]);
    test.file("../config/vessl/server.toml", "");
}

#[test]
fn a_machine_may_have_several_clusters() {
    let test = Test::new();
    let settings = "[[clusters]]\nname = \"side\"\ncpu = \"100m\"\nmemory = \"256Mi\"\n";
    test.file("../config/vessl/server.toml", settings);
    let file = test.file(
        "a.yaml",
        "name: a\nimage: host://\nresources: {cluster: side, requests: {cpu: 50m, memory: 64Mi}}\nrun:\n  - echo here\n",
    );
    let run =
        test.vessl(["run", "create", "-f", &file.display().to_string(), "--wait", "--output", "json"]).ok();
    assert_eq!(run.json()["cluster"], "side");
    test.vessl(["cluster", "list"]).ok().prints(&["side", "local"]);
    test.vessl(["image", "list", "--cluster", "side"]).ok();
    test.vessl(["image", "list", "--cluster", "sid"]).code(5).says(&["`sid`", "side"]);
    test.vessl(["server", "stop"]).ok();
    test.file("../config/vessl/server.toml", settings.replace("100m", "9999"));
    let said = ["server.toml:3:1", "clusters[0].cpu", "it leaves nothing of this machine"];
    test.vessl(["cluster", "list"]).code(4).says(&said);
}

#[test]
fn a_run_says_what_it_gets_and_why_it_is_more_than_it_asks_for() {
    let test = Test::new();
    let run = |more: &[&str], requests: &str| {
        let file =
            format!("name: a\nimage: host://\nresources: {{requests: {{{requests}}}}}\nrun: echo here\n");
        test.vessl_with(["run", "create", "-f", "-"].iter().chain(more), file.as_bytes()).ok()
    };
    run(&[], "cpu: 50m, memory: 64Mi").prints(&["Resources", "0.05 CPU, 64.0 MiB on `local`"]);
    run(&["--watch"], "cpu: 50m, memory: 64Mi").says(&["`a` gets 0.05 CPU, 64.0 MiB on `local`; Ctrl-C"]);
    test.vessl(["server", "stop"]).ok();
    let settings = "[[presets]]\nname = \"tiny\"\ncpu = \"100m\"\nmemory = \"128Mi\"\n";
    let settings = test.file("../config/vessl/server.toml", settings).canonicalize().unwrap();
    let done = run(&[], "cpu: 50m, memory: 64Mi").prints(&["0.1 CPU, 128 MiB (preset `tiny`) on `local`"]);
    done.says(&[
        "note[preset-chosen]: the requests (0.05 cores, 64.0 MiB of memory) were rounded up to preset `tiny`: 0.1 cores, 128.0 MiB",
        "--> standard input:3:23",
        &format!("stand in `{}`: change them there (`presets`)", settings.display()),
    ]);
    let done = run(&[], "cpu: 100m, memory: 128Mi").prints(&["(preset `tiny`)"]);
    assert!(!done.stderr.contains("note"), "{}", done.stderr);
}

#[test]
fn without_a_home_of_its_own_nothing_is_started() {
    let check = |test: &Test, home: Option<&str>, expected: &[&str]| {
        let mut command = std::process::Command::new(test.program());
        test.as_its_user(&mut command);
        test.world(command.args(["run", "list"])).env_remove("VESSL_DATA").env_remove("HOME");
        command.envs(home.map(|home| ("HOME", home)));
        let said = command.output().unwrap();
        let text = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(2), "{home:?}: {text}");
        assert!(expected.iter().all(|part| text.contains(part)), "{home:?}: {text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("error")).count(), 1, "{text}");
        assert!(text.contains("VESSL_DATA"), "{text}");
    };
    let test = Test::ordinary();
    for unset in [None, Some(""), Some("here")] {
        check(&test, unset, &["`HOME` is not set to an absolute path"]);
    }
    let missing = test.path("missing");
    check(&test, Some(missing.to_str().unwrap()), &["which does not exist"]);
    assert!(!missing.exists(), "a home directory was made");
    if nix::unistd::geteuid().is_root() {
        check(&test, Some("/"), &["`HOME` is `/`, which is the home directory of another user (0)"]);
        check(
            &Test::new(),
            Some(test.path("").to_str().unwrap()),
            &["is the home directory of another user"],
        );
        let readonly = test.path("readonly");
        std::fs::create_dir(&readonly).unwrap();
        let user = std::fs::metadata(test.path("")).unwrap();
        std::os::unix::fs::chown(&readonly, Some(std::os::unix::fs::MetadataExt::uid(&user)), None).unwrap();
        std::fs::set_permissions(&readonly, PermissionsExt::from_mode(0o555)).unwrap();
        let named = format!("`{}`: Permission denied", readonly.display());
        check(&test, Some(readonly.to_str().unwrap()), &["cannot be used", &named]);
    }
}
