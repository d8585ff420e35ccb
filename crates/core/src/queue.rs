//! Admission to one cluster: which of its waiting runs are placed now, and what the others wait for. First in, first out; it never
//! gives out what is not there.
//!
//! ```text
//! for each run in order:  its nodes = candidates that could hold it when empty
//!     none                                       → Never
//!     one that nobody in front waits for, with room → Free   (the tightest one; the lowest GPU indices)
//!     else                                       → Waits, and nobody behind gets a place on any of its nodes
//! ```
use crate::ids::{ClusterName, NodeName, RunId};
use crate::plan::{Amounts, Gpu, Node, fit};
use crate::run::{Admission, Placement, Wait};

/// Runs named in one sentence; more are counted.
const NAMED: usize = 5;

/// One run that waits, in the order of submission.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueuedRun {
    /// The run.
    pub id: RunId,
    /// Its name, for people.
    pub name: String,
    /// What it needs; 0 is nothing.
    pub amounts: Amounts,
    /// Candidate nodes; empty means every node of the cluster.
    pub nodes: Vec<NodeName>,
}

/// One node with what is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeUse {
    /// Name and totals.
    pub node: Node,
    /// Runs that hold something here ([`Run::allocation`](crate::run::Run::allocation)).
    pub holders: Vec<Holder>,
}

/// A run that holds something on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The run.
    pub id: RunId,
    /// Its name, for people.
    pub name: String,
    /// Its amounts.
    pub amounts: Amounts,
    /// Indices of the GPUs it holds.
    pub gpus: Vec<u32>,
    /// Whether it has ended, and only its removal is still to come.
    pub ended: bool,
}

/// Says for every run that waits for `cluster`, in order, whether it is placed now, waits, or can never be placed.
pub fn admit(cluster: &ClusterName, waiting: &[QueuedRun], nodes: &[NodeUse]) -> Vec<(RunId, Admission)> {
    let mut rooms: Vec<Room<'_>> = nodes.iter().map(|node| Room::new(cluster, node)).collect();
    waiting.iter().map(|one| (one.id, admit_one(cluster, one, &mut rooms))).collect()
}

fn admit_one(cluster: &ClusterName, one: &QueuedRun, rooms: &mut [Room<'_>]) -> Admission {
    let eligible: Vec<usize> = (0..rooms.len()).filter(|&index| rooms[index].could_hold(one)).collect();
    if eligible.is_empty() {
        return Admission::Impossible(never(cluster, one, rooms));
    }
    let free = eligible.iter().copied().filter(|&index| rooms[index].first_in_line.is_none());
    let tightest = free
        .filter(|&index| rooms[index].lacks(&one.amounts, &[]).is_empty())
        .min_by_key(|&index| rooms[index].slack(&one.amounts));
    if let Some(index) = tightest {
        return Admission::Granted(rooms[index].take(one));
    }
    let wait = wait(one, &eligible, rooms);
    for index in eligible {
        rooms[index].first_in_line.get_or_insert_with(|| named(one.id, &one.name));
    }
    Admission::Waiting(wait)
}

/// One node while places are given out.
struct Room<'a> {
    cluster: &'a ClusterName,
    node: &'a Node,
    holders: Vec<Holder>,
    /// The first run that waits for this node, in words; nobody behind it may have a place here.
    first_in_line: Option<String>,
}

impl<'a> Room<'a> {
    fn new(cluster: &'a ClusterName, from: &'a NodeUse) -> Self {
        Self { cluster, node: &from.node, holders: from.holders.clone(), first_in_line: None }
    }

    fn could_hold(&self, one: &QueuedRun) -> bool {
        (one.nodes.is_empty() || one.nodes.contains(&self.node.name))
            && fit::could_hold(self.node, &one.amounts)
    }

    /// What is missing for `needs` if the holders in `gone` had ended.
    fn lacks(&self, needs: &Amounts, gone: &[RunId]) -> Vec<String> {
        let (cpu_milli, memory, gpus) = self.free(gone);
        fit::lacks(needs, cpu_milli, memory, &gpus)
    }

    fn free(&self, gone: &[RunId]) -> (u64, u64, Vec<&'a Gpu>) {
        let held = || self.holders.iter().filter(|holder| !gone.contains(&holder.id));
        let sum =
            |of: fn(&Amounts) -> u64| held().map(|holder| of(&holder.amounts)).fold(0, u64::saturating_add);
        let taken = |gpu: &&Gpu| held().any(|holder| holder.gpus.contains(&gpu.index));
        (
            self.node.cpu_milli.saturating_sub(sum(|amounts| amounts.cpu_milli)),
            self.node.memory.saturating_sub(sum(|amounts| amounts.memory)),
            self.node.gpus.iter().filter(|gpu| !taken(gpu)).collect(),
        )
    }

    /// What would stay free: the node with the least of it is chosen, so that large gaps stay for large runs.
    fn slack(&self, needs: &Amounts) -> (usize, u64, u64) {
        let (cpu_milli, memory, gpus) = self.free(&[]);
        (gpus.len(), cpu_milli.saturating_sub(needs.cpu_milli), memory.saturating_sub(needs.memory))
    }

    /// Gives `one` a place; it fits.
    fn take(&mut self, one: &QueuedRun) -> Placement {
        let (_, _, free) = self.free(&[]);
        let wanted = one.amounts.gpu_type.as_deref();
        let mut gpus: Vec<u32> =
            free.iter().filter(|gpu| fit::gpu_matches(wanted, &gpu.product)).map(|gpu| gpu.index).collect();
        gpus.sort_unstable();
        gpus.truncate(usize::try_from(one.amounts.gpus).unwrap_or(usize::MAX));
        self.holders.push(Holder {
            id: one.id,
            name: one.name.clone(),
            amounts: one.amounts.clone(),
            gpus: gpus.clone(),
            ended: false,
        });
        Placement { cluster: self.cluster.clone(), node: self.node.name.clone(), gpus }
    }

    /// A small set of holders whose end makes room: the oldest one if one is enough, else the largest first.
    fn blockers(&self, needs: &Amounts) -> Vec<RunId> {
        let mut holders: Vec<&Holder> = self.holders.iter().collect();
        holders.sort_by_key(|holder| holder.id);
        if let Some(one) = holders.iter().find(|holder| self.lacks(needs, &[holder.id]).is_empty()) {
            return vec![one.id];
        }
        holders.sort_by_key(|holder| {
            let amounts = &holder.amounts;
            std::cmp::Reverse((holder.gpus.len(), amounts.cpu_milli, amounts.memory))
        });
        let mut gone = Vec::new();
        for holder in holders {
            if self.lacks(needs, &gone).is_empty() {
                break;
            }
            gone.push(holder.id);
        }
        gone
    }
}

fn wait(one: &QueuedRun, eligible: &[usize], rooms: &[Room<'_>]) -> Wait {
    let nearest = eligible.iter().map(|&index| &rooms[index]).min_by_key(|room| {
        room.first_in_line.as_ref().map_or_else(|| (false, room.blockers(&one.amounts).len()), |_| (true, 0))
    });
    let Some(room) = nearest else { return Wait::default() };
    let others = match eligible.len() - 1 {
        0 => String::new(),
        1 => "; the other node that could hold it has no room either".to_owned(),
        n => format!("; the {n} other nodes that could hold it have no room either"),
    };
    let node = &room.node.name;
    match &room.first_in_line {
        Some(front) => Wait {
            why: format!(
                "waits behind run {front}, which was submitted before and waits for `{node}`{others}"
            ),
            next: vec![format!("the start or the end of run {front}")],
        },
        None => Wait {
            why: format!(
                "waits for {} on `{node}`{}{others}",
                room.lacks(&one.amounts, &[]).join(" and "),
                held_by(&room.holders)
            ),
            next: vec![end_of(room, &room.blockers(&one.amounts))],
        },
    }
}

fn held_by(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return String::new();
    }
    let named = holders.iter().take(NAMED).map(|holder| {
        let ended = if holder.ended { ", which has ended and is being removed," } else { "" };
        format!("run {}{ended} has {}", named(holder.id, &holder.name), fit::amounts_words(&holder.amounts))
    });
    let more = match holders.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!("; {n} more"),
    };
    format!("; {}{more}", named.collect::<Vec<_>>().join("; "))
}

/// A run for people: its id, and its name if it has one.
fn named(id: RunId, name: &str) -> String {
    if name.is_empty() { id.0.to_string() } else { format!("{} (`{name}`)", id.0) }
}

fn end_of(room: &Room<'_>, runs: &[RunId]) -> String {
    let node = &room.node.name;
    let holders = runs.iter().filter_map(|id| room.holders.iter().find(|holder| holder.id == *id));
    let named: Vec<_> = holders.take(NAMED).map(|holder| named(holder.id, &holder.name)).collect();
    match runs.len() {
        1 => format!("the end of run {} on `{node}`", named.join(" ")),
        n if n <= NAMED => format!("the ends of runs {} on `{node}`", named.join(" and ")),
        n => format!("the ends of {n} runs on `{node}`, among them {}", named.join(" and ")),
    }
}

fn never(cluster: &ClusterName, one: &QueuedRun, rooms: &[Room<'_>]) -> String {
    if rooms.is_empty() {
        return format!("the cluster `{cluster}` has no node");
    }
    let candidates = || {
        rooms
            .iter()
            .map(|room| room.node)
            .filter(|node| one.nodes.is_empty() || one.nodes.contains(&node.name))
    };
    if candidates().next().is_none() && !one.nodes.is_empty() {
        let names: Vec<&str> = one.nodes.iter().map(NodeName::as_str).collect();
        return format!("none of its nodes is there: `{}`", names.join("`, `"));
    }
    format!("no node has {}; {}", fit::amounts_words(&one.amounts), fit::largest(candidates()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn here() -> ClusterName {
        "here".into()
    }

    fn node(name: &str, cores: u64, gpus: u32) -> NodeUse {
        let gpus = (0..gpus).map(|index| Gpu {
            index,
            product: "NVIDIA A100-SXM4-80GB".to_owned(),
            ..Gpu::default()
        });
        let node =
            Node { name: name.into(), cpu_milli: cores * 1000, memory: 64 << 30, gpus: gpus.collect() };
        NodeUse { node, holders: Vec::new() }
    }

    fn held(mut node: NodeUse, id: u64, cores: u64, gpus: &[u32]) -> NodeUse {
        let amounts = amounts(cores, u32::try_from(gpus.len()).unwrap());
        node.holders.push(Holder { id: RunId(id), amounts, gpus: gpus.to_vec(), ..Holder::default() });
        node
    }

    fn amounts(cores: u64, gpus: u32) -> Amounts {
        Amounts { cpu_milli: cores * 1000, memory: 1 << 30, gpus, gpu_type: None }
    }

    fn run(id: u64, cores: u64, gpus: u32) -> QueuedRun {
        QueuedRun { id: RunId(id), amounts: amounts(cores, gpus), ..QueuedRun::default() }
    }

    /// One line per run: `1 free a []`, `2 waits <why> | <next>`, `3 never <why>`.
    fn check(waiting: &[QueuedRun], nodes: &[NodeUse], expected: &[&str]) {
        let lines = admit(&here(), waiting, nodes).into_iter().map(|(id, admission)| match admission {
            Admission::Granted(placement) => format!("{} free {} {:?}", id.0, placement.node, placement.gpus),
            Admission::Waiting(wait) => format!("{} {} | {}", id.0, wait.why, wait.next.join(" | ")),
            Admission::Impossible(why) => format!("{} never {why}", id.0),
        });
        assert_eq!(lines.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn places_are_given_while_there_is_room() {
        check(
            &[run(1, 4, 1), run(2, 4, 1), run(3, 1, 0)],
            &[node("a", 8, 2)],
            &[
                "1 free a [0]",
                "2 free a [1]",
                "3 waits for 1 core (free: 0 cores) on `a`; run 1 has 4 cores, 1.0 GiB of memory, 1 GPU; \
                 run 2 has 4 cores, 1.0 GiB of memory, 1 GPU | the end of run 1 on `a`",
            ],
        );
    }

    #[test]
    fn nobody_overtakes_for_the_same_node() {
        check(
            &[run(1, 8, 0), run(2, 1, 0)],
            &[held(node("a", 8, 0), 9, 4, &[])],
            &[
                "1 waits for 8 cores (free: 4 cores) on `a`; run 9 has 4 cores, 1.0 GiB of memory | the end of run 9 on `a`",
                "2 waits behind run 1, which was submitted before and waits for `a` | the start or the end of run 1",
            ],
        );
    }

    #[test]
    fn a_run_that_has_ended_is_said_to_be_removed() {
        let mut node = held(node("a", 8, 0), 9, 8, &[]);
        node.holders[0].ended = true;
        check(
            &[run(1, 8, 0)],
            &[node],
            &[
                "1 waits for 8 cores (free: 0 cores) on `a`; run 9, which has ended and is being removed, has 8 cores, \
               1.0 GiB of memory | the end of run 9 on `a`",
            ],
        );
    }

    #[test]
    fn a_run_for_another_node_goes_on() {
        let on_a = QueuedRun { nodes: vec!["a".into()], ..run(1, 8, 0) };
        check(
            &[on_a, run(2, 1, 0), run(3, 8, 0)],
            &[held(node("a", 8, 0), 9, 8, &[]), node("b", 2, 0)],
            &[
                "1 waits for 8 cores (free: 0 cores) on `a`; run 9 has 8 cores, 1.0 GiB of memory | the end of run 9 on `a`",
                "2 free b []",
                "3 waits behind run 1, which was submitted before and waits for `a` | the start or the end of run 1",
            ],
        );
    }

    #[test]
    fn the_tightest_node_is_chosen() {
        check(&[run(1, 1, 0)], &[node("big", 8, 4), node("small", 8, 0)], &["1 free small []"]);
        check(&[run(1, 1, 0)], &[node("big", 16, 0), node("small", 2, 0)], &["1 free small []"]);
    }

    #[test]
    fn the_end_of_several_runs_may_be_needed() {
        check(
            &[run(1, 8, 2)],
            &[held(held(node("a", 8, 2), 8, 2, &[1]), 7, 1, &[0])],
            &[
                "1 waits for 8 cores (free: 5 cores) and 2 GPUs (free: 0) on `a`; run 8 has 2 cores, 1.0 GiB of memory, 1 GPU; \
               run 7 has 1 core, 1.0 GiB of memory, 1 GPU | the ends of runs 8 and 7 on `a`",
            ],
        );
    }

    #[test]
    fn what_can_never_be_is_said() {
        let typed = |kind: &str| {
            let amounts = Amounts { gpu_type: Some(kind.to_owned()), ..amounts(1, 1) };
            QueuedRun { amounts, ..run(1, 1, 1) }
        };
        check(
            &[run(1, 9, 0)],
            &[node("a", 8, 0)],
            &["1 never no node has 9 cores, 1.0 GiB of memory; \
               the largest node, `a`, has 8 cores, 64.0 GiB of memory and no GPU"],
        );
        check(
            &[typed("H100")],
            &[node("a", 8, 1)],
            &["1 never no node has 1 core, 1.0 GiB of memory, 1 GPU of type `H100`; \
               the largest node, `a`, has 8 cores, 64.0 GiB of memory and 1 GPU (NVIDIA A100-SXM4-80GB)"],
        );
        check(&[typed("a100")], &[node("a", 8, 1)], &["1 free a [0]"]);
        let elsewhere = QueuedRun { nodes: vec!["z".into()], ..run(1, 1, 0) };
        check(&[elsewhere], &[node("a", 8, 0)], &["1 never none of its nodes is there: `z`"]);
        check(&[run(1, 1, 0)], &[], &["1 never the cluster `here` has no node"]);
    }

    #[test]
    fn only_gpus_of_the_type_are_given() {
        let mut mixed = node("a", 8, 3);
        mixed.node.gpus[1].product = "Tesla T4".to_owned();
        let typed = |id| QueuedRun {
            amounts: Amounts { gpu_type: Some("T4".to_owned()), ..amounts(1, 1) },
            ..run(id, 1, 1)
        };
        let got = admit(&here(), &[typed(1), run(2, 1, 2), typed(3)], &[mixed]);
        assert_eq!(
            got[0].1,
            Admission::Granted(Placement { cluster: here(), node: "a".into(), gpus: vec![1] })
        );
        assert_eq!(
            got[1].1,
            Admission::Granted(Placement { cluster: here(), node: "a".into(), gpus: vec![0, 2] })
        );
        assert!(matches!(got[2].1, Admission::Waiting(_)));
    }

    prop_compose! {
        fn any_amounts()(cpu_milli in 0..6000u64, memory in 0..6u64, gpus in 0..4u32, typed in prop::bool::weighted(0.2)) -> Amounts {
            Amounts { cpu_milli, memory: memory << 30, gpus, gpu_type: typed.then(|| "T4".to_owned()) }
        }
    }

    prop_compose! {
        fn any_nodes()(sizes in prop::collection::vec((0..8u64, 0..8u64, prop::collection::vec(any::<bool>(), 0..4)), 0..4)) -> Vec<NodeUse> {
            sizes.iter().enumerate().map(|(n, (cores, memory, gpus))| {
                let product = |t4: bool| if t4 { "Tesla T4" } else { "NVIDIA A100" }.to_owned();
                let gpus = (0..).zip(gpus).map(|(index, &t4)| Gpu { index, product: product(t4), ..Gpu::default() });
                let node = Node { name: format!("n{n}").into(), cpu_milli: cores * 1000, memory: memory << 30, gpus: gpus.collect() };
                NodeUse { node, holders: Vec::new() }
            }).collect()
        }
    }

    prop_compose! {
        fn any_queue()(all in prop::collection::vec((any_amounts(), prop::collection::vec(0..4u8, 0..2)), 0..12)) -> Vec<QueuedRun> {
            (1..).zip(all).map(|(id, (amounts, nodes))| {
                let nodes = nodes.iter().map(|n| format!("n{n}").into()).collect();
                QueuedRun { id: RunId(id), amounts, nodes, ..QueuedRun::default() }
            }).collect()
        }
    }

    /// The nodes after what `admitted` grants was taken.
    fn after(waiting: &[QueuedRun], nodes: &[NodeUse], admitted: &[(RunId, Admission)]) -> Vec<NodeUse> {
        let mut nodes = nodes.to_vec();
        for (one, (id, admission)) in waiting.iter().zip(admitted) {
            assert_eq!(one.id, *id);
            if let Admission::Granted(placement) = admission {
                let node = nodes.iter_mut().find(|node| node.node.name == placement.node).unwrap();
                node.holders.push(Holder {
                    id: one.id,
                    amounts: one.amounts.clone(),
                    gpus: placement.gpus.clone(),
                    ..Holder::default()
                });
            }
        }
        nodes
    }

    fn assert_not_over_committed(node: &NodeUse) {
        let sum =
            |of: fn(&Amounts) -> u64| node.holders.iter().map(|holder| of(&holder.amounts)).sum::<u64>();
        assert!(sum(|amounts| amounts.cpu_milli) <= node.node.cpu_milli, "{node:?}");
        assert!(sum(|amounts| amounts.memory) <= node.node.memory, "{node:?}");
        let mut given: Vec<u32> = node.holders.iter().flat_map(|holder| holder.gpus.clone()).collect();
        let count = given.len();
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), count, "a gpu was given twice: {node:?}");
        for holder in &node.holders {
            assert_eq!(holder.gpus.len(), holder.amounts.gpus as usize);
            for index in &holder.gpus {
                let gpu = node.node.gpus.iter().find(|gpu| gpu.index == *index).unwrap();
                assert!(fit::gpu_matches(holder.amounts.gpu_type.as_deref(), &gpu.product));
            }
        }
    }

    /// Runs in front that wait for one of the nodes that `one` could use.
    fn in_front(
        one: &QueuedRun,
        index: usize,
        waiting: &[QueuedRun],
        answers: &[(RunId, Admission)],
        node: &Node,
    ) -> bool {
        let wants = |run: &QueuedRun| {
            (run.nodes.is_empty() || run.nodes.contains(&node.name)) && fit::could_hold(node, &run.amounts)
        };
        wants(one)
            && (0..index)
                .any(|front| matches!(answers[front].1, Admission::Waiting(_)) && wants(&waiting[front]))
    }

    proptest! {
        #[test]
        fn admission_never_over_commits_and_never_overtakes(waiting in any_queue(), nodes in any_nodes()) {
            let answers = admit(&here(), &waiting, &nodes);
            prop_assert_eq!(answers.len(), waiting.len());
            prop_assert_eq!(&admit(&here(), &waiting, &nodes), &answers);
            let full = after(&waiting, &nodes, &answers);
            full.iter().for_each(assert_not_over_committed);
            for (index, one) in waiting.iter().enumerate() {
                if let Admission::Granted(placement) = &answers[index].1 {
                    let node = &nodes.iter().find(|node| node.node.name == placement.node).unwrap().node;
                    prop_assert!(!in_front(one, index, &waiting, &answers, node), "{:?} overtook", one.id);
                }
            }
            // Nobody waits for what is free, and a second round changes nothing.
            let left: Vec<QueuedRun> = waiting.iter().zip(&answers).filter(|(_, (_, admission))| matches!(admission, Admission::Waiting(_))).map(|(one, _)| one.clone()).collect();
            for (_, admission) in admit(&here(), &left, &full) {
                prop_assert!(matches!(admission, Admission::Waiting(_)));
            }
        }

        #[test]
        fn the_first_in_line_starts_when_the_named_runs_end(one in any_amounts(), waiting in any_queue(), nodes in any_nodes()) {
            let full = after(&waiting, &nodes, &admit(&here(), &waiting, &nodes));
            let last = QueuedRun { id: RunId(99), amounts: one, ..QueuedRun::default() };
            let cluster = here();
            for node in &full {
                let room = Room::new(&cluster, node);
                if room.could_hold(&last) {
                    prop_assert!(room.lacks(&last.amounts, &room.blockers(&last.amounts)).is_empty());
                }
            }
            if let Admission::Waiting(wait) = &admit(&here(), std::slice::from_ref(&last), &full)[0].1 {
                prop_assert!(wait.next.len() == 1 && wait.next[0].starts_with("the end"), "{wait:?}");
            }
        }
    }
}
