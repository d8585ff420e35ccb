//! Ports of runs: who may reach one, where it is shown to be, and which `tcp` ports are to be listened for.
//!
//! What runs without a [`Caller`] here is asked by the proxy: the pass that a request brings is its permission, and only
//! [`Control::way_to_port`] takes it.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use vessl_core::access::{Action, Caller};
use vessl_core::door::{Refused, Target};
use vessl_core::ids::{AttemptId, ClusterName, RunId, RunRef};
use vessl_core::plan::PortPlan;
use vessl_core::run::Status;
use vessl_core::spec::PortKind;
use vessl_core::wire::{PortOpen, PortOpened, PortView};
use vessl_data::locked;
use vessl_reach::door::{Dialed, DoorError};

pub(crate) use super::pass::PortOf;
use super::reach::Reachable;
use super::{Control, ControlError, Inner, Result, pass};
use crate::store::runs::{Save, StoredRun};

/// Longest time to find out whether something listens.
const LOOK: Duration = Duration::from_millis(300);
/// Most ports of one run that are looked at.
const LOOKED_AT: usize = 32;

/// Where the proxy listens.
#[derive(Clone, Debug)]
pub(crate) struct PortsAt {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// Domain of the host names.
    pub(crate) domain: String,
    /// Whether ports are below paths too.
    pub(crate) by_path: bool,
    /// Whether connections are encrypted.
    pub(crate) tls: bool,
}

impl PortsAt {
    fn host_url(&self, to: PortOf) -> String {
        let (scheme, usual) = if self.tls { ("https", 443) } else { ("http", 80) };
        let port = self.address.port();
        let port = if port == usual { String::new() } else { format!(":{port}") };
        format!("{scheme}://{}-{}.{}{port}/", to.port, to.run.0, self.domain)
    }

    fn path_url(&self, to: PortOf) -> Option<String> {
        self.by_path.then(|| format!("http://{}/runs/{}/ports/{}/", self.address, to.run.0, to.port))
    }
}

/// What is known of the ports of all runs.
#[derive(Debug, Default)]
pub(super) struct Ports {
    at: OnceLock<PortsAt>,
    codes: pass::Codes,
    known: Mutex<KnownRuns>,
    /// The `tcp` ports of runs that run.
    offered: watch::Sender<BTreeMap<RunId, Vec<u16>>>,
    /// Where those are listened for.
    listening: Mutex<HashMap<PortOf, SocketAddr>>,
}

/// Runs that were looked at, so that not every request has to read the database.
#[derive(Debug, Default)]
struct KnownRuns {
    /// Grows with every change that no event tells of.
    changes: u64,
    by_run: HashMap<RunId, (u64, Arc<Facts>)>,
}

/// What of a run matters to its ports.
#[derive(Debug)]
struct Facts {
    at: AttemptId,
    cluster: ClusterName,
    status: Status,
    ports: Vec<PortPlan>,
    public: BTreeSet<u16>,
}

/// Why a request does not reach a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoWay {
    /// There is no such run.
    NoRun,
    /// Its file declares no such port.
    Undeclared,
    /// It is a port of another kind.
    Kind(PortKind),
    /// No pass came along.
    Closed,
    /// The run has ended.
    Ended(Status),
    /// Its container does not run.
    NotRunning(Status),
    /// Nothing listens there.
    Nobody,
    /// It cannot be told, or the connection cannot be made.
    Failed(String),
}

/// A port that may be reached.
#[derive(Debug)]
pub(crate) struct PortWay {
    /// The attempt that it is a port of.
    pub(crate) at: AttemptId,
    /// Whether everybody may use it.
    pub(crate) public: bool,
    port: u16,
    status: Status,
    run: Reachable,
}

impl PortWay {
    /// Connects to it.
    pub(crate) async fn dial(&self) -> std::result::Result<Dialed, NoWay> {
        self.run.connect(Target::Port(self.port)).await.map_err(|error| match error {
            DoorError::Refused { because: Refused::Nobody, .. } => NoWay::Nobody,
            DoorError::NoContainer => NoWay::NotRunning(self.status),
            error => NoWay::Failed(error.to_string()),
        })
    }
}

impl Control {
    /// Says where the proxy listens; only the first word counts.
    pub(crate) fn ports_are_at(&self, at: PortsAt) {
        let _ = self.0.ports.at.set(at);
    }

    /// Address of the proxy, if there is one.
    pub(crate) fn ports_url(&self) -> Option<String> {
        self.0.ports.at.get().map(|at| format!("{}://{}", if at.tls { "https" } else { "http" }, at.address))
    }

    /// A link that opens an `http` port of a run; perhaps everybody may use it from now on, or nobody without a link.
    pub async fn open_port(
        &self,
        caller: &Caller,
        (of, port): (&RunRef, u16),
        ask: PortOpen,
    ) -> Result<PortOpened> {
        let stored = self.0.stored(caller, Action::Run, of).await?;
        let to = PortOf { run: of.id, port };
        let Some(at) = self.0.ports.at.get() else {
            return Err(ControlError::Refused {
                message: "this server shows no ports of runs".to_owned(),
                hint: Some("`ports_listen` in its settings is empty".to_owned()),
            });
        };
        let declared = self.declared(of.id).await?;
        check_http(&declared, to)?;
        if stored.status().is_final() {
            return Err(ControlError::refused(format!("the run has ended ({})", stored.status().word())));
        }
        let stored = match ask.public {
            Some(public) => self.set_public(caller, (of, port), public).await?,
            None => stored,
        };
        let public = stored.doc.public_ports.contains(&port);
        let (mut url, mut path_url) = (at.host_url(to), at.path_url(to));
        let mut expires_at = None;
        if !public {
            let (code, ends) = self.0.ports.codes.make(to, self.now())?;
            let with_code = |url: String| format!("{url}?vessl-code={code}");
            (url, path_url, expires_at) = (with_code(url), path_url.map(with_code), Some(ends));
        }
        Ok(PortOpened { port, url, path_url, public, expires_at })
    }

    async fn set_public(
        &self,
        caller: &Caller,
        (of, port): (&RunRef, u16),
        public: bool,
    ) -> Result<StoredRun> {
        let changed = self.0.change(caller, of, |stored| {
            let mut changed = stored.clone();
            let ports = &mut changed.doc.public_ports;
            let differs = if public { ports.insert(port) } else { ports.remove(&port) };
            let unfinished = !changed.doc.run.is_settled();
            let save = Save { stored: changed, unfinished, events: Vec::new(), exports: Vec::new() };
            Ok(differs.then_some(save))
        });
        let stored = changed.await?;
        self.0.ports.forget(of.id);
        Ok(stored)
    }

    async fn declared(&self, run: RunId) -> Result<Vec<PortPlan>> {
        let texts = self.0.parts.store.run_texts(run).await?;
        Ok(texts.map(|texts| texts.plan.ports).unwrap_or_default())
    }

    /// The pass that this code to a port is exchanged for. The code is used up.
    pub(crate) async fn exchange(&self, to: PortOf, code: &str) -> Option<String> {
        if !self.0.ports.codes.take(code, to, self.now()) {
            return None;
        }
        let facts = self.0.facts(to.run).await.ok()??;
        Some(pass::make(&self.0.parts.vault, facts.at, to.port, self.now()))
    }

    /// The way to an `http` port for whoever brings one of these passes, or for everybody if the port is public. Nothing else of a
    /// run can be had without a [`Caller`].
    pub(crate) async fn way_to_port<'p>(
        &self,
        to: PortOf,
        passes: impl Iterator<Item = &'p str>,
    ) -> std::result::Result<PortWay, NoWay> {
        let facts = self.0.known_port(to, PortKind::Http).await?;
        let public = facts.public.contains(&to.port);
        let vault = &self.0.parts.vault;
        if !public && !pass::any_is_good(vault, passes, (facts.at, to.port), self.now()) {
            return Err(NoWay::Closed);
        }
        self.way(to, &facts, public)
    }

    /// The way to a `tcp` port for a connection that the machine's port of it took: whoever reaches that may come in.
    pub(crate) async fn way_to_tcp_port(&self, to: PortOf) -> std::result::Result<PortWay, NoWay> {
        let facts = self.0.known_port(to, PortKind::Tcp).await?;
        self.way(to, &facts, true)
    }

    fn way(&self, to: PortOf, facts: &Facts, public: bool) -> std::result::Result<PortWay, NoWay> {
        let (at, status) = (facts.at, facts.status);
        match status {
            Status::Running | Status::Idle | Status::Stopping => {}
            status if status.is_final() => return Err(NoWay::Ended(status)),
            status => return Err(NoWay::NotRunning(status)),
        }
        let run = Reachable::at(self, facts.cluster.clone(), at);
        Ok(PortWay { at, public, port: to.port, status, run })
    }

    /// The `tcp` ports that are to be listened for, and their changes.
    pub(crate) fn tcp_ports(&self) -> watch::Receiver<BTreeMap<RunId, Vec<u16>>> {
        self.0.ports.offered.subscribe()
    }

    /// Notes where a `tcp` port is listened for, if it is.
    pub(crate) fn tcp_port_is_at(&self, of: PortOf, at: Option<SocketAddr>) {
        let mut listening = locked(&self.0.ports.listening);
        match at {
            Some(at) => drop(listening.insert(of, at)),
            None => drop(listening.remove(&of)),
        }
    }

    /// The ports of a run as they are shown, with a look at who listens.
    pub(super) async fn show_ports(&self, stored: &StoredRun, ports: &[PortPlan]) -> Vec<PortView> {
        let run = Reachable::at(self, stored.doc.cluster.clone(), stored.doc.run.attempt_id());
        let runs = matches!(stored.status(), Status::Running | Status::Idle);
        let look = async |nth: usize, port: &PortPlan| {
            // A connection that is closed at once is nothing to a server of HTTP; to another program it may be the only one.
            if !runs || nth >= LOOKED_AT || port.kind != PortKind::Http {
                return None;
            }
            match tokio::time::timeout(LOOK, run.connect(Target::Port(port.port))).await {
                Ok(Ok(_)) => Some(true),
                Ok(Err(DoorError::Refused { because: Refused::Nobody, .. })) => Some(false),
                _ => None,
            }
        };
        let looks = ports.iter().enumerate().map(|(nth, port)| look(nth, port));
        let found = futures::future::join_all(looks).await;
        let view = |(port, open): (&PortPlan, Option<bool>)| {
            let of = PortOf { run: stored.id(), port: port.port };
            let url = match port.kind {
                PortKind::Http => self.0.ports.at.get().map(|at| at.host_url(of)),
                PortKind::Tcp => locked(&self.0.ports.listening).get(&of).map(|at| format!("tcp://{at}")),
                PortKind::Udp => None,
            };
            let public = port.kind == PortKind::Tcp || stored.doc.public_ports.contains(&port.port);
            PortView {
                name: port.name.clone(),
                kind: port.kind.word().to_owned(),
                port: port.port,
                url,
                open,
                public,
            }
        };
        ports.iter().zip(found).map(view).collect()
    }
}

impl Inner {
    /// What matters of a run to its ports, from memory if nothing has happened since.
    async fn facts(&self, run: RunId) -> Result<Option<Arc<Facts>>> {
        // Looked at before the run is read: what happens in between is then seen the next time.
        let seq = self.handles().get(&run).map(|handle| *handle.seq.borrow());
        let changes = {
            let known = locked(&self.ports.known);
            if let (Some(seq), Some((read_at, facts))) = (seq, known.by_run.get(&run))
                && seq == *read_at
            {
                return Ok(Some(Arc::clone(facts)));
            }
            known.changes
        };
        let Some(stored) = self.parts.store.run(run).await? else { return Ok(None) };
        let texts = self.parts.store.run_texts(run).await?;
        let facts = Arc::new(Facts {
            at: stored.doc.run.attempt_id(),
            status: stored.status(),
            cluster: stored.doc.cluster,
            ports: texts.map(|texts| texts.plan.ports).unwrap_or_default(),
            public: stored.doc.public_ports,
        });
        let mut known = locked(&self.ports.known);
        if let Some(seq) = seq
            && known.changes == changes
        {
            known.by_run.insert(run, (seq, Arc::clone(&facts)));
        }
        Ok(Some(facts))
    }

    async fn known_port(&self, to: PortOf, kind: PortKind) -> std::result::Result<Arc<Facts>, NoWay> {
        let facts = self.facts(to.run).await.map_err(|error| NoWay::Failed(error.to_string()))?;
        let facts = facts.ok_or(NoWay::NoRun)?;
        match facts.ports.iter().find(|port| port.port == to.port) {
            None => Err(NoWay::Undeclared),
            Some(port) if port.kind != kind => Err(NoWay::Kind(port.kind)),
            Some(_) => Ok(facts),
        }
    }

    /// Says that a run runs, so that its `tcp` ports can be listened for.
    pub(super) fn offer_tcp_ports(&self, run: RunId, ports: &[PortPlan]) {
        let tcp = ports.iter().filter(|port| port.kind == PortKind::Tcp);
        let tcp: Vec<u16> = tcp.map(|port| port.port).collect();
        if !tcp.is_empty() {
            self.ports.offered.send_if_modified(|offered| offered.insert(run, tcp.clone()) != Some(tcp));
        }
    }

    /// Says that a run does not run any more.
    pub(super) fn withdraw_ports(&self, run: RunId) {
        self.ports.offered.send_if_modified(|offered| offered.remove(&run).is_some());
        self.ports.forget(run);
    }
}

impl Ports {
    /// Lets the next request read the run anew.
    fn forget(&self, run: RunId) {
        let mut known = locked(&self.known);
        known.changes += 1;
        known.by_run.remove(&run);
    }
}

/// Refuses a port that no browser can be led to.
fn check_http(declared: &[PortPlan], to: PortOf) -> Result<()> {
    let found = declared.iter().find(|port| port.port == to.port);
    match found.map(|port| port.kind) {
        Some(PortKind::Http) => Ok(()),
        Some(kind) => Err(ControlError::Refused {
            message: format!("port {} of run {} is a `{}` port", to.port, to.run.0, kind.word()),
            hint: Some(format!("`vessl run read {}` shows where it is reached", to.run.0)),
        }),
        None => {
            let there: Vec<String> = declared.iter().map(|port| port.port.to_string()).collect();
            let hint = if there.is_empty() {
                format!(
                    "its run file has no `ports`; `vessl run port-forward {} {}` needs none",
                    to.run.0, to.port
                )
            } else {
                format!("its ports are: {}", there.join(", "))
            };
            let message = format!("the file of run {} declares no port {}", to.run.0, to.port);
            Err(ControlError::NotFound { message, hint: Some(hint) })
        }
    }
}
