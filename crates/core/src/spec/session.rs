//! `interactive` and `ports`: how people reach a run while it is running.
use super::fields::{At, Fields, Reader};
use super::keys;
use super::problem::{Code, Report};
use super::syntax::clip;
use super::tree::Kind;
use super::types::{Interactive, Port, PortKind, SESSION_PORTS};
use crate::units::Span;

/// Idle limit that the dialect of 2023 meant with `runtime` alone: two hours.
const OLD_IDLE: Span = Span(2 * 3_600_000);

const SPAN_FORM: &str = "a duration such as `24h`, `120m` or `0` for no limit";
const PORTS_FORM: &str = "a list such as `[8000]` or `[{name: web, type: http, port: 8000}]`";

/// Reads both keys.
pub(super) fn read(reader: &mut Reader<'_, '_>, fields: &Fields<'_>) -> (Option<Interactive>, Vec<Port>) {
    let mut ports = Vec::new();
    if let Some(at) = fields.get("ports") {
        read_ports(reader, &at, &mut ports);
    }
    let interactive = fields.raw("interactive").map(|at| {
        if at.node.is_null() { Interactive::default() } else { read_interactive(reader, at, &mut ports) }
    });
    let mut result: Vec<Port> = Vec::new();
    for (port, at) in ports {
        merge(reader, &mut result, port, &at);
    }
    if interactive.is_some() {
        warn_implicit(reader, fields, &result);
    }
    (interactive, result)
}

fn read_interactive<'n>(
    reader: &mut Reader<'_, '_>,
    at: At<'n>,
    ports: &mut Vec<(Port, At<'n>)>,
) -> Interactive {
    let form = "`interactive: {max_runtime: 24h, jupyter: {idle_timeout: 120m}}`";
    let Some(fields) = reader.fields(at, &keys::INTERACTIVE, form) else { return Interactive::default() };
    let old = fields.get("runtime").map(|at| read_old_runtime(reader, &fields, &at));
    let max = fields.get("max_runtime").map(|at| limit(reader, &at));
    let idle = idle_limit(reader, &fields).map(|at| limit(reader, &at));
    if let Some(at) = fields.get("ports") {
        let report =
            Report::new(Code::OldInteractive, "`interactive.ports` is an old spelling, read as `ports`");
        let name = fields.key("ports").unwrap_or_else(|| at.clone());
        reader.warn(&name, report.hint("write `ports` at the top of the file"));
        read_ports(reader, &at, ports);
    }
    let idle = idle.unwrap_or_else(|| old.is_some().then_some(OLD_IDLE));
    Interactive { max_runtime: max.or(old).flatten(), idle_timeout: idle }
}

fn read_old_runtime(reader: &mut Reader<'_, '_>, fields: &Fields<'_>, at: &At<'_>) -> Option<Span> {
    let name = fields.key("runtime").unwrap_or_else(|| at.clone());
    if fields.get("max_runtime").is_some() {
        let report =
            Report::new(Code::Conflict, "`runtime` is an old spelling of `max_runtime`, which is there too");
        reader.error(&name, report.hint("keep `max_runtime`"));
        return None;
    }
    let text = clip(at.node.text().unwrap_or_default());
    let report =
        Report::new(Code::OldInteractive, "`interactive.runtime` is an old spelling, read as `max_runtime`");
    let modern = format!("write `interactive: {{max_runtime: {text}, jupyter: {{idle_timeout: 120m}}}}`");
    reader.warn(&name, report.hint(modern));
    limit(reader, at)
}

/// Where the idle limit stands, if it is said.
fn idle_limit<'n>(reader: &mut Reader<'_, '_>, fields: &Fields<'n>) -> Option<At<'n>> {
    let jupyter = fields
        .get("jupyter")
        .and_then(|at| reader.fields(at, &keys::JUPYTER, "`jupyter: {idle_timeout: 120m}`"));
    let inner = jupyter.and_then(|fields| fields.get("idle_timeout"));
    let beside = fields.get("idle_timeout");
    match (inner, beside) {
        (Some(_), Some(at)) => {
            let report = Report::new(Code::Conflict, "`idle_timeout` stands beside `jupyter` and in it");
            reader.error(&at, report.hint("keep the one in `jupyter`"));
            None
        }
        (None, Some(at)) => {
            let name = fields.key("idle_timeout").unwrap_or_else(|| at.clone());
            let report = Report::new(
                Code::JupyterSlip,
                "`idle_timeout` belongs in `jupyter`, and was read as if it stood there",
            );
            let text = clip(at.node.text().unwrap_or_default());
            reader.warn(&name, report.hint(format!("write `jupyter: {{idle_timeout: {text}}}`")));
            Some(at)
        }
        (inner, None) => inner,
    }
}

/// A limit; `0` is none.
fn limit(reader: &mut Reader<'_, '_>, at: &At<'_>) -> Option<Span> {
    reader.amount::<Span>(at, SPAN_FORM).filter(|span| span.0 > 0)
}

fn read_ports<'n>(reader: &mut Reader<'_, '_>, at: &At<'n>, ports: &mut Vec<(Port, At<'n>)>) {
    for item in reader.list(at, PORTS_FORM) {
        if let Some(port) = read_port(reader, &item) {
            ports.push((port, item));
        }
    }
}

fn read_port(reader: &mut Reader<'_, '_>, at: &At<'_>) -> Option<Port> {
    if !matches!(at.node.kind, Kind::Map(_)) {
        let port = number(reader, at)?;
        return Some(Port { name: default_name(port), kind: PortKind::Http, port });
    }
    let fields = reader.fields(at.clone(), &keys::PORT, "`{name: web, type: http, port: 8000}`")?;
    let name = reader.optional_word(&fields, "name", "`name: web`");
    let kind = fields.get("type").map_or(Some(PortKind::Http), |at| read_kind(reader, &at));
    let number_at = reader.required(&fields, "port", "`port: 8000`")?;
    let port = number(reader, &number_at)?;
    Some(Port { name: name.unwrap_or_else(|| default_name(port)), kind: kind?, port })
}

fn number(reader: &mut Reader<'_, '_>, at: &At<'_>) -> Option<u16> {
    let number = reader.whole(at, 1..=65535, "a port number such as `8000`")?;
    u16::try_from(number).ok()
}

fn default_name(port: u16) -> String {
    format!("port-{port}")
}

fn read_kind(reader: &mut Reader<'_, '_>, at: &At<'_>) -> Option<PortKind> {
    let text = reader.word(at, "`type: http`")?;
    let outcome = match text.as_str() {
        "http" | "HTTP" => Ok(PortKind::Http),
        "tcp" | "TCP" => Ok(PortKind::Tcp),
        "udp" | "UDP" => Ok(PortKind::Udp),
        _ => Err(Report::new(Code::BadValue, format!("a port cannot have the type `{}`", clip(&text)))
            .hint("write `http`, `tcp` or `udp`")),
    };
    reader.take(at, outcome)
}

/// Adds a port, or merges it with one of the same number. A name that was given wins over a default one.
fn merge(reader: &mut Reader<'_, '_>, ports: &mut Vec<Port>, port: Port, at: &At<'_>) {
    let udp = port.kind == PortKind::Udp;
    let Some(first) = ports.iter_mut().find(|p| p.port == port.port && (p.kind == PortKind::Udp) == udp)
    else {
        ports.push(port);
        return;
    };
    if first.name == default_name(first.port) {
        first.name = port.name;
    }
    let message = format!("port {} is listed twice; it is opened once, as `{}`", first.port, first.name);
    reader.warn(at, Report::new(Code::DuplicatePort, message).hint("keep one of them"));
}

/// 22 and 8888 belong to the session itself.
fn warn_implicit(reader: &mut Reader<'_, '_>, fields: &Fields<'_>, ports: &[Port]) {
    let Some(at) = fields.get("ports") else { return };
    for port in ports.iter().filter(|port| SESSION_PORTS.contains(&port.port) && port.kind != PortKind::Udp) {
        let message = format!("port {} is open in every interactive run", port.port);
        reader.warn(&at, Report::new(Code::ImplicitPort, message).hint("remove it"));
    }
}
