//! One attempt under test: a data directory, a run directory, an agent.
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

use vessl_core::plan::Plan;
use vessl_core::record::{Control, ControlReply, Event, EventKind, ExitRecord, Phase, Proof, Secrets};

use crate::AGENT;
use crate::look;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// An attempt; whatever happens, nothing of it is left when this is dropped.
pub(crate) struct Rig {
    pub(crate) data: tempfile::TempDir,
    pub(crate) dir: PathBuf,
    pub(crate) plan: Plan,
    agent: Option<Child>,
}

impl Rig {
    /// A run directory with this plan.
    pub(crate) fn new(plan: Plan) -> Self {
        Self::in_dir(plan, "runs/1/1")
    }

    /// The same with the run directory at `below` of the data directory.
    pub(crate) fn in_dir(plan: Plan, below: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let dir = data.path().join(below);
        std::fs::create_dir_all(&dir).unwrap();
        let rig = Self { data, dir, plan, agent: None };
        rig.write_plan();
        rig
    }

    /// Writes the plan again after a change.
    pub(crate) fn write_plan(&self) {
        std::fs::write(self.dir.join("plan.json"), serde_json::to_vec(&self.plan).unwrap()).unwrap();
    }

    fn verb(&self, verb: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(AGENT).arg(verb);
        command.arg("--data").arg(self.data.path());
        command.arg(&self.dir);
        if verb == "supervise" {
            command.args(["--network", "host"]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts the agent with these bytes on standard input.
    pub(crate) fn start_with(&mut self, input: &[u8]) {
        let mut child = self.verb("supervise").spawn().unwrap();
        // An agent that refuses the attempt at once does not read them.
        let _ = child.stdin.take().unwrap().write_all(input);
        self.agent = Some(child);
    }

    /// Starts the agent, whose secrets do not come while the pipe is kept.
    pub(crate) fn start_without_secrets(&mut self) -> ChildStdin {
        let mut child = self.verb("supervise").spawn().unwrap();
        let secrets = child.stdin.take().unwrap();
        self.agent = Some(child);
        secrets
    }

    /// Starts another agent whose secrets do not come.
    pub(crate) fn spawn_waiting(&self) -> Child {
        self.verb("supervise").spawn().unwrap()
    }

    /// Starts the agent.
    pub(crate) fn start(&mut self) {
        self.start_with(&serde_json::to_vec(&Secrets::default()).unwrap());
    }

    /// Starts the agent and waits for its end.
    pub(crate) fn run(&mut self) -> ExitRecord {
        self.start();
        self.end()
    }

    /// Waits for the agent to end; its record. Nothing of it may be left.
    pub(crate) fn end(&mut self) -> ExitRecord {
        let output = self.wait();
        assert!(output.status.success(), "{output:?}\n{}", self.agent_log());
        let record = self.record().unwrap_or_else(|| panic!("no exit record\n{}", self.agent_log()));
        assert_eq!(record.cleanup, None);
        self.assert_clean();
        record
    }

    /// Waits for the agent's process, however it ends.
    pub(crate) fn wait(&mut self) -> Output {
        let mut child = self.agent.take().expect("it was started");
        until("the end of the agent", || child.try_wait().unwrap());
        child.wait_with_output().unwrap()
    }

    /// Kills the agent, as the kernel does when memory is short.
    pub(crate) fn kill(&mut self) {
        let mut child = self.agent.take().expect("it was started");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Process id of the agent.
    pub(crate) fn pid(&self) -> i32 {
        self.agent.as_ref().expect("it was started").id().cast_signed()
    }

    pub(crate) fn record(&self) -> Option<ExitRecord> {
        serde_json::from_slice(&std::fs::read(self.dir.join("exit.json")).ok()?).unwrap()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        let text = std::fs::read_to_string(self.dir.join("events")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn phases(&self) -> Vec<Phase> {
        let phase = |event: Event| match event.what {
            EventKind::Phase { phase } => Some(phase),
            _ => None,
        };
        self.events().into_iter().filter_map(phase).collect()
    }

    /// Waits until the attempt is in `phase`.
    pub(crate) fn until_phase(&mut self, phase: Phase) {
        self.until_alive(&format!("{phase:?}"), |rig| rig.phases().contains(&phase));
    }

    /// Waits until the log holds `text`.
    pub(crate) fn until_log(&mut self, text: &str) {
        self.until_alive(text, |rig| look::log(&rig.dir).contains(text));
    }

    fn until_alive(&mut self, what: &str, check: impl Fn(&Self) -> bool) {
        until(what, || {
            if check(self) {
                return Some(());
            }
            let ended = self.agent.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none() || check(self),
                "the agent ended before `{what}`: {}",
                look::log(&self.dir)
            );
            None
        });
    }

    /// Asks the agent on its socket.
    pub(crate) fn ask(&self, request: &Control) -> ControlReply {
        look::ask(&self.dir, &(serde_json::to_string(request).unwrap() + "\n"))
    }

    /// Asks it to stop.
    pub(crate) fn stop(&self, grace_s: u64) {
        let reply = self.ask(&Control::Stop { grace_s, export: true });
        assert!(reply.ok, "{reply:?}");
    }

    pub(crate) fn proof(&self) -> Proof {
        Self::proof_of(&self.dir)
    }

    /// The proof for another directory.
    pub(crate) fn proof_of(dir: &Path) -> Proof {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args([AGENT, "proof"]).arg(dir).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Waits until the attempt is proven dead.
    pub(crate) fn until_dead(&self) -> String {
        until("proof of death", || match self.proof() {
            Proof::Dead { why } => Some(why),
            Proof::Alive { .. } => None,
            Proof::NeverStarted => panic!("it was started"),
        })
    }

    /// Removes what is left, which may be nothing.
    pub(crate) fn remove(&self) {
        let output = self.verb("remove").output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Nothing of the attempt is on the machine but its record and its log.
    pub(crate) fn assert_clean(&self) {
        let mut left = look::left_behind(&self.plan.unit(), self.data.path());
        for name in ["box", "control.sock", "door.sock", "progress", "spare"] {
            left.extend(self.dir.join(name).exists().then(|| format!("{name} in the run directory")));
        }
        assert!(left.is_empty(), "left behind: {left:?}\n{}", self.agent_log());
    }

    pub(crate) fn agent_log(&self) -> String {
        std::fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default()
    }

    /// Path in the data directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(mut child) = self.agent.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = self.verb("remove").output();
    }
}

/// Waits for something that comes by itself.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The text of a file, when it is there.
pub(crate) fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
