//! Functions without a hard limit, called at any of three activators: whoever owns them decides,
//! and everybody sends. The pods count what is cut off in them and what comes when they are gone.

use std::sync::atomic::AtomicU32;

use futures::stream;
use rouse_core::simulation::chance::Chance;
use rouse_core::spread::{FollowerLine, LEASE, Subscribe, VALID};
use tokio::task::JoinHandle;

use super::*;
use crate::ndjson::decode;
use crate::scaler::tests::plant;
use crate::spread::{Connect, Stream as Opened, tell};

const SECOND: Duration = Duration::from_secs(1);
const NAMES: [&str; 3] = ["a", "b", "c"];

impl Network {
    /// Streams take a millisecond each way, and nothing passes to or from who is cut off.
    pub fn connector(&self) -> Arc<Connect> {
        let network = self.clone();
        Arc::new(move |member: Member, subscribe: Subscribe| {
            let network = network.clone();
            async move {
                let (lines, told) = mpsc::channel(16);
                let ends = [member.name.clone(), subscribe.member.to_string()];
                let told = stream::unfold(told, async |mut told| Some((told.recv().await?, told)));
                let heard = network.pass(told.boxed(), ends.clone());
                let answered = stream::once(network.clone().answer(member.name, subscribe, heard));
                let words = answered.filter_map(std::future::ready).flatten().boxed();
                Some(Opened { lines, words: network.pass(words, ends) })
            }
            .boxed()
        })
    }

    async fn answer(
        self,
        owner: String,
        subscribe: Subscribe,
        mut lines: BoxStream<'static, FollowerLine>,
    ) -> Option<impl futures::Stream<Item = rouse_core::spread::Word>> {
        let FollowerLine::Counts(first) = lines.next().await? else { panic!("counts come first") };
        let gate = self.owned_by(&owner)?;
        let words = tell(gate.follow(&subscribe.member, &first)?, lines);
        Some(decode(words.map(Ok::<_, std::io::Error>).boxed()))
    }

    fn owned_by(&self, name: &str) -> Option<Arc<Gate>> {
        let routes = self.routes.lock().unwrap().get(name).cloned()?;
        let table = routes.load();
        let Route::Found(handle) = table.find(Listener::Cluster, "f.shop", "/", None) else {
            return None;
        };
        match handle.owner() {
            Owner::Here(gate) => Some(gate),
            _ => None,
        }
    }

    fn pass<T: Send + 'static>(
        &self,
        stream: BoxStream<'static, T>,
        ends: [String; 2],
    ) -> BoxStream<'static, T> {
        let state = (stream, self.cut.subscribe(), ends);
        stream::unfold(state, async |(mut stream, mut cut, ends)| {
            let item = stream.next().await?;
            sleep(Duration::from_millis(1)).await;
            drop(cut.wait_for(|cut| !ends.iter().any(|end| cut.contains(end))).await.ok()?);
            Some((item, (stream, cut, ends)))
        })
        .boxed()
    }

    fn cut_streams(&self, name: &str) {
        self.cut.send_modify(|cut| cut.push(name.into()));
    }

    fn join_streams(&self) {
        self.cut.send_modify(Vec::clear);
    }
}

/// Three activators, and a Function that sleeps.
#[derive(Clone)]
struct Trio {
    plant: Plant,
    network: Network,
    activators: Arc<[Activator; 3]>,
    straight: Arc<AtomicU32>,
    version: Arc<AtomicU32>,
}

impl Trio {
    async fn new(max: u32) -> Self {
        let (plant, mut told) = Plant::new(settings(0, 0, max));
        let network = Network::default();
        let activators = Arc::new(NAMES.map(|name| Activator::start(name, &plant, &network)));
        let tells = Arc::clone(&activators);
        tokio::spawn(async move {
            while let Some(observation) = told.recv().await {
                tells.iter().for_each(|activator| activator.tell(copy(&observation)));
            }
        });
        activators.iter().for_each(Activator::list_all);
        plant.create("r1", Behaviour::Starts);
        plant.status(Some("r1"), "r1");
        sleep(Duration::from_millis(50)).await;
        let trio =
            Self { plant, network, activators, straight: Arc::default(), version: Arc::default() };
        trio.give_to(0).await;
        trio
    }

    /// The controller makes that one the owner.
    async fn give_to(&self, owner: usize) {
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        // The others stay members of the version before, so that they are known.
        let member = |name: &str| Member {
            uid: name.into(),
            name: name.into(),
            peer: format!("{name}:8082"),
        };
        let members = vec![member(NAMES[owner])];
        let mut now = Membership { version: version.into(), members, ..Membership::default() };
        self.plant.set_membership(&now);
        now.previous = NAMES.map(member).to_vec();
        for activator in self.activators.iter() {
            activator.tell(Observation::Membership(Event::Apply(now.clone())));
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// A request that comes to that activator and takes `service` in its pod.
    async fn call(&self, at: usize, service: Duration) {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < 60 * SECOND, "a request got no answer");
            let handle = self.activators[at].handle().unwrap();
            if let Some(permit) = handle.shortcut().admit() {
                self.straight.fetch_add(1, Ordering::SeqCst);
                let uid = Arc::clone(&permit.pod().uid);
                self.plant.begin(&uid);
                sleep(service).await;
                self.plant.end(&uid);
                return;
            }
            let gate = match handle.owner() {
                Owner::Here(gate) => Some(gate),
                Owner::Peer(member) => {
                    handle.shortcut().note_miss(&handle.uid);
                    self.network.owned_by(&member.name)
                }
                Owner::Nobody => None,
            };
            let called = match gate {
                Some(gate) => plant::call(gate, self.plant.clone(), service).await,
                None => Err(Refusal::Moved),
            };
            match called {
                Ok(_) => return,
                Err(Refusal::Moved) => sleep(Duration::from_millis(1)).await,
                Err(refusal) => panic!("{refusal:?}"),
            }
        }
    }

    fn begin(&self, at: usize, service: Duration) -> JoinHandle<()> {
        let trio = self.clone();
        tokio::spawn(async move { trio.call(at, service).await })
    }

    /// Calls until requests go straight.
    async fn warm(&self, at: usize) {
        let before = self.straight();
        for _ in 0..100 {
            self.call(at, Duration::from_millis(10)).await;
            if self.straight() > before {
                return;
            }
        }
        panic!("nothing goes straight");
    }

    fn straight(&self) -> u32 {
        self.straight.load(Ordering::SeqCst)
    }

    fn load(&self, owner: usize) -> crate::admission::Load {
        self.activators[owner].gate().load()
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            assert!(begun.elapsed() < 60 * SECOND, "never: {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn assert_nothing_lost(&self) {
        assert_eq!(self.plant.cut(), (0, 0), "cut off, and astray");
    }
}

#[tokio::test(start_paused = true)]
async fn a_warm_function_is_sent_to_straight_and_sleeps_when_nobody_calls() {
    let trio = Trio::new(4).await;
    trio.call(1, 10 * Duration::from_millis(1)).await;
    assert_eq!(trio.straight(), 0, "a cold start is the owner's business");
    trio.warm(1).await;
    let before = trio.straight();
    for _ in 0..400 {
        trio.call(1, 100 * Duration::from_millis(1)).await;
    }
    assert_eq!(trio.straight() - before, 400);
    assert_eq!(trio.plant.scales(), [("r1".into(), 1)], "40 s are more than it may idle");
    let called = Instant::now();
    trio.until("asleep", |trio| trio.plant.pods() == 0).await;
    assert!((9 * SECOND..13 * SECOND).contains(&called.elapsed()), "{:?}", called.elapsed());
    sleep(20 * SECOND).await;
    trio.call(1, SECOND).await;
    trio.assert_nothing_lost();
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_too_short_to_be_seen_keep_it_awake() {
    let trio = Trio::new(4).await;
    trio.warm(1).await;
    let before = trio.straight();
    for _ in 0..20 {
        trio.call(1, Duration::from_millis(1)).await;
        sleep(Duration::from_millis(3130)).await;
    }
    assert_eq!(trio.straight() - before, 20);
    assert_eq!(trio.plant.scales(), [("r1".into(), 1)]);
    trio.assert_nothing_lost();
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_straight_scales_up_and_no_pod_gets_much_more_than_its_target() {
    let trio = Trio::new(8).await;
    trio.warm(1).await;
    trio.warm(2).await;
    let mut callers = Vec::new();
    for caller in 0..60 {
        callers.push(trio.begin(1 + caller % 2, 10 * SECOND));
        sleep(Duration::from_millis(100)).await;
    }
    trio.until("scaled for all of them", |trio| trio.plant.replicas() >= 6).await;
    for caller in callers {
        caller.await.unwrap();
    }
    let most = trio.plant.most_serving();
    assert!(most.iter().all(|most| *most <= 20), "{most:?}");
    assert!(trio.straight() > 10, "{}", trio.straight());
    trio.assert_nothing_lost();
}

#[tokio::test(start_paused = true)]
async fn a_pod_goes_only_when_nobody_has_a_request_there() {
    let trio = Trio::new(4).await;
    trio.warm(1).await;
    let before = trio.straight();
    let long = trio.begin(1, 30 * SECOND);
    sleep(SECOND).await;
    assert_eq!((trio.straight() - before, trio.load(0).in_flight), (1, 1), "the owner counts it");
    trio.plant.create("r2", Behaviour::Starts);
    trio.plant.status(Some("r1"), "r2");
    trio.until("the new revision", |trio| trio.plant.replicas_of("r2") > 0).await;
    sleep(2 * SECOND).await;
    trio.warm(1).await;
    assert_eq!(trio.plant.replicas_of("r1"), 1, "its pod is busy");
    long.await.unwrap();
    trio.until("the old one goes", |trio| trio.plant.replicas_of("r1") == 0).await;
    trio.assert_nothing_lost();
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_owner_stops_and_is_not_waited_for_for_ever() {
    let trio = Trio::new(4).await;
    trio.warm(1).await;
    trio.network.cut_streams("b");
    let before = trio.straight();
    sleep(VALID).await;
    trio.call(1, SECOND).await;
    assert_eq!(trio.straight(), before, "it is passed to the owner");
    trio.plant.create("r2", Behaviour::Starts);
    trio.plant.status(Some("r1"), "r2");
    let begun = Instant::now();
    trio.until("the old one goes", |trio| trio.plant.replicas_of("r1") == 0).await;
    assert!(begun.elapsed() < LEASE + SECOND, "{:?}", begun.elapsed());
    trio.network.join_streams();
    sleep(2 * SECOND).await;
    trio.warm(1).await;
    trio.assert_nothing_lost();
}

#[tokio::test(start_paused = true)]
async fn the_next_owner_counts_what_the_former_one_and_others_have() {
    let trio = Trio::new(4).await;
    trio.warm(1).await;
    let before = trio.straight();
    let (own, other) = (trio.begin(0, 30 * SECOND), trio.begin(1, 20 * SECOND));
    sleep(SECOND).await;
    assert_eq!(trio.straight() - before, 1);
    trio.give_to(2).await;
    sleep(SECOND).await;
    assert_eq!(trio.load(2).in_flight, 2);
    trio.plant.create("r2", Behaviour::Starts);
    trio.plant.status(Some("r1"), "r2");
    trio.until("the new revision", |trio| trio.plant.replicas_of("r2") > 0).await;
    other.await.unwrap();
    assert_eq!(trio.plant.replicas_of("r1"), 1);
    trio.give_to(0).await;
    sleep(LEASE + SECOND).await;
    assert_eq!((trio.load(0).in_flight, trio.plant.replicas_of("r1")), (1, 1));
    own.await.unwrap();
    trio.until("the old one goes", |trio| trio.plant.replicas_of("r1") == 0).await;
    trio.assert_nothing_lost();
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_set_holds_for_what_others_sent_before() {
    let trio = Trio::new(1).await;
    trio.warm(1).await;
    let before = trio.straight();
    let sent: Vec<_> = (0..3).map(|_| trio.begin(1, 10 * SECOND)).collect();
    sleep(SECOND).await;
    assert_eq!(trio.straight() - before, 3);
    let seen = FunctionSeen {
        settings: Some(settings(2, 0, 1)),
        latest_ready: Some("r1".into()),
        latest_created: Some("r1".into()),
        learned: None,
        version: 9,
        ..function()
    };
    for activator in trio.activators.iter() {
        activator.tell(Observation::Function(Event::Apply(seen.clone())));
    }
    sleep(SECOND).await;
    let begun = Instant::now();
    trio.call(1, SECOND).await;
    assert!(begun.elapsed() > 8 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(trio.straight() - before, 3, "what is limited is never sent straight");
    for sent in sent {
        sent.await.unwrap();
    }
    trio.assert_nothing_lost();
}

/// Callers everywhere, while the owner changes, revisions come and streams are cut for a while.
#[tokio::test(start_paused = true)]
async fn nothing_is_lost_however_often_owners_and_revisions_change() {
    for seed in 0..12 {
        let trio = Trio::new(4).await;
        let end = Instant::now() + 90 * SECOND;
        let callers: Vec<_> = (0..9)
            .map(|caller| {
                let (trio, mut chance) = (trio.clone(), Chance::new(seed, caller));
                tokio::spawn(async move {
                    while Instant::now() < end {
                        let service = [5, 50, 300, 4000][chance.below(4)];
                        trio.call(chance.below(3), Duration::from_millis(service)).await;
                        if chance.below(20) == 0 {
                            sleep(Duration::from_millis(chance.below(15_000) as u64)).await;
                        }
                    }
                })
            })
            .collect();
        let mut chance = Chance::new(seed, 99);
        let mut revision = 1;
        while Instant::now() < end {
            sleep(Duration::from_millis(chance.below(6000) as u64)).await;
            match chance.below(4) {
                0 | 1 => trio.give_to(chance.below(3)).await,
                2 => {
                    let before = format!("r{revision}");
                    revision += 1;
                    let next = format!("r{revision}");
                    trio.plant.create(&next, Behaviour::Starts);
                    trio.plant.status(Some(&before), &next);
                }
                _ => {
                    trio.network.cut_streams(NAMES[chance.below(3)]);
                    sleep(Duration::from_millis(chance.below(3000) as u64)).await;
                    trio.network.join_streams();
                }
            }
        }
        for caller in callers {
            caller.await.unwrap();
        }
        assert_eq!(trio.plant.cut(), (0, 0), "seed {seed}: cut off, and astray");
        assert!(trio.straight() > 100, "seed {seed}: {}", trio.straight());
    }
}
