//! Plans for tests.
use vessl_core::ids::{Nonce, ProjectRef, RunId};
use vessl_core::plan::{Amounts, Bounds, ImagePlan, PLAN_VERSION, Plan};
use vessl_core::spec::Item;
use vessl_core::units::Span;

/// A plan that runs `commands` on the machine's own root.
pub(crate) fn plan(commands: &[&str]) -> Plan {
    let item = |command: &&str| Item { command: Some((*command).to_owned()), workdir: None, wait: None };
    Plan {
        v: PLAN_VERSION,
        run: RunId(369_367_189_168),
        attempt: 1,
        nonce: Nonce(9),
        instance: "0badcafe".to_owned(),
        name: "test".to_owned(),
        project: ProjectRef::new("org", "project"),
        cluster: "local".into(),
        nodes: Vec::new(),
        preset: None,
        resources: Amounts { cpu_milli: 1000, memory: 1_000_000_000, gpus: 0, gpu_type: None },
        image: ImagePlan::Host,
        image_digest: None,
        imports: Vec::new(),
        mounts: Vec::new(),
        exports: Vec::new(),
        items: commands.iter().map(item).collect(),
        shell: vessl_core::spec::Shell::default(),
        env: Vec::new(),
        ports: Vec::new(),
        interactive: None,
        max_runtime: None,
        termination_protection: false,
        grace: Span(30_000),
        export_limit: Span(60_000),
        bounds: Bounds::default(),
        no_new_privs: false,
        placement: None,
        fence: None,
    }
}
