//! The rest of a run file: commands, ports, sessions, and what has no effect on this version or cluster.
use super::PortPlan;
use super::report::{Code, Report};
use crate::spec::{Port, Spec};

/// Reports what cannot be carried out, and notes what has no effect.
pub(super) fn check(spec: &Spec, report: &mut Report) {
    if spec.interactive.is_some() {
        report
            .error(
                Code::Unsupported,
                "interactive",
                "interactive runs are not possible in this version: there is no way into the container",
            )
            .hint("remove `interactive` to run the commands as a batch run");
    } else if spec.run.is_empty() && spec.image.url.starts_with("host://") {
        report
            .error(Code::NoCommand, "image", "there is nothing to run: `host://` has no program of its own")
            .hint("add `run: [{command: …}]`");
    }
    if !spec.ports.is_empty() {
        report.warn(
            Code::HostPorts,
            "ports",
            "in this version the ports of a run are ports of the machine: two runs cannot use the same number at the same time",
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

/// The ports in the file's order.
pub(super) fn ports(ports: &[Port]) -> Vec<PortPlan> {
    ports.iter().map(|port| PortPlan { name: port.name.clone(), kind: port.kind, port: port.port }).collect()
}
