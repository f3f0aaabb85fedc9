//! A Function with a hard limit moves between activators that live, freeze, and break off. The pods
//! count what they run.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::admission::Gate;
use crate::scaler::tests::plant::{self, call};

const SECOND: Duration = Duration::from_secs(1);

/// Two activators, of which the first may be frozen: it hears nothing and nobody hears of it.
struct Pair {
    plant: Plant,
    network: Network,
    a: Activator,
    b: Activator,
    frozen: Arc<AtomicBool>,
    version: u64,
}

impl Pair {
    async fn new(limit: u32, max: u32) -> Self {
        let (plant, mut told) = Plant::new(settings(limit, 0, max));
        let network = Network::default();
        let a = Activator::start("a", &plant, &network);
        let b = Activator::start("b", &plant, &network);
        let frozen = Arc::<AtomicBool>::default();
        let (senders, hears) = ([a.observations.clone(), b.observations.clone()], frozen.clone());
        tokio::spawn(async move {
            while let Some(observation) = told.recv().await {
                let deaf = usize::from(hears.load(Ordering::SeqCst));
                for sender in &senders[deaf..] {
                    drop(sender.send(copy(&observation)));
                }
            }
        });
        a.list_all();
        b.list_all();
        plant.create("r1", Behaviour::Starts);
        plant.status(Some("r1"), "r1");
        sleep(Duration::from_millis(50)).await;
        let mut pair = Self { plant, network, a, b, frozen, version: 0 };
        pair.give_to("a");
        sleep(Duration::from_millis(10)).await;
        pair
    }

    /// The controller makes `name` the only member.
    fn give_to(&mut self, name: &str) {
        self.version += 1;
        let Observation::Membership(Event::Apply(now)) = membership(self.version, &[name]) else {
            panic!("it is a membership");
        };
        let previous = self.plant.set_membership(&now);
        let now = Membership { previous, ..now };
        self.b.tell(Observation::Membership(Event::Apply(now.clone())));
        if !self.frozen.load(Ordering::SeqCst) {
            self.a.tell(Observation::Membership(Event::Apply(now)));
        }
    }

    fn freeze_a(&self) {
        self.frozen.store(true, Ordering::SeqCst);
        self.network.cut_off("a");
    }

    fn begin(&self, gate: &Arc<Gate>, service: Duration) -> tokio::task::JoinHandle<Duration> {
        let calling = call(Arc::clone(gate), self.plant.clone(), service);
        tokio::spawn(async move { calling.await.expect("it is served").1 })
    }

    fn assert_exact(&self, limit: u32) {
        let most = self.plant.most_serving();
        assert!(most.iter().all(|most| *most <= limit), "{most:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_pod_is_handed_over_with_its_requests() {
    let mut pair = Pair::new(1, 1).await;
    let first = pair.begin(&pair.a.gate(), 5 * SECOND);
    sleep(SECOND).await;
    pair.give_to("b");
    sleep(Duration::from_millis(20)).await;
    let second = pair.begin(&pair.b.gate(), SECOND);
    first.await.unwrap();
    let waited = second.await.unwrap();
    assert!((4 * SECOND..5 * SECOND).contains(&waited), "{waited:?}");
    assert_eq!(pair.plant.most_serving(), [1], "the same pod served both");
    assert_eq!(pair.plant.scales(), [("r1".into(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_warm_pod_serves_on_at_once() {
    let mut pair = Pair::new(3, 1).await;
    pair.begin(&pair.a.gate(), SECOND).await.unwrap();
    for round in 0..20 {
        pair.give_to(if round % 2 == 0 { "b" } else { "a" });
        sleep(Duration::from_millis(10)).await;
        let owner = if round % 2 == 0 { &pair.b } else { &pair.a };
        let waited = pair.begin(&owner.gate(), Duration::from_millis(100)).await.unwrap();
        assert!(waited < Duration::from_millis(20), "round {round}: {waited:?}");
    }
    assert_eq!(pair.plant.most_serving().len(), 1);
}

/// What is on its way to an owner that is none any more is passed on.
#[tokio::test(start_paused = true)]
async fn a_function_that_moves_on_before_it_has_arrived_keeps_its_pod() {
    for (moves, pause) in (2..8).flat_map(|moves| [0, 1, 2, 3].map(|pause| (moves, pause))) {
        let mut pair = Pair::new(1, 1).await;
        pair.begin(&pair.a.gate(), SECOND).await.unwrap();
        for number in 1..=moves {
            pair.give_to(if number % 2 == 0 { "a" } else { "b" });
            sleep(Duration::from_millis(pause)).await;
        }
        sleep(Duration::from_millis(20)).await;
        let owner = if moves % 2 == 0 { &pair.a } else { &pair.b };
        let waited = pair.begin(&owner.gate(), SECOND).await.unwrap();
        assert!(waited < SECOND / 10, "{moves} moves, {pause} ms apart: {waited:?}");
        assert_eq!(pair.plant.most_serving().len(), 1, "{moves} moves, {pause} ms apart");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_starts_is_handed_over_at_any_moment_of_its_start() {
    for moment in (0..320).step_by(7) {
        let mut pair = Pair::new(1, 1).await;
        let waits = call(pair.a.gate(), pair.plant.clone(), SECOND);
        let waits = tokio::spawn(waits);
        sleep(Duration::from_millis(moment)).await;
        pair.give_to("b");
        sleep(Duration::from_millis(10)).await;
        let waited = pair.begin(&pair.b.gate(), SECOND).await.unwrap();
        let first = waits.await.unwrap();
        assert!(first.is_err() || moment > 270, "after {moment}: it is turned away to b");
        assert!(waited < 2 * SECOND, "after {moment}: {waited:?}");
        assert_eq!(pair.plant.most_serving(), [1], "after {moment}: no pod is replaced");
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_owner_keeps_its_pods_and_others_take_their_place() {
    let mut pair = Pair::new(1, 1).await;
    let gate = pair.a.gate();
    let long = pair.begin(&gate, 30 * SECOND);
    sleep(SECOND).await;
    pair.freeze_a();
    pair.give_to("b");
    sleep(Duration::from_millis(20)).await;
    let waited = pair.begin(&pair.b.gate(), 10 * SECOND).await.unwrap();
    assert!((2 * SECOND..3 * SECOND).contains(&waited), "{waited:?}");
    pair.assert_exact(1);
    assert_eq!(pair.plant.most_serving().len(), 2, "a pod in the place of the one that a has");
    // It wakes up, still believes that it owns the Function, and hears in the end.
    drop(long);
    assert!(gate.may_send_to("r1-0001") && !gate.may_send_to("r1-0002"));
    pair.frozen.store(false, Ordering::SeqCst);
    pair.give_to("b");
    sleep(Duration::from_millis(20)).await;
    assert!(matches!(pair.a.owner(), Owner::Peer(_)));
    pair.assert_exact(1);
}

#[tokio::test(start_paused = true)]
async fn who_asks_by_an_old_membership_is_refused_and_who_asks_by_a_new_one_is_believed() {
    let pair = Pair::new(1, 1).await;
    pair.begin(&pair.a.gate(), SECOND).await.unwrap();
    let b = Member { uid: "b".into(), name: "b".into(), peer: "b:8082".into() };
    let asks = |version| Release { function: UID.into(), version, to: b.clone() };
    let ask = pair.network.asker();
    let a = Member { uid: "a".into(), name: "a".into(), peer: "a:8082".into() };
    let released = ask(a.clone(), asks(1)).await;
    assert!(matches!(released, Released::Refused), "{released:?}");
    assert!(matches!(pair.a.owner(), Owner::Here(_)));
    let Released::Gave { estate, .. } = ask(a, asks(2)).await else { panic!("it is the owner") };
    assert_eq!(estate.pods.len(), 1);
    assert!(matches!(pair.a.owner(), Owner::Peer(peer) if peer.uid == "b"));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_superseded_in_its_sleep_puts_nothing_to_sleep() {
    let mut pair = Pair::new(0, 4).await;
    pair.begin(&pair.a.gate(), SECOND).await.unwrap();
    pair.freeze_a();
    pair.give_to("b");
    sleep(Duration::from_millis(20)).await;
    for _ in 0..30 {
        pair.begin(&pair.b.gate(), SECOND).await.unwrap();
    }
    assert_eq!(pair.plant.scales(), [("r1".into(), 1)], "a wants it to sleep and may not");
}

#[tokio::test(start_paused = true)]
async fn a_giver_that_breaks_off_has_its_busy_pod_replaced() {
    let mut pair = Pair::new(1, 1).await;
    let first = pair.begin(&pair.a.gate(), 30 * SECOND);
    sleep(SECOND).await;
    pair.network.break_off.store(true, Ordering::SeqCst);
    pair.give_to("b");
    sleep(Duration::from_millis(20)).await;
    let waited = pair.begin(&pair.b.gate(), SECOND).await.unwrap();
    assert!(waited < SECOND, "{waited:?}");
    pair.assert_exact(1);
    assert_eq!(pair.plant.most_serving().len(), 2);
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_breaks_off_keeps_the_claims_and_the_counts() {
    let pair = Pair::new(1, 2).await;
    let gate = pair.a.gate();
    let first = pair.begin(&gate, 5 * SECOND);
    sleep(SECOND).await;
    // The second request makes it scale up, which breaks it off.
    pair.plant.break_off();
    let second = tokio::spawn(call(Arc::clone(&gate), pair.plant.clone(), SECOND));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(second.await.unwrap().unwrap_err(), Refusal::Moved);
    pair.begin(&pair.a.gate(), 5 * SECOND).await.unwrap();
    first.await.unwrap();
    pair.assert_exact(1);
}

/// Ownership moves under load, back and forth, and more often than a hand-over takes. Nobody is
/// frozen: nothing is lost, and no pod replaced for long.
#[tokio::test(start_paused = true)]
async fn nothing_is_lost_and_no_limit_broken_however_often_it_moves() {
    for pause in [1, 3, 10, 40, 150, 600] {
        let mut pair = Pair::new(1, 3).await;
        let end = Instant::now() + 6 * SECOND;
        let clients: Vec<_> = (0..6)
            .map(|_| {
                let owners = [pair.a.handle().unwrap(), pair.b.handle().unwrap()];
                tokio::spawn(client(owners, pair.plant.clone(), end))
            })
            .collect();
        let mut round = 0;
        while Instant::now() < end {
            round += 1;
            pair.give_to(if round % 2 == 0 { "a" } else { "b" });
            sleep(Duration::from_millis(pause)).await;
        }
        let mut served = 0;
        for client in clients {
            served += client.await.unwrap();
        }
        pair.assert_exact(1);
        assert!(pause < 10 || served > 50, "moved every {pause} ms: {served} served");
    }
}

async fn client(owners: [Arc<FunctionHandle>; 2], plant: Plant, end: Instant) -> u32 {
    let mut served = 0;
    while Instant::now() < end {
        let gate = owners.iter().find_map(|handle| match handle.owner() {
            Owner::Here(gate) => Some(gate),
            _ => None,
        });
        let called = match gate {
            Some(gate) => plant::call(gate, plant.clone(), Duration::from_millis(70)).await,
            None => Err(Refusal::Moved),
        };
        match called {
            Ok(_) => served += 1,
            Err(Refusal::Moved) => sleep(Duration::from_millis(1)).await,
            Err(refusal) => panic!("{refusal:?}"),
        }
    }
    served
}
