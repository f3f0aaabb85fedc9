//! What claims live in: an API server, watches that lag as much as they like, a network that delays
//! and breaks, processes that freeze between any two steps and die, pods that come and go. What a
//! pod runs is counted in the pod. There is no clock at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::process::{Pod, Process, Told};
use crate::handover::{Action, Answer, ClaimId, Estate, Found, PodCount};
use crate::simulation::chance::Chance;

/// A step that an activator or the API server leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Claims are written over what stands on the pod.
    ClaimsOverwrite,
    /// Requests of the former owner are not counted.
    CountsIgnored,
    /// Who does not answer is taken to have stopped.
    SilenceTrusted,
    /// Who has released goes on.
    ReleasedKeepSending,
    /// Who breaks off in the middle of the counts is taken to have none left.
    BrokenTrusted,
    /// Who is asked gives what it has, and what comes later is lost.
    LateLost,
    /// Nobody names who else may have something.
    OthersUnnamed,
}

const MEMBERS: usize = 3;

/// A process and one of its tenures.
type At = (usize, usize);

struct ApiPod {
    version: u64,
    told: Told,
    running: BTreeSet<usize>,
}

enum Message {
    Get(At, Pod),
    Got(At, Pod, Option<(u64, Option<ClaimId>)>),
    Patch(At, Pod, u64),
    Ask(At, Arc<str>, usize),
    Asked(At, Arc<str>, Answer, Option<usize>),
    Read(At, Pod),
    Delete(Pod),
}

/// The rest of an answer to a release: numbers that fall.
struct Stream {
    from: At,
    to: At,
    told: BTreeMap<Pod, u32>,
    lines: Vec<PodCount>,
    heard: BTreeMap<Pod, u32>,
    broken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Admitted,
    OnTheWay,
    Running,
    Answered,
    Ended,
}

struct Request {
    at: At,
    pod: Pod,
    phase: Phase,
}

pub struct World {
    chance: Chance,
    flaw: Option<Flaw>,
    /// How many kinds of faults there are.
    faults: usize,
    /// Nobody fails: no pod need be replaced.
    gentle: bool,
    /// One was.
    needless: bool,
    limit: u32,
    replicas: usize,
    owners: Vec<Arc<str>>,
    pods: BTreeMap<Pod, ApiPod>,
    made: usize,
    history: Vec<BTreeMap<Pod, Told>>,
    processes: Vec<Process>,
    messages: Vec<Message>,
    /// Questions that are still waited for.
    asking: BTreeSet<(At, Arc<str>)>,
    streams: Vec<Stream>,
    /// Streams that go on.
    flowing: Vec<usize>,
    requests: Vec<Request>,
    /// Requests that have not ended.
    live: Vec<usize>,
    served: usize,
}

impl World {
    pub fn new(seed: u64, flaw: Option<Flaw>) -> Self {
        let member = |i: usize| Arc::<str>::from(format!("m{i}"));
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
        let mut world = Self {
            chance: Chance::of(mixed),
            flaw,
            faults: [2, 5, 8, 16][usize::try_from(seed % 4).unwrap_or(0)],
            gentle: false,
            needless: false,
            limit: if seed % 8 < 4 { 1 } else { 2 },
            replicas: 2,
            owners: vec![member(0), member(0)],
            pods: BTreeMap::new(),
            made: 0,
            history: vec![BTreeMap::new()],
            processes: Vec::new(),
            messages: Vec::new(),
            asking: BTreeSet::new(),
            streams: Vec::new(),
            flowing: Vec::new(),
            requests: Vec::new(),
            live: Vec::new(),
            served: 0,
        };
        for i in 0..MEMBERS {
            world.processes.push(Process::new(&member(i), mixed ^ i as u64, 1));
        }
        world
    }

    /// One in which the Function moves, and the news of it comes late, and nothing else goes wrong.
    pub fn gentle(seed: u64, flaw: Option<Flaw>) -> Self {
        Self { faults: 2, gentle: true, ..Self::new(seed, flaw) }
    }

    /// One thing happens; fails if it must not.
    pub fn step(&mut self) -> Result<(), String> {
        match self.chance.below(100) {
            0..25 => self.deliver(),
            25..45 => self.advance(),
            45..70 => self.admit(),
            70..80 => self.carry(),
            80..88 => self.stream(),
            88..92 => self.reconcile(),
            92..95 => self.move_function(),
            _ => {
                // From mere moves to the worst there is.
                let fault = self.chance.below(self.faults);
                self.fail(fault);
            }
        }
        self.check()
    }

    fn fail(&mut self, fault: usize) {
        match fault {
            1 => self.replicas = 1 + self.chance.below(3),
            2 | 3 => self.freeze(),
            4 => self.lose_patience(),
            5 => self.break_stream(),
            6 => self.remove_pod(),
            7 => self.kill(),
            _ => {}
        }
    }

    /// Ends all faults; fails if that does not lead to requests being served.
    pub fn heal(&mut self) -> Result<(), String> {
        for process in &mut self.processes {
            process.frozen = false;
        }
        self.replicas = 2;
        let owner = self.owners.last().cloned().unwrap_or_default();
        if !self.processes.iter().any(|process| process.alive && process.member == owner) {
            self.restart(&owner);
        }
        let served = self.served;
        for _ in 0..30_000 {
            match self.chance.below(10) {
                0..3 => self.deliver(),
                3..5 => self.advance(),
                5 => self.admit(),
                6..8 => self.carry(),
                8 => self.stream(),
                _ => self.reconcile(),
            }
            self.check()?;
            if self.served >= served + 20 && self.is_settled(&owner) {
                return Ok(());
            }
        }
        Err(format!("after the faults: {} served, no rest", self.served - served))
    }

    fn is_settled(&self, owner: &Arc<str>) -> bool {
        let process = self.processes.iter().find(|p| p.alive && p.member == *owner);
        let claims = process.and_then(|process| Some(&process.tenures.last()?.claims));
        let staying = || self.pods.iter().filter(|(_, pod)| !pod.told.going);
        staying().count() == self.replicas
            && staying().all(|(pod, _)| {
                claims.is_some_and(|claims| claims.holds(pod) && claims.foreign(pod) == 0)
            })
    }

    fn check(&self) -> Result<(), String> {
        if self.needless {
            return Err("a pod was replaced although nobody failed".into());
        }
        for (name, pod) in &self.pods {
            if pod.running.len() > self.limit as usize {
                return Err(format!("{} requests at once in {name}", pod.running.len()));
            }
            let senders = self.processes.iter().filter(|process| {
                let tenure = process.tenures.last().filter(|tenure| tenure.takeover.is_some());
                process.alive && tenure.is_some_and(|tenure| tenure.claims.holds(name))
            });
            if senders.count() > 1 {
                return Err(format!("{name} has two senders"));
            }
        }
        Ok(())
    }

    /// A random one of the messages arrives, if there is somebody to take it.
    fn deliver(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let index = self.chance.below(self.messages.len());
        let message = self.messages.swap_remove(index);
        match message {
            Message::Get(at, pod) => {
                let found = self.pods.get(&pod).map(|p| (p.version, p.told.claim.clone()));
                self.messages.push(Message::Got(at, pod, found));
            }
            Message::Patch(at, pod, version) => self.patch(at, pod, version),
            Message::Read(at, pod) => {
                let owner = self.owners.last().cloned().unwrap_or_default();
                if owner == self.processes[at.0].member {
                    let is_there = self.pods.get(&pod).is_some_and(|pod| !pod.told.going);
                    self.needless |= self.gentle && is_there;
                    self.messages.push(Message::Delete(pod));
                } else if let Some(takeover) = &mut self.tenure(at).takeover {
                    takeover.replacing_failed(&pod);
                }
            }
            Message::Delete(pod) => {
                if let Some(pod) = self.pods.get_mut(&pod) {
                    pod.told.going = true;
                    pod.version += 1;
                }
                self.tell();
            }
            Message::Ask(at, member, version) => self.ask(at, member, version),
            Message::Got(at, ..) | Message::Asked(at, ..) if self.processes[at.0].frozen => {
                self.messages.push(message);
            }
            Message::Got(at, pod, found) => self.got(at, &pod, found),
            Message::Asked(at, member, answer, stream) => self.asked(at, &member, &answer, stream),
        }
    }

    fn got(&mut self, at: At, pod: &Pod, found: Option<(u64, Option<ClaimId>)>) {
        let lost = self.chance.below(10) == 0;
        let found = match found {
            _ if lost => Found::Unknown,
            None => Found::Gone,
            Some((_, Some(claim))) => Found::Standing(claim),
            Some((version, None)) => {
                return self.messages.push(Message::Patch(at, Arc::clone(pod), version));
            }
        };
        let tenure = self.tenure(at);
        if let Some(takeover) = &mut tenure.takeover {
            takeover.claimed(pod, &found, &mut tenure.claims);
        }
        self.act(at.0);
    }

    fn patch(&mut self, at: At, pod: Pod, version: u64) {
        let id = self.tenure(at).claims.id().clone();
        let overwrites = self.flaw == Some(Flaw::ClaimsOverwrite);
        if let Some(found) = self.pods.get_mut(&pod)
            && (found.version == version || overwrites)
        {
            found.version += 1;
            found.told.claim = Some(id);
            self.tell();
        }
        // The answer is what a look at the pod tells.
        self.messages.push(Message::Get(at, pod));
    }

    fn ask(&mut self, from: At, member: Arc<str>, version: usize) {
        let asking = Arc::clone(&self.processes[from.0].member);
        let Some(index) = self.processes.iter().position(|p| p.alive && p.member == member) else {
            return self.messages.push(Message::Asked(from, member, Answer::Silent, None));
        };
        if self.processes[index].frozen {
            return self.messages.push(Message::Ask(from, member, version));
        }
        let process = &mut self.processes[index];
        let known = process.version;
        let waits = process.current().is_some_and(|(_, tenure)| tenure.claims.is_asking());
        let waits = waits && self.flaw != Some(Flaw::LateLost);
        if (known >= version && self.owners[known] != asking) || (waits && known > version) {
            return self.messages.push(Message::Asked(from, member, Answer::Refused, None));
        }
        process.fence = process.fence.max(version);
        let before = [process.gave_to.clone(), Some(Arc::clone(&process.believed))];
        process.believed = Arc::clone(&asking);
        if waits {
            process.leave();
            return self.messages.push(Message::Ask(from, member, version));
        }
        let (mut estate, mut stream) = (Estate::default(), None);
        // Who does not have it names whom it gave it to, and who has it as far as it knows.
        if process.current().is_none() {
            let own = Arc::clone(&process.member);
            let others = before.into_iter().flatten();
            estate.unheard.extend(others.filter(|named| *named != own && *named != asking));
        }
        process.gave_to = Some(Arc::clone(&asking));
        if let Some((tenure_index, tenure)) = process.current() {
            let own = |pod: &str| tenure.own.get(pod).copied().unwrap_or_default();
            if self.flaw == Some(Flaw::ReleasedKeepSending) {
                estate = tenure.claims.clone().hand_over(own);
            } else {
                estate = tenure.claims.hand_over(own);
                tenure.takeover = None;
                tenure.over = true;
            }
            let told: BTreeMap<Pod, u32> =
                estate.pods.iter().map(|p| (Arc::clone(&p.pod), p.in_flight)).collect();
            let from_there = (index, tenure_index);
            let (heard, lines) = (told.clone(), Vec::new());
            stream = Some(self.streams.len());
            self.flowing.push(self.streams.len());
            self.streams.push(Stream {
                from: from_there,
                to: from,
                told,
                lines,
                heard,
                broken: false,
            });
        }
        if self.flaw == Some(Flaw::OthersUnnamed) {
            estate.unheard.clear();
        }
        self.messages.push(Message::Asked(from, member, Answer::Gave(estate), stream));
    }

    fn asked(&mut self, at: At, member: &Arc<str>, answer: &Answer, stream: Option<usize>) {
        let waited_for = self.asking.remove(&(at, Arc::clone(member)));
        let heir = &mut self.processes[at.0];
        let owned = heir.tenures[at.1].takeover.is_some();
        let heard = heir.alive && !heir.tenures[at.1].over;
        if !waited_for || !heard || (!owned && self.flaw == Some(Flaw::LateLost)) {
            if let Some(stream) = stream {
                self.streams[stream].broken = true;
                self.streams[stream].heard.clear();
            }
            return;
        }
        let ignored = self.flaw == Some(Flaw::CountsIgnored);
        let tenure = &mut heir.tenures[at.1];
        let counts = tenure.claims.hear(member, answer);
        for count in counts.iter().filter(|_| ignored) {
            tenure.claims.count_down(&count.pod, 0);
        }
        if let Some(takeover) = &mut tenure.takeover {
            takeover.answered(member, answer, &tenure.claims);
        }
        self.act(at.0);
    }

    fn tenure(&mut self, (process, tenure): At) -> &mut super::process::Tenure {
        &mut self.processes[process].tenures[tenure]
    }

    /// Lets a process do what it has to.
    fn act(&mut self, index: usize) {
        if !self.processes[index].runs() {
            return;
        }
        let (tenure, actions) = self.processes[index].act();
        let at = (index, tenure);
        for action in actions {
            let message = match action {
                Action::Claim(pod) => Message::Get(at, pod),
                Action::Replace(pod) => Message::Read(at, pod),
                Action::Ask(member) => {
                    self.asking.insert((at, Arc::clone(&member)));
                    Message::Ask(at, member, self.processes[index].version)
                }
            };
            self.messages.push(message);
        }
    }

    /// A process hears something new of the membership or of the pods, in either order.
    fn advance(&mut self) {
        let index = self.chance.below(self.processes.len());
        if !self.processes[index].runs() {
            return;
        }
        let newest = self.owners.len() - 1;
        if self.chance.below(2) == 0 {
            let seen = self.processes[index].seen;
            let next = seen + 1 + self.chance.below(self.history.len() - seen);
            let process = &mut self.processes[index];
            process.seen = next.min(self.history.len() - 1);
            process.pods = self.history[process.seen].clone();
        } else {
            let version = self.processes[index].version;
            let next = version + self.chance.below(newest - version + 1);
            self.processes[index].version = next;
        }
        let version = self.processes[index].version;
        let (owner, before) = (self.owners[version].clone(), self.owners[version - 1].clone());
        self.processes[index].follow(&owner, &before);
        self.act(index);
    }

    fn admit(&mut self) {
        let index = self.chance.below(self.processes.len());
        let choice = self.chance.below(1 << 20);
        let limit = self.limit;
        let process = &mut self.processes[index];
        if !process.runs() {
            return;
        }
        if let Some((tenure, pod)) = process.admit(limit, |count| choice % count) {
            self.live.push(self.requests.len());
            self.requests.push(Request { at: (index, tenure), pod, phase: Phase::Admitted });
        }
    }

    /// A request goes one step further: to the network, to the pod, back, and out of the count.
    fn carry(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let place = self.chance.below(self.live.len());
        let index = self.live[place];
        let request = &mut self.requests[index];
        let process = &mut self.processes[request.at.0];
        request.phase = match request.phase {
            Phase::Admitted | Phase::Answered if !process.alive => Phase::Ended,
            Phase::Admitted if process.runs() => Phase::OnTheWay,
            Phase::OnTheWay => match self.pods.get_mut(&request.pod) {
                Some(pod) => {
                    pod.running.insert(index);
                    Phase::Running
                }
                None => Phase::Answered,
            },
            Phase::Running => {
                if let Some(pod) = self.pods.get_mut(&request.pod) {
                    pod.running.remove(&index);
                }
                Phase::Answered
            }
            Phase::Answered if process.runs() => {
                if let Some(own) = process.tenures[request.at.1].own.get_mut(&request.pod) {
                    *own -= 1;
                }
                self.served += 1;
                Phase::Ended
            }
            phase => phase,
        };
        if request.phase == Phase::Ended {
            self.live.swap_remove(place);
        }
    }

    /// A stream of counts goes on: a line is said, or heard.
    fn stream(&mut self) {
        if self.flowing.is_empty() {
            return;
        }
        let place = self.chance.below(self.flowing.len());
        let index = self.flowing[place];
        let stream = &mut self.streams[index];
        let giver = &self.processes[stream.from.0];
        if giver.runs() && !stream.broken {
            let tenure = &giver.tenures[stream.from.1];
            for (pod, told) in &mut stream.told {
                let own = tenure.own.get(pod).copied().unwrap_or_default();
                match tenure.claims.remaining(pod, own) {
                    Some(left) if left < *told => {
                        *told = left;
                        let pod = Arc::clone(pod);
                        stream.lines.push(PodCount { pod, in_flight: left });
                    }
                    Some(_) => {}
                    None => stream.broken |= *told > 0,
                }
            }
        }
        stream.broken |= !giver.alive;
        self.hear(index);
        let stream = &self.streams[index];
        if stream.heard.values().all(|left| *left == 0) {
            self.flowing.swap_remove(place);
        }
    }

    fn hear(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        let to = stream.to;
        let waiting = self.asking.iter().any(|(at, _)| *at == to);
        // The first line comes before the others, and a frozen process hears nothing.
        if !self.processes[to.0].runs() || waiting {
            return;
        }
        let trusted = self.flaw == Some(Flaw::BrokenTrusted);
        let claims = &mut self.processes[to.0].tenures[to.1].claims;
        for line in stream.lines.drain(..) {
            claims.count_down(&line.pod, line.in_flight);
            stream.heard.insert(line.pod, line.in_flight);
        }
        if stream.broken {
            for (pod, _) in stream.heard.iter().filter(|(_, left)| **left > 0) {
                if trusted {
                    claims.count_down(pod, 0);
                } else {
                    claims.lose(pod);
                }
            }
            stream.heard.clear();
            stream.told.clear();
        }
        self.act(to.0);
    }

    /// What the controller of `ReplicaSet`s and the kubelet do.
    fn reconcile(&mut self) {
        let staying = self.pods.iter().filter(|(_, pod)| !pod.told.going);
        let staying: Vec<Pod> = staying.map(|(name, _)| Arc::clone(name)).collect();
        if staying.len() < self.replicas {
            self.made += 1;
            let told = Told { claim: None, going: false };
            let pod = ApiPod { version: 1, told, running: BTreeSet::new() };
            self.pods.insert(format!("p{}", self.made).into(), pod);
        } else if staying.len() > self.replicas {
            let victim = Arc::clone(&staying[self.chance.below(staying.len())]);
            self.messages.push(Message::Delete(victim));
        } else if !staying.is_empty() {
            // The kubelet writes the status.
            let name = &staying[self.chance.below(staying.len())];
            if let Some(pod) = self.pods.get_mut(name) {
                pod.version += 1;
            }
        }
        self.pods.retain(|_, pod| !pod.told.going || !pod.running.is_empty());
        self.tell();
    }

    fn tell(&mut self) {
        let now = self.pods.iter().map(|(name, pod)| (Arc::clone(name), pod.told.clone()));
        self.history.push(now.collect());
    }

    fn lose_patience(&mut self) {
        if self.asking.is_empty() {
            return;
        }
        let index = self.chance.below(self.asking.len());
        let Some((at, member)) = self.asking.iter().nth(index).cloned() else { return };
        if !self.processes[at.0].runs() {
            return;
        }
        self.asking.remove(&(at, Arc::clone(&member)));
        let trusted = self.flaw == Some(Flaw::SilenceTrusted);
        let pods: Vec<Pod> = self.processes[at.0].pods.keys().cloned().collect();
        let tenure = self.tenure(at);
        let answer = if trusted {
            let pods = pods.into_iter().map(|pod| PodCount { pod, in_flight: 0 }).collect();
            Answer::Gave(Estate { pods, ..Estate::default() })
        } else {
            Answer::Silent
        };
        tenure.claims.hear(&member, &answer);
        if let Some(takeover) = &mut tenure.takeover {
            takeover.answered(&member, &answer, &tenure.claims);
        }
        self.act(at.0);
    }

    fn freeze(&mut self) {
        let index = self.chance.below(self.processes.len());
        self.processes[index].frozen = !self.processes[index].frozen;
    }

    /// A process dies, and another takes its place, with the same UID or another. What it sent goes
    /// on in the pods.
    fn kill(&mut self) {
        let index = self.chance.below(self.processes.len());
        if self.processes[index].alive {
            self.processes[index].alive = false;
            let member = Arc::clone(&self.processes[index].member);
            self.restart(&member);
        }
    }

    fn restart(&mut self, member: &Arc<str>) {
        let number = self.processes.len() as u64;
        // What it reads first may be old.
        let version = 1 + self.chance.below(self.owners.len() - 1);
        self.processes.push(Process::new(member, number, version));
    }

    fn move_function(&mut self) {
        let owner = format!("m{}", self.chance.below(MEMBERS));
        self.owners.push(owner.into());
    }

    fn break_stream(&mut self) {
        if !self.streams.is_empty() {
            let index = self.chance.below(self.streams.len());
            self.streams[index].broken = true;
        }
    }

    /// A pod ends with all that it runs.
    fn remove_pod(&mut self) {
        let names: Vec<Pod> = self.pods.keys().cloned().collect();
        if names.is_empty() {
            return;
        }
        let name = &names[self.chance.below(names.len())];
        if let Some(pod) = self.pods.remove(name) {
            for request in pod.running {
                self.requests[request].phase = Phase::Answered;
            }
        }
        self.tell();
    }
}
