//! What a run used, and the plans of the runs that are made from it: again, and exactly.
use std::collections::BTreeMap;

use vessl_core::ids::{ProjectRef, RunId};
use vessl_core::object::ObjectName;
use vessl_core::plan::{Amounts, Catalogue, ImagePlan, ImportSource, MountFrom, Plan, Planned};
use vessl_core::provenance::{
    Facts, Submitted, Used, attempt, changed_secrets, given_again, pin, qualify, variables,
};
use vessl_core::record::Transfer;
use vessl_core::secret::Secret;
use vessl_core::spec::{self, Spec};
use vessl_core::wire::{AttemptUsed, Level};

use crate::plan_cases::{catalogue, lines, planned, spec_of};
use crate::support::{accepted, plan_spec};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER: &str = "89abcdef0123456789abcdef0123456789abcdef";
const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

const BODY: &str = "image: python:3.12\n\
    import:\n  /a: vessl-artifact://weights\n  /c: {git: {url: h.com/x/y, ref: main}}\n  /d: vessl-dataset://acme/mnist\n  \
    /h: hf://huggingface.co/o/n\n  /m: vessl-model://acme/llama/7\n  /s: s3://b/p\n  /v: volume://lab/home\n\
    mount: {/md: vessl-dataset://acme/mnist, /mh: 'hostpath:///data/x', /mv: volume://filer/home, /n: nfs://h/p}";

fn told(path: &str, version: &str) -> Transfer {
    Transfer { path: path.to_owned(), version: Some(version.to_owned()), ..Transfer::default() }
}

/// What the agent told of an attempt that got everything.
fn all() -> Vec<Transfer> {
    vec![
        told("/a", "ab12"),
        told("/c", COMMIT),
        told("/d", "cd34"),
        told("/h", OTHER),
        told("/m", "ef56"),
        told("/s", "picture"),
        told("/v", ""),
        told("/md", "cd34"),
    ]
}

fn used(plan: &Plan, number: u32, digest: Option<&str>, imports: &[Transfer]) -> AttemptUsed {
    attempt(
        plan,
        &Facts { number, node: Some("box".to_owned()), gpus: vec![1], image_digest: digest, imports },
    )
}

fn plan_of(spec: &Spec, inject: &[(String, Secret)], site: &Catalogue) -> Planned {
    plan_spec(spec, inject, site).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// Everything of a plan that can be pinned, a line each.
fn pins(plan: &Plan) -> Vec<String> {
    let image = match (&plan.image, &plan.image_digest) {
        (ImagePlan::Layout { path, .. }, digest) => {
            format!("image {path} {}", digest.as_deref().unwrap_or("-"))
        }
        (image, _) => format!("image {}", image.label()),
    };
    let imports = plan.imports.iter().map(|import| {
        let what = match &import.source {
            ImportSource::Git { reference, .. } => reference.clone(),
            ImportSource::Tree { manifest, .. } => Some(manifest.clone()),
            ImportSource::Hf(hf) => hf.revision.clone(),
            ImportSource::Bucket(_) | ImportSource::Volume(_) => None,
        };
        let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        format!("{} {} {}", import.path, or(&what), or(&import.expected))
    });
    let mounts = plan.mounts.iter().filter_map(|mount| match &mount.source {
        MountFrom::Tree { manifest, .. } => Some(format!("{} {manifest}", mount.path)),
        _ => None,
    });
    std::iter::once(image).chain(imports).chain(mounts).collect()
}

/// The catalogue after the dataset, the artifact and the model repository went on, and some of their versions went away.
fn later(gone: &[&str]) -> Catalogue {
    let mut site = catalogue();
    for (name, versions) in &mut site.objects {
        if !versions.is_empty() {
            versions.insert(9, format!("new-{}", name.name));
        }
        versions.retain(|_, manifest| !gone.contains(&manifest.as_str()));
    }
    site
}

fn of<'a>(attempts: &'a [AttemptUsed], amounts: &'a Amounts, site: &'a Catalogue) -> Used<'a> {
    Used { run: RunId(7), attempts, amounts, objects: &site.objects }
}

#[test]
fn an_attempt_shows_what_it_used() {
    let plan = planned(BODY).plan;
    let used = used(&plan, 2, Some(DIGEST), &all());
    let rows: Vec<String> = used
        .sources
        .iter()
        .map(|source| {
            let version = source.version.as_deref().unwrap_or("-");
            let how = if source.mounted { "mounted" } else { "imported" };
            let asked = source.asked.as_deref().unwrap_or("-");
            format!("{} {how} {} {asked} {:?} {version}", source.path, source.source, source.kind)
        })
        .collect();
    assert_eq!(
        rows,
        [
            "/a imported vessl-artifact://acme/vision/weights - Manifest ab12",
            &format!("/c imported https://h.com/x/y main Commit {COMMIT}"),
            "/d imported vessl-dataset://acme/mnist - Manifest cd34",
            &format!("/h imported hf://huggingface.co/o/n - Commit {OTHER}"),
            "/m imported vessl-model://acme/llama/7 - Manifest ef56",
            "/s imported s3://b/p - Picture picture",
            "/v imported volume://lab/home - Live -",
            "/md mounted vessl-dataset://acme/mnist - Manifest cd34",
            "/mh mounted hostpath:///data/x - Live -",
            "/mv mounted volume://filer/home - Live -",
            "/n mounted nfs://h/p - Live -",
        ]
    );
    assert_eq!((used.image.digest.as_deref(), used.image.live), (Some(DIGEST), false));
    assert_eq!((used.attempt, used.node.as_deref(), used.gpus.as_slice()), (2, Some("box"), &[1][..]));
}

#[test]
fn every_version_is_pinned_and_what_has_none_is_noted() {
    let before = planned(BODY).plan;
    let attempts = [used(&before, 1, Some(DIGEST), &all())];
    let site = later(&[]);
    let now = plan_of(&spec_of(BODY), &[], &site).plan;
    assert_eq!(pins(&now)[1], "/a new-weights -", "names are looked up anew");
    let (pinned, notes) = pin(&now, &of(&attempts, &before.resources, &site)).unwrap();
    assert_eq!(
        pins(&pinned),
        [
            format!("image python:3.12@{DIGEST}"),
            "/a ab12 ab12".to_owned(),
            format!("/c {COMMIT} {COMMIT}"),
            "/d cd34 cd34".to_owned(),
            format!("/h {OTHER} {OTHER}"),
            "/m ef56 ef56".to_owned(),
            "/s - picture".to_owned(),
            "/v - -".to_owned(),
            "/md cd34".to_owned(),
        ]
    );
    assert_eq!(
        lines(&notes, Level::Note),
        [
            "live import./v: `volume://lab/home` has no versions: the run gets it as it is now",
            "live mount./mh: `/data/x` has no versions: the run gets it as it is now",
            "live mount./mv: `volume://filer/home` has no versions: the run gets it as it is now",
            "live mount./n: `nfs://h/p` has no versions: the run gets it as it is now",
        ]
    );
    // The exact re-run of an exact re-run is the same.
    let again = [used(&pinned, 1, Some(DIGEST), &all())];
    assert_eq!(pin(&now, &of(&again, &before.resources, &site)).unwrap().0, pinned);
}

/// Pins `body` to what this attempt told; the lines of the plan, or of the reasons.
fn check(
    body: &str,
    digest: Option<&str>,
    imports: &[Transfer],
    site: &Catalogue,
    expected: Result<&[&str], &[&str]>,
) {
    let before = planned(body).plan;
    let attempts = [used(&before, 1, digest, imports)];
    let now = plan_of(&spec_of(body), &[], site).plan;
    let found = pin(&now, &of(&attempts, &before.resources, site));
    let found = found.map(|(plan, _)| pins(&plan)).map_err(|reasons| lines(&reasons, Level::Error));
    let texts = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert_eq!(found, expected.map(texts).map_err(texts), "{body}");
}

#[test]
fn what_cannot_be_pinned_is_refused_with_its_place() {
    const NEXT: &str = " | make the run without `--exact`: its names are looked up anew";
    let refused = |body: &str, digest: Option<&str>, imports: &[Transfer], site: &Catalogue, why: &str| {
        check(body, digest, imports, site, Err(&[&format!("not-pinned {why}{NEXT}")]));
    };
    let (git, s3) = ("import: {/c: {git: {url: h.com/x/y}}}", "import: {/s: s3://b/p}");
    let far = "run 7 did not get as far as";
    refused(
        "run: a",
        None,
        &[],
        &later(&[]),
        "image: run 7 never had its image `busybox`: it is not known which one that was",
    );
    refused(
        git,
        Some(DIGEST),
        &[],
        &later(&[]),
        &format!("import./c: {far} `https://h.com/x/y`: no version of it is known"),
    );
    refused(
        s3,
        Some(DIGEST),
        &[],
        &later(&[]),
        &format!("import./s: {far} `s3://b/p`: no version of it is known"),
    );
    let failed =
        Transfer { path: "/s".to_owned(), error: Some("no such bucket".to_owned()), ..Transfer::default() };
    refused(
        s3,
        Some(DIGEST),
        &[failed],
        &later(&[]),
        "import./s: run 7 could not get `s3://b/p`: no such bucket",
    );
    refused(
        "mount: {/d: vessl-dataset://acme/mnist}",
        Some(DIGEST),
        &[],
        &later(&["cd34"]),
        "mount./d: the version of `vessl-dataset://acme/mnist` that run 7 used (`cd34`) has been deleted",
    );
    // All reasons at once.
    let both = "import: {/c: {git: {url: h.com/x/y}}, /s: s3://b/p}";
    let before = planned(both).plan;
    let attempts = [used(&before, 1, None, &[])];
    let reasons = pin(&before, &of(&attempts, &before.resources, &catalogue())).unwrap_err();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
}

#[test]
fn what_is_pinned_by_the_file_needs_no_record() {
    let image = format!("image: python@{DIGEST}\nrun: a");
    check(&image, None, &[], &later(&[]), Ok(&[&format!("image python@{DIGEST}")]));
    let git = format!("import: {{/c: {{git: {{url: h.com/x/y, ref: {COMMIT}}}}}}}");
    check(
        &git,
        Some(DIGEST),
        &[],
        &later(&[]),
        Ok(&[&format!("image busybox@{DIGEST}"), &format!("/c {COMMIT} -")]),
    );
    let tree = "import: {/d: vessl-dataset://acme/mnist}";
    check(tree, Some(DIGEST), &[], &later(&[]), Ok(&[&format!("image busybox@{DIGEST}"), "/d cd34 cd34"]));
    let layout = "image: oci:///images/x\nrun: a";
    check(layout, Some(DIGEST), &[], &later(&[]), Ok(&[&format!("image /images/x {DIGEST}")]));
}

#[test]
fn the_last_attempt_that_got_everything_is_repeated() {
    let body = "import: {/c: {git: {url: h.com/x/y}}}";
    let before = planned(body).plan;
    let attempts = [
        used(&before, 1, Some(DIGEST), &[told("/c", OTHER)]),
        used(&before, 2, Some(DIGEST), &[told("/c", COMMIT)]),
        used(&before, 3, Some(DIGEST), &[]),
    ];
    let amounts = Amounts { cpu_milli: 1000, memory: 1 << 30, gpus: 0, gpu_type: None };
    let (plan, notes) = pin(&before, &of(&attempts, &amounts, &catalogue())).unwrap();
    assert_eq!(pins(&plan)[1], format!("/c {COMMIT} {COMMIT}"));
    assert_eq!(
        lines(&notes, Level::Note),
        [
            "other-amounts resources: run 7 had 1 core, 1.0 GiB of memory; this run gets 2 cores, 8.0 GiB of memory",
            "earlier-attempt : attempt 2 of run 7 is repeated: those after it did not get everything",
        ]
    );
}

/// The same plan comes of the canonical file and what has to be given again.
fn same(body: &str, inject: &[(&str, &str)]) -> Planned {
    let inject: Vec<(String, Secret)> =
        inject.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    let first = plan_of(&spec_of(body), &inject, &catalogue());
    let mut hidden = spec_of(body);
    spec::hide(&mut hidden);
    let yaml = spec::print(&hidden);
    let mut spec = accepted(&yaml);
    let submitted = Submitted { plan: &first.plan, stored: &first.needs.stored, given: &first.needs.literal };
    let again = given_again(&mut spec, submitted);
    let second = plan_of(&spec, &again, &catalogue());
    assert_eq!(second.plan, first.plan, "{body}");
    assert_eq!(second.needs, first.needs, "{body}");
    second
}

#[test]
fn what_was_given_at_submit_is_given_again() {
    let body = "env:\n  TEXT: a\n  OVER: a\n  OPEN: {source: inject}\n  STORED: {secret: db-password}\n  NAMED: {value: HF_TOKEN, secret: true}\n  \
                LITERAL: {value: hunter2, secret: true}\n  EMPTY: {value: '', secret: true}\n  MINE: {secret: db-password}\n  \
                ASKED: {source: inject, secret: true}";
    let inject = [
        ("OVER", "b"),
        ("OPEN", "c"),
        ("MORE", "d"),
        ("MINE", "hunter3"),
        ("ASKED", "hunter4"),
        ("OVER", "e"),
    ];
    let again = same(body, &inject);
    let literal: Vec<&str> = again.needs.literal.keys().map(String::as_str).collect();
    assert_eq!(literal, ["ASKED", "LITERAL", "MINE"]);
    same("env: {A: b}", &[]);
    same("run: a", &[("A", ""), ("VESSL_RUN_ID", "x")]);
    same(BODY, &[("A", "b")]);
}

#[test]
fn variables_say_where_their_values_are_from() {
    let body = "env:\n  TEXT: a\n  STORED: {secret: db-password}\n  LITERAL: {value: hunter2, secret: true}\n  OLD: {value: hunter3, secret: true}";
    let got = planned(body);
    let given = BTreeMap::from([("OLD".to_owned(), RunId(7))]);
    let shown = serde_json::to_value(variables(&got.plan, &got.needs.stored, &given)).unwrap();
    let expected = serde_json::json!({
        "TEXT": {"text": "a"}, "STORED": {"secret": "db-password"}, "LITERAL": {"given": 123}, "OLD": {"given": 7}
    });
    assert_eq!(shown, expected);
}

#[test]
fn a_secret_that_was_stored_again_is_noted() {
    let secrets = BTreeMap::from([("A".to_owned(), "old".to_owned()), ("B".to_owned(), "new".to_owned())]);
    let at = |text: &str| text.parse().unwrap();
    let stored = BTreeMap::from([
        ("old".to_owned(), at("2024-05-01T00:00:00Z")),
        ("new".to_owned(), at("2024-05-03T00:00:00Z")),
    ]);
    let notes = changed_secrets(&secrets, &stored, at("2024-05-02T00:00:00Z"));
    assert_eq!(
        lines(&notes, Level::Note),
        ["secret-changed env.B: the secret `new` was stored again since; the run gets the value of now"]
    );
}

#[test]
fn names_in_full_mean_the_same_in_another_project() {
    let mut spec = spec_of("import: {/a: {artifact: {name: weights}}, /b: vessl-artifact://o/p/x}");
    qualify(&mut spec, &ProjectRef::new("acme", "vision"));
    let names: Vec<ObjectName> = vessl_core::plan::named_objects(&spec, &ProjectRef::new("other", "project"))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["vessl-artifact://acme/vision/weights", "vessl-artifact://o/p/x"]);
}
