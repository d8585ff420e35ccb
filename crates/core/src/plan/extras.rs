//! The rest of a run file: commands, ports, sessions, and what has no effect on this version or cluster.
use super::report::{Code, Report};
use super::{Cluster, PortPlan, Stamp};
use crate::spec::{JUPYTER_PORT, Port, PortKind, SESSION_PORTS, Spec};
use crate::units::Span;

/// Reports what cannot be carried out, and notes what has no effect.
pub(super) fn check(spec: &Spec, cluster: Option<&Cluster>, report: &mut Report) {
    if spec.interactive.is_none() && spec.run.is_empty() && spec.image.url.starts_with("host://") {
        report
            .error(Code::NoCommand, "image", "there is nothing to run: `host://` has no program of its own")
            .hint("add `run: [{command: …}]`");
    }
    if !spec.ports.is_empty() && cluster.is_some_and(|cluster| cluster.host_network) {
        report.warn(
            Code::HostPorts,
            "ports",
            "runs of this cluster have the network of the machine: two of them cannot use the same port at the same time",
        );
    }
    if spec.ports.iter().any(|port| port.kind == PortKind::Udp) {
        report.warn(
            Code::NoEffect,
            "ports",
            "`udp` ports are not reached from outside in this version: only what runs in the same run finds them",
        );
    }
    if spec.service_account_name.as_deref().is_some_and(|name| !name.is_empty()) {
        report.warn(
            Code::NoEffect,
            "service_account_name",
            "`service_account_name` means something on Kubernetes alone",
        );
    }
}

/// Longest time of the commands: what was asked for, as far as the cluster allows it, else what it gives.
pub(super) fn max_runtime(
    spec: &Spec,
    stamp: &Stamp<'_>,
    cluster: Option<&Cluster>,
    report: &mut Report,
) -> Option<Span> {
    let of_file = spec.interactive.as_ref().and_then(|interactive| interactive.max_runtime);
    let (default, limit) =
        cluster.map_or((None, None), |cluster| (cluster.default_max_runtime, cluster.max_runtime_limit));
    let Some(asked) = stamp.max_runtime.or(of_file) else { return default.or(limit) };
    match limit {
        Some(limit) if asked.0 == 0 || asked.0 > limit.0 => {
            let path = if stamp.max_runtime.is_some() { "" } else { "interactive.max_runtime" };
            let what =
                if asked.0 == 0 { "no time limit".to_owned() } else { format!("a time limit of {asked}") };
            report
                .error(
                    Code::OverTimeLimit,
                    path,
                    format!("{what} was asked for, and no run may take longer than {limit} here"),
                )
                .hint(format!(
                    "ask for at most `{limit}` (`max_runtime_limit` in the settings of the server)"
                ));
            None
        }
        _ => Some(asked).filter(|asked| asked.0 > 0),
    }
}

/// The ports in the file's order; Jupyter of a session before them.
pub(super) fn ports(spec: &Spec) -> Vec<PortPlan> {
    let jupyter = PortPlan { name: "jupyter".to_owned(), kind: PortKind::Http, port: JUPYTER_PORT };
    let jupyter = spec.interactive.is_some().then_some(jupyter);
    // The file may name what a session has anyway.
    let is_other = |port: &&Port| {
        spec.interactive.is_none() || port.kind == PortKind::Udp || !SESSION_PORTS.contains(&port.port)
    };
    let plan = |port: &Port| PortPlan { name: port.name.clone(), kind: port.kind, port: port.port };
    jupyter.into_iter().chain(spec.ports.iter().filter(is_other).map(plan)).collect()
}
