//! Every field and every form of the run file: what is written, and what it means.
use serde_json::{Value, json};
use vessl_core::spec::EnvValue;
use vessl_core::wire::Level;

use crate::schema::complaints;
use crate::support::read;

/// A file with this `body` beside its name and image means `expected` at `pointer` of the run. Its warnings are
/// `code: hint`, in order.
fn check_warned(body: &str, pointer: &str, expected: &Value, warnings: &[&str]) {
    let head = if body.starts_with("image:") { "name: x\n" } else { "name: x\nimage: i\n" };
    let text = format!("{head}{body}\n");
    let read = read(&text);
    let Some(spec) = read.spec else { panic!("refused:\n{text}{:#?}", read.problems) };
    let spec = serde_json::to_value(spec).expect("a run is JSON");
    assert_eq!(spec.pointer(pointer), Some(expected), "{pointer} of\n{text}");
    assert!(read.problems.iter().all(|problem| problem.level != Level::Error));
    let found: Vec<_> = read
        .problems
        .iter()
        .filter(|problem| problem.level == Level::Warning)
        .map(|problem| format!("{}: {}", problem.code, problem.hint.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!(found, warnings, "warnings of\n{text}");
    // An editor that knows the schema has nothing to say against it.
    assert_eq!(complaints(&text), [""; 0], "{text}");
}

/// The same for a file without warnings.
fn check(body: &str, pointer: &str, expected: &Value) {
    check_warned(body, pointer, expected, &[]);
}

#[test]
fn what_is_left_out_has_its_default() {
    let spec = read("name: x\nimage: i\n").spec.expect("name and image are enough");
    let expected = json!({
        "name": "x", "description": null, "tags": [],
        "resources": {"cluster": null, "node_names": [], "preset": null, "requests": null, "spot": false},
        "image": {"url": "i", "credential_name": null},
        "import": {}, "mount": {}, "export": {}, "run": [], "interactive": null, "ports": [], "env": {},
        "service_account_name": null, "termination_protection": false,
    });
    assert_eq!(serde_json::to_value(spec).expect("a run is JSON"), expected);
}

#[test]
fn a_key_without_a_value_is_no_key() {
    for key in
        ["description", "tags", "resources", "import", "mount", "export", "run", "ports", "env", "volumes"]
    {
        let (bare, without) = (read(&format!("name: x\nimage: i\n{key}:\n")), read("name: x\nimage: i\n"));
        assert!(bare.problems.is_empty(), "{:#?}", bare.problems);
        assert_eq!(bare.spec, without.spec, "`{key}`");
    }
}

#[test]
fn metadata() {
    check("description: some words", "/description", &json!("some words"));
    check("description: ''", "/description", &json!(""));
    check("description: |\n  one\n  two", "/description", &json!("one\ntwo\n"));
    check("tags: [best, A100-80g, 20, 0.10, on]", "/tags", &json!(["best", "A100-80g", "20", "0.10", "on"]));
    check("tags:\n- \"best\"\n- 'two words'", "/tags", &json!(["best", "two words"]));
    check("tags: []", "/tags", &json!([]));
    for name in ["1", "on", "null ", "a b c", "실행 😀", "{x}"] {
        let text = format!("name: \"{name}\"\nimage: i\n");
        assert_eq!(read(&text).spec.map(|spec| spec.name).as_deref(), Some(name));
    }
    let longest = "é".repeat(253);
    assert!(read(&format!("name: {longest}\nimage: i\n")).spec.is_some());
    assert!(read(&format!("name: {longest}é\nimage: i\n")).spec.is_none());
}

#[test]
fn resources() {
    let check = |body: &str, pointer: &str, expected: Value| {
        check(&format!("resources: {{{body}}}"), &format!("/resources/{pointer}"), &expected);
    };
    check("cluster: local", "cluster", json!("local"));
    check("node_names: [a, 'b c']", "node_names", json!(["a", "b c"]));
    check("preset: gpu-1", "preset", json!("gpu-1"));
    check("preset: 1", "preset", json!("1"));
    check("spot: true", "spot", json!(true));
    check("spot: off", "spot", json!(false));
    check(
        "requests: {}",
        "requests",
        json!({"cpu": null, "memory": null, "disk": null, "nvidia.com/gpu": null, "nvidia.com/mig": null}),
    );
}

#[test]
fn amounts() {
    let check = |key: &str, text: &str, expected: u64| {
        let pointer = format!("/resources/requests/{key}");
        check(&format!("resources: {{requests: {{{key}: {text}}}}}"), &pointer, &json!(expected));
    };
    for (text, milli) in
        [("4", 4000), ("\"4\"", 4000), ("\"0.5\"", 500), ("0.5", 500), ("500m", 500), ("1.25", 1250)]
    {
        check("cpu", text, milli);
    }
    let sizes =
        [("16", 16_000_000_000), ("\"16\"", 16_000_000_000), ("0.5", 500_000_000), ("12Gi", 12 << 30)];
    for (text, bytes) in sizes {
        check("memory", text, bytes);
        check("disk", text, bytes);
    }
}

#[test]
fn gpus() {
    let check = |text: &str, device: Value, quantity: u64| {
        for key in ["nvidia.com/gpu", "nvidia.com/mig"] {
            let body = format!("resources:\n  requests:\n    {key}: {text}");
            let at = format!("/resources/requests/{}", key.replace('/', "~1"));
            check(
                &body,
                &at,
                &json!({"device_type": device, "quantity": quantity, "mig_resource_type": null}),
            );
        }
    };
    check("{device_type: A100, quantity: 1}", json!("A100"), 1);
    check("{device_type: NVIDIA-A100-SXM4-80GB, quantity: \"8\"}", json!("NVIDIA-A100-SXM4-80GB"), 8);
    check("{device_type: \"\", quantity: 2}", Value::Null, 2);
    check("{device_type: any, quantity: 2}", Value::Null, 2);
    check("{device_type: Any, quantity: 2}", Value::Null, 2);
    check("{quantity: 2}", Value::Null, 2);
    let body = "resources:\n  requests:\n    nvidia.com/mig: {quantity: 1, mig_resource_type: 1g.10gb}";
    super::fields::check(body, "/resources/requests/nvidia.com~1mig/mig_resource_type", &json!("1g.10gb"));
}

#[test]
fn old_resources() {
    let check = |key: &str, text: &str, at: &str, expected: Value, modern: &str| {
        let warning = format!("old-resources: write `resources: {{requests: {{{modern}}}}}`");
        let pointer = format!("/resources/requests/{at}");
        check_warned(&format!("resources: {{{key}: {text}}}"), &pointer, &expected, &[&warning]);
    };
    check("cpu", "1", "cpu", json!(1000), "cpu: 1");
    check("memory", "16Gi", "memory", json!(16_u64 << 30), "memory: 16Gi");
    check("disk", "10Gi", "disk", json!(10_u64 << 30), "disk: 10Gi");
    let gpu = |device: &str, n: u64| json!({"device_type": device, "quantity": n, "mig_resource_type": null});
    let modern = "nvidia.com/gpu: {device_type: T4, quantity: 1}";
    check("accelerators", "T4:1", "nvidia.com~1gpu", gpu("T4", 1), modern);
    check("accelerators", "T4", "nvidia.com~1gpu", gpu("T4", 1), modern);
    let modern = "nvidia.com/gpu: {device_type: NVIDIA-A100-SXM4-80GB, quantity: 8}";
    check(
        "accelerators",
        "NVIDIA-A100-SXM4-80GB:8",
        "nvidia.com~1gpu",
        gpu("NVIDIA-A100-SXM4-80GB", 8),
        modern,
    );
}

#[test]
fn images() {
    let digest = format!("quay.io/a/b@sha256:{}", "0".repeat(64));
    let urls = [
        "i",
        "ubuntu:22.04",
        "quay.io/a/b:c",
        "127.0.0.1:5000/a:b",
        &digest,
        "oci:///srv/layout",
        "oci:///srv/save.tar:tag",
        "host://",
    ];
    for url in urls {
        check(&format!("image: {url}"), "/image", &json!({"url": url, "credential_name": null}));
        check(&format!("image: {{url: '{url}'}}"), "/image", &json!({"url": url, "credential_name": null}));
        let named = format!("image: {{url: '{url}', credential_name: c}}");
        check(&named, "/image", &json!({"url": url, "credential_name": "c"}));
    }
    check("image: host:///", "/image/url", &json!("host://"));
}

/// `section: {/p: value}` means `expected` there.
fn check_data(section: &str, value: &str, expected: &Value) {
    check(&format!("{section}:\n  /p: {value}"), &format!("/{section}/~1p"), expected);
}

fn dataset() -> Value {
    json!({"dataset": {"organization_name": "o", "dataset_name": "d"}})
}

fn model(number: Option<u64>) -> Value {
    json!({"model": {"organization_name": "o", "model_repository_name": "r", "model_number": number}})
}

fn artifact(organization: Option<&str>, project: Option<&str>) -> Value {
    json!({"artifact": {"organization_name": organization, "project_name": project, "name": "a"}})
}

fn s3(prefix: &str) -> Value {
    json!({"s3": {"bucket": "b", "prefix": prefix, "endpoint": null, "region": null, "credential_name": null}})
}

fn gs(prefix: &str) -> Value {
    json!({"gs": {"bucket": "b", "prefix": prefix, "endpoint": null, "credential_name": null}})
}

fn volume(name: Option<&str>) -> Value {
    json!({"volume": {"storage_name": "s", "volume_name": name}})
}

/// The kinds that several sections take, in all their forms.
fn shared_forms(section: &str) {
    let buckets = [("s3", s3 as fn(&str) -> Value), ("gs", gs)];
    for (key, value) in buckets {
        check_data(section, &format!("{key}://b"), &value(""));
        check_data(section, &format!("{key}://b/x/y/"), &value("x/y"));
        check_data(section, &format!("{{{key}: {{bucket: b}}}}"), &value(""));
        check_data(section, &format!("{{{key}: {{bucket: b, prefix: /x/y/}}}}"), &value("x/y"));
    }
    let full = json!({"s3": {"bucket": "b", "prefix": "p", "endpoint": "http://e:9000", "region": "r", "credential_name": "c"}});
    check_data(
        section,
        "{s3: {bucket: b, prefix: p, endpoint: 'http://e:9000', region: r, credential_name: c}}",
        &full,
    );
    let full = json!({"gs": {"bucket": "b", "prefix": "p", "endpoint": "e", "credential_name": "c"}});
    check_data(section, "{gs: {bucket: b, prefix: p, endpoint: e, credential_name: c}}", &full);
    check_data(section, "vessl-dataset://o/d", &dataset());
    check_data(section, "vessl-dataset://o/d/", &dataset());
    check_data(section, "{dataset: {organization_name: o, dataset_name: d}}", &dataset());
    check_data(section, "vessl-artifact://o/p/a", &artifact(Some("o"), Some("p")));
    check_data(
        section,
        "{artifact: {organization_name: o, project_name: p, name: a}}",
        &artifact(Some("o"), Some("p")),
    );
    check_data(
        section,
        "{artifact: {organization_name: o, project_name: p, artifact_name: a}}",
        &artifact(Some("o"), Some("p")),
    );
    check_data(section, "{artifact: {name: a}}", &artifact(None, None));
    check_data(section, "{artifact: {project_name: p, name: a}}", &artifact(None, Some("p")));
    volumes(section);
}

fn volumes(section: &str) {
    check_data(section, "volume://s", &volume(None));
    check_data(section, "volume://s/v/", &volume(Some("v")));
    check_data(section, "{volume: s/v}", &volume(Some("v")));
    check_data(section, "{volume: {storage_name: s}}", &volume(None));
    check_data(section, "{volume: {storage_name: s, volume_name: v}}", &volume(Some("v")));
}

#[test]
fn imports() {
    shared_forms("import");
    check_data("import", "vessl-model://o/r/3", &model(Some(3)));
    check_data(
        "import",
        "{model: {organization_name: o, model_repository_name: r, model_number: 3}}",
        &model(Some(3)),
    );
    check_data(
        "import",
        "{model: {organization_name: o, model_repository_name: r, model_number: \"3\"}}",
        &model(Some(3)),
    );
    let warning = "no-name: write `vessl-artifact://organization/project/name`";
    for bare in ["vessl-artifact://", "{artifact: }", "{artifact: {}}"] {
        check_warned(&format!("import: {{/p: {bare}}}"), "/import/~1p", &json!("injected"), &[warning]);
    }
    let body = "import: {/p: vessl-artifact://a}";
    check_warned(body, "/import/~1p", &artifact(None, None), &["no-name: write `artifact: {name: a}`"]);
}

#[test]
fn git() {
    let git = |url: &str, reference: Option<&str>, credential: Option<&str>| json!({"git": {"url": url, "ref": reference, "credential_name": credential}});
    let plain = |url: &str| git(url, None, None);
    check_data("import", "git://github.com/x/y", &plain("https://github.com/x/y"));
    let bare = json!({"git": {"url": "https://h.com/x/y", "ref": null, "credential_name": null, "submodules": false, "lfs": false}});
    check_data("import", "{git: {url: h.com/x/y, submodules: false, lfs: no}}", &bare);
    check_data("import", "{git: {url: h.com/x/y, submodules: true}}", &plain("https://h.com/x/y"));
    check_data("import", "git://github.com/x/y.git/", &plain("https://github.com/x/y.git"));
    let urls = [
        ("github.com/x/y", "https://github.com/x/y"),
        ("git://github.com/x/y", "https://github.com/x/y"),
        ("https://github.com/x/y.git", "https://github.com/x/y.git"),
        ("http://127.0.0.1:3000/x", "http://127.0.0.1:3000/x"),
        ("ssh://git@host:22/x/y", "ssh://git@host:22/x/y"),
        ("git@host:x/y", "git@host:x/y"),
        ("file:///srv/repo", "file:///srv/repo"),
    ];
    for (url, expected) in urls {
        check_data("import", &format!("{{git: {{url: '{url}'}}}}"), &plain(expected));
        let body = format!("import:\n  /p: {{git: '{url}'}}");
        let warning = format!("short-form: write `git: {{url: {url}}}`");
        check_warned(&body, "/import/~1p", &plain(expected), &[&warning]);
    }
    for reference in ["main", "v1.0", "feature/x", "c0ffee", "0777", "1e5"] {
        let value = format!("{{git: {{url: h.com/x/y, ref: {reference}, credential_name: c}}}}");
        check_data("import", &value, &git("https://h.com/x/y", Some(reference), Some("c")));
    }
    check_data("import", "{git: {url: h.com/x/y, ref: , credential_name: }}", &plain("https://h.com/x/y"));
}

#[test]
fn hugging_face() {
    let hf = |url: &str, reference: Option<&str>, credential: Option<&str>| json!({"hf": {"url": url, "ref": reference, "credential_name": credential}});
    for url in ["huggingface.co/o/n", "huggingface.co/n", "huggingface.co/datasets/o/n"] {
        check_data("import", &format!("hf://{url}"), &hf(url, None, None));
        for prefix in ["", "hf://", "https://"] {
            check_data("import", &format!("{{hf: {{url: '{prefix}{url}'}}}}"), &hf(url, None, None));
        }
        let value = format!("{{hf: {{url: {url}, ref: main, credential_name: c}}}}");
        check_data("import", &value, &hf(url, Some("main"), Some("c")));
    }
}

#[test]
fn mounts() {
    let mount = |source: Value, readonly: bool| json!({"source": source, "readonly": readonly});
    let hostpath = |path: &str| json!({"hostpath": {"path": path}});
    let nfs = |path: &str| json!({"nfs": {"server": "10.0.0.1", "path": path}});
    for (value, source) in [
        ("hostpath:///abs/path/", hostpath("/abs/path")),
        ("hostpath://abs/path", hostpath("/abs/path")),
        ("hostpath:///", hostpath("/")),
        ("{hostpath: {path: /abs}}", hostpath("/abs")),
        ("nfs://10.0.0.1/export/path", nfs("/export/path")),
        ("nfs://10.0.0.1", nfs("/")),
        ("nfs://[fd00::1]/e", json!({"nfs": {"server": "[fd00::1]", "path": "/e"}})),
        ("{nfs: {server: 10.0.0.1, path: /export}}", nfs("/export")),
        ("vessl-dataset://o/d", dataset()),
        ("{dataset: {organization_name: o, dataset_name: d}}", dataset()),
        ("volume://s/v", volume(Some("v"))),
        ("{volume: {storage_name: s}}", volume(None)),
    ] {
        check_data("mount", value, &mount(source, true));
    }
    for (text, flag) in
        [("true", true), ("false", false), ("yes", true), ("off", false), ("\"false\"", false)]
    {
        for value in [
            format!("{{nfs: {{server: 10.0.0.1, path: /e}}, readonly: {text}}}"),
            format!("{{nfs: {{server: 10.0.0.1, path: /e, readonly: {text}}}}}"),
            format!("{{nfs: {{server: 10.0.0.1, path: /e}}, options: {{readonly: {text}}}}}"),
        ] {
            check_data("mount", &value, &mount(nfs("/e"), flag));
        }
    }
    let writable = "mount: {/p: {dataset: {organization_name: o, dataset_name: d}, readonly: false}}";
    let warning = "dataset-readonly: import it to get a copy that can be written";
    check_warned(writable, "/mount/~1p", &mount(dataset(), true), &[warning]);
}

#[test]
fn exports() {
    shared_forms("export");
    check_data("export", "vessl-model://o/r", &model(None));
    check_data("export", "{model: {organization_name: o, model_repository_name: r}}", &model(None));
    for bare in ["vessl-artifact://", "vessl-artifact:///", "{artifact: }", "{artifact: {}}"] {
        check_data("export", bare, &json!("output"));
    }
    let warning = "no-name: write `artifact: {name: a}`";
    check_warned("export: {/p: vessl-artifact://a}", "/export/~1p", &artifact(None, None), &[warning]);
    let space = "white-space: write `vessl-dataset://o/d`";
    check_warned("export: {/p: vessl-dataset:// o/d}", "/export/~1p", &dataset(), &[space]);
}

#[test]
fn paths() {
    for section in ["import", "export"] {
        for path in ["/a/b", "/a/b/", "//a//b", "/a/./b"] {
            check(&format!("{section}: {{{path}: s3://b}}"), &format!("/{section}/~1a~1b"), &s3(""));
        }
    }
    let both = "import: {/p/: s3://b}\nexport: {/p: s3://b}";
    check(both, "/import/~1p", &s3(""));
    check(both, "/export/~1p", &s3(""));
}

#[test]
fn old_volumes() {
    let git = json!({"git": {"url": "https://github.com/x/y", "ref": null, "credential_name": null}});
    let tagged = json!({"git": {"url": "https://github.com/x/y", "ref": "v1", "credential_name": null}});
    let hostpath = json!({"source": {"hostpath": {"path": "/d"}}, "readonly": true});
    let nfs = json!({"source": {"nfs": {"server": "s", "path": "/d"}}, "readonly": true});
    for (value, section, expected, modern) in [
        ("git://github.com/x/y", "import", git.clone(), "git://github.com/x/y"),
        ("s3://b/p", "import", s3("p"), "s3://b/p"),
        ("gs://b/p", "import", gs("p"), "gs://b/p"),
        ("vessl-dataset://o/d", "import", dataset(), "vessl-dataset://o/d"),
        ("vessl-model://o/r/3", "import", model(Some(3)), "vessl-model://o/r/3"),
        ("vessl-artifact://o/p/a", "import", artifact(Some("o"), Some("p")), "vessl-artifact://o/p/a"),
        ("volume://s/v", "import", volume(Some("v")), "volume://s/v"),
        ("hostpath:///d", "mount", hostpath.clone(), "hostpath:///d"),
        ("nfs://s/d", "mount", nfs, "nfs://s/d"),
        ("{artifact: true}", "export", json!("output"), "vessl-artifact://"),
        ("{import: 'git://github.com/x/y'}", "import", git.clone(), "git://github.com/x/y"),
        (
            "{import: 'git://github.com/x/y', ref: v1}",
            "import",
            tagged,
            "{git: {url: git://github.com/x/y, ref: v1}}",
        ),
        ("{export: 's3://b/p'}", "export", s3("p"), "s3://b/p"),
        ("{git: {url: github.com/x/y}}", "import", git, "{…}"),
        ("{hostpath: {path: /d}, readonly: true}", "mount", hostpath.clone(), "{…}"),
    ] {
        let warning = format!("old-volumes: write `{section}: {{/p/: {modern}}}`");
        let pointer = format!("/{section}/~1p");
        check_warned(&format!("volumes:\n  /p/: {value}"), &pointer, &expected, &[&warning]);
    }
}

#[test]
fn commands() {
    let item = |command: Option<&str>, workdir: Option<&str>, wait: Option<u64>| json!({"command": command, "workdir": workdir, "wait": wait});
    let check = |run: &str, items: &[Value]| check(&format!("run: {run}"), "/run", &json!(items));
    check("[]", &[]);
    check("/repo/run.sh", &[item(Some("/repo/run.sh"), None, None)]);
    check("|\n  a\n  b", &[item(Some("a\nb\n"), None, None)]);
    check("['']", &[]);
    check("[a, 'b  c']", &[item(Some("a"), None, None), item(Some("b  c"), None, None)]);
    check("\n- command: a", &[item(Some("a"), None, None)]);
    check("\n- {command: a, workdir: /w}", &[item(Some("a"), Some("/w"), None)]);
    check("\n- {command: a, wait: 1h30m}", &[item(Some("a"), None, Some(5_400_000))]);
    check("\n- wait: 10s", &[item(None, None, Some(10_000))]);
    check("\n- wait: 0", &[item(None, None, Some(0))]);
    let mixed = "\n- |-\n  a {x} {{ y }} <<Z>> $B\n- command: >-\n    b\n    c\n- wait: 5s\n- d";
    let expected = [
        item(Some("a {x} {{ y }} <<Z>> $B"), None, None),
        item(Some("b c"), None, None),
        item(None, None, Some(5000)),
        item(Some("d"), None, None),
    ];
    check(mixed, &expected);
    for (text, ms) in
        [("24h", 86_400_000), ("120m", 7_200_000), ("1.5h", 5_400_000), ("250ms", 250), ("2d", 172_800_000)]
    {
        check(&format!("[{{wait: {text}}}]"), &[item(None, None, Some(ms))]);
    }
}

#[test]
fn interactive() {
    let limits = |max: Option<u64>, idle: Option<u64>| json!({"max_runtime": max, "idle_timeout": idle});
    let hours = |n: u64| Some(n * 3_600_000);
    let check =
        |text: &str, expected: Value| check(&format!("interactive: {text}"), "/interactive", &expected);
    check("", limits(None, None));
    check("{}", limits(None, None));
    check("{max_runtime: 24h, jupyter: {idle_timeout: 120m}}", limits(hours(24), hours(2)));
    check("{max_runtime: 0, jupyter: {idle_timeout: 0}}", limits(None, None));
    check("{max_runtime: \"8h\"}", limits(hours(8), None));
    check("{jupyter: {idle_timeout: 8h}}", limits(None, hours(8)));
    check("{max_runtime: 24h, jupyter: }", limits(hours(24), None));
    let slip = "jupyter-slip: write `jupyter: {idle_timeout: 120m}`";
    let body = "interactive:\n  max_runtime: 24h\n  jupyter:\n  idle_timeout: 120m";
    check_warned(body, "/interactive", &limits(hours(24), hours(2)), &[slip]);
    let old = "old-interactive: write `interactive: {max_runtime: 24h, jupyter: {idle_timeout: 120m}}`";
    check_warned("interactive: {runtime: 24h}", "/interactive", &limits(hours(24), hours(2)), &[old]);
    let ports = "old-interactive: write `ports` at the top of the file";
    let body = "interactive: {runtime: 24h, ports: [8501]}";
    check_warned(body, "/interactive", &limits(hours(24), hours(2)), &[old, ports]);
    check_warned(
        body,
        "/ports",
        &json!([{"name": "port-8501", "type": "http", "port": 8501}]),
        &[old, ports],
    );
}

#[test]
fn ports() {
    let port = |name: &str, kind: &str, port: u16| json!({"name": name, "type": kind, "port": port});
    let check = |text: &str, ports: &[Value]| check(&format!("ports: {text}"), "/ports", &json!(ports));
    check("[]", &[]);
    check(
        "[8000, \"9000\", 1, 65535]",
        &[
            port("port-8000", "http", 8000),
            port("port-9000", "http", 9000),
            port("port-1", "http", 1),
            port("port-65535", "http", 65535),
        ],
    );
    check("[{port: 8000}]", &[port("port-8000", "http", 8000)]);
    check("[{name: web, type: http, port: 8000}]", &[port("web", "http", 8000)]);
    check("[{name: 4999, type: TCP, port: \"4999\"}]", &[port("4999", "tcp", 4999)]);
    check(
        "[{type: udp, port: 53}, {type: tcp, port: 53}]",
        &[port("port-53", "udp", 53), port("port-53", "tcp", 53)],
    );
    check("[22, 8888]", &[port("port-22", "http", 22), port("port-8888", "http", 8888)]);
    let twice = "duplicate-port: keep one of them";
    let body = "ports: [8000, {name: web, port: 8000}, {name: other, port: 8000}]";
    check_warned(body, "/ports", &json!([port("web", "http", 8000)]), &[twice, twice]);
    let body = "interactive: {}\nports: [22]";
    check_warned(body, "/ports", &json!([port("port-22", "http", 22)]), &["implicit-port: remove it"]);
}

#[test]
fn variables_are_their_source_text() {
    let texts = [
        "text",
        "1",
        "1e-4",
        "0.10",
        "0.0010",
        "on",
        "Yes",
        "true",
        "0777",
        "0o17",
        "0x1F",
        "1_000",
        "12:30:00",
        "2024-01-01",
        ".inf",
        "-1",
        "+1",
        "a b",
        "a#b",
        "http://x/y?z=1",
        "$HOME",
        "100%",
    ];
    for text in texts {
        for written in
            [text.to_owned(), format!("'{text}'"), format!("\"{text}\""), format!("{{value: '{text}'}}")]
        {
            check(&format!("env:\n  A: {written}"), "/env/A", &json!({"text": text}));
        }
        check(&format!("env:\n  A: {{value: {text}}}"), "/env/A", &json!({"text": text}));
    }
    for empty in ["''", "\"\"", "{value: ''}"] {
        check(&format!("env:\n  A: {empty}"), "/env/A", &json!({"text": ""}));
    }
    let warning = "empty-variable: write `\"\"` if that is meant; remove the variable, or give it at submit with `{source: inject}`, if not";
    for nothing in ["", "null", "~", "{value: }", "{value: null}"] {
        check_warned(&format!("env:\n  A: {nothing}"), "/env/A", &json!({"text": ""}), &[warning]);
    }
    for text in ["'null'", "\"~\""] {
        check(&format!("env:\n  A: {text}"), "/env/A", &json!({"text": text.trim_matches(['"', '\''])}));
    }
    check(
        "env:\n  A: >-\n    one\n    two\n  B: |\n    x",
        "/env",
        &json!({"A": {"text": "one two"}, "B": {"text": "x\n"}}),
    );
    check("env: {\"a b\": 1, 'learning.rate': 2, 실행: 3}", "/env/a b", &json!({"text": "1"}));
    let quoted = "placeholder: put the real value there, unless it is meant as it stands";
    check_warned("env: {A: '{NAME}'}", "/env/A", &json!({"text": "{NAME}"}), &[quoted]);
    check("env: {A: '{\"k\": 1}'}", "/env/A", &json!({"text": "{\"k\": 1}"}));
}

#[test]
fn secrets() {
    let check = |text: &str, expected: Value| check(&format!("env: {{KEY: {text}}}"), "/env/KEY", &expected);
    check("{secret: NAME}", json!({"secret": "NAME"}));
    check("{secret: true}", json!({"secret": "KEY"}));
    check("{secret: 'true'}", json!({"secret": "true"}));
    check("{source: secret}", json!({"secret": "KEY"}));
    check("{source: secret, secret: NAME}", json!({"secret": "NAME"}));
    check("{source: secret, secret: true}", json!({"secret": "KEY"}));
    let masked = |text: &str, expected: &str| {
        check(text, json!({"masked": "…"}));
        let spec = read(&format!("name: x\nimage: i\nenv: {{KEY: {text}}}\n")).spec.expect("a good file");
        assert_eq!(spec.env["KEY"], EnvValue::Masked(expected.into()), "{text}");
    };
    masked("{value: X, secret: true}", "X");
    masked("{value: X, secret: yes}", "X");
    masked("{value: 0.10, secret: true}", "0.10");
    check("{value: X, secret: false}", json!({"text": "X"}));
    check("{value: X, secret: }", json!({"text": "X"}));
    check("{value: , secret: true}", json!({"secret": "KEY"}));
    check("{source: text, value: X}", json!({"text": "X"}));
    masked("{source: text, value: X, secret: true}", "X");
    check("{source: inject}", json!("inject"));
    check("{source: inject, secret: true}", json!("injectsecret"));
}

#[test]
fn variables_keep_their_order() {
    let spec = read("name: x\nimage: i\nenv: {B: 1, A: 2, C: 3}\n").spec.expect("a good file");
    assert_eq!(spec.env.keys().collect::<Vec<_>>(), ["B", "A", "C"]);
}

#[test]
fn extras() {
    check("termination_protection: true", "/termination_protection", &json!(true));
    check("termination_protection: no", "/termination_protection", &json!(false));
    check("service_account_name: robot", "/service_account_name", &json!("robot"));
    check("service_account_name: ''", "/service_account_name", &json!(""));
}

#[test]
fn aliases_and_merge_keys() {
    let body = "env: &e {A: 1, B: 2}\nrun:\n- &c {command: a, workdir: /w}\n- {<<: *c, command: b}\n- *c";
    check(body, "/run/1", &json!({"command": "b", "workdir": "/w", "wait": null}));
    check(body, "/run/2", &json!({"command": "a", "workdir": "/w", "wait": null}));
    let body = "run:\n- &a {command: a, wait: 1s}\n- &b {command: b, workdir: /w}\n- {<<: [*a, *b]}";
    check(body, "/run/2", &json!({"command": "a", "workdir": "/w", "wait": 1000}));
    check("image: &i some\nenv: {A: *i}", "/env/A", &json!({"text": "some"}));
}

#[test]
fn texts_of_many_editors() {
    for (text, what) in [
        ("\u{feff}name: x\nimage: i\n", "a byte order mark"),
        ("name: x\r\nimage: i\r\n", "Windows line ends"),
        ("name: x\nimage: i", "no line end"),
        ("# words\n---\nname : x\nimage :   i # words\n...\n", "document marks and comments"),
        ("%YAML 1.2\n---\nname: x\nimage: i\n", "a directive"),
        ("{name: x, image: i}", "flow style"),
        ("{\"name\": \"x\", \"image\": \"i\"}", "JSON"),
        ("name: !!str x\nimage: !!str i\n", "tags of text"),
    ] {
        let read = read(text);
        assert_eq!(
            read.spec.map(|spec| (spec.name, spec.image.url)),
            Some(("x".to_owned(), "i".to_owned())),
            "{what}"
        );
        assert!(read.problems.is_empty(), "{what}: {:#?}", read.problems);
    }
}
