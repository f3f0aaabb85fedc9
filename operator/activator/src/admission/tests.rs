use std::num::NonZeroU32;

use futures::FutureExt;
use proptest::prelude::*;
use rouse_crds::v1alpha1::Protocol;
use tokio::time::advance;

use super::*;
use crate::pod::Start;

fn bounds(target: u32, limit: u32, requests: u32, bytes: u64) -> Bounds {
    Bounds {
        concurrency: Concurrency {
            target: NonZeroU32::new(target).unwrap(),
            limit: NonZeroU32::new(limit),
        },
        buffer: BufferBounds { requests, bytes },
    }
}

fn pod(uid: &str) -> Arc<Pod> {
    Arc::new(Pod {
        uid: uid.into(),
        name: uid.into(),
        revision: "r".into(),
        address: ([127, 0, 0, 1], 1).into(),
        protocol: Protocol::Http1,
        memory: 64 << 20,
        start: Start::default(),
        connections: crate::upstream::Connections::default(),
    })
}

fn queued(gate: &Arc<Gate>) -> Waiting {
    match gate.admit(10) {
        Admission::Queued(waiting) => waiting,
        other => panic!("expected a place in the queue, got {other:?}"),
    }
}

fn granted(gate: &Arc<Gate>) -> Permit {
    match gate.admit(10) {
        Admission::Granted(permit) => permit,
        other => panic!("expected a permit, got {other:?}"),
    }
}

fn refused(gate: &Arc<Gate>) -> Refusal {
    match gate.admit(10) {
        Admission::Refused(refusal) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn full(gate: &Arc<Gate>) -> Full {
    match refused(gate) {
        Refusal::Full { full, retry_after } => {
            assert!((1..=60).contains(&retry_after.as_secs()));
            full
        }
        other => panic!("expected a full queue, got {other:?}"),
    }
}

/// The permit of a waiter that must have one by now.
fn now(waiting: Waiting) -> Permit {
    waiting.now_or_never().expect("the waiter has an answer").expect("the answer is a permit")
}

#[test]
fn who_leaves_the_queue_was_no_load() {
    let gate = Gate::new(bounds(1, 1, 1000, 100_000));
    let stays = queued(&gate);
    let flood: Vec<Waiting> = (0..100).map(|_| queued(&gate)).collect();
    drop(flood);
    assert_eq!(gate.take_load().peak, 1, "a flood that is taken back starts no pods");
    gate.open(&pod("a"));
    let permit = now(stays);
    let waiting: Vec<Waiting> = (0..10).map(|_| queued(&gate)).collect();
    drop(waiting);
    drop(permit);
    assert_eq!(gate.take_load().peak, 1, "who had a slot was load");
    assert_eq!(gate.take_load().peak, 0);
}

#[test]
fn the_queue_is_first_come_first_served_and_slots_are_exact() {
    let gate = Gate::new(bounds(80, 1, 10, 1000));
    let mut first = queued(&gate);
    let mut second = queued(&gate);
    gate.open(&pod("a"));
    assert!((&mut second).now_or_never().is_none());
    let permit = (&mut first).now_or_never().expect("the first has its turn").unwrap();
    assert!(matches!(gate.admit(10), Admission::Queued(_)), "nobody overtakes the queue");
    drop(permit);
    drop(now(second));
    assert_eq!(gate.take_load().in_flight, 0);
}

#[test]
fn the_least_loaded_pod_is_chosen() {
    let gate = Gate::new(bounds(80, 0, 10, 1000));
    gate.open(&pod("a"));
    gate.open(&pod("b"));
    let permits: Vec<Permit> = (0..4).map(|_| granted(&gate)).collect();
    assert!(gate.take_load().pods.iter().all(|pod| pod.in_flight == 2));
    drop(permits);
}

#[test]
fn a_soft_target_holds_back_only_while_more_pods_are_expected() {
    let gate = Gate::new(bounds(2, 0, 10, 1000));
    gate.expect_pods(true);
    let mut waiting: Vec<Waiting> = (0..5).map(|_| queued(&gate)).collect();
    gate.open(&pod("a"));
    let first: Vec<Permit> = waiting.drain(..2).map(now).collect();
    assert!((&mut waiting[0]).now_or_never().is_none());
    gate.expect_pods(false);
    let rest: Vec<Permit> = waiting.into_iter().map(now).collect();
    assert_eq!(gate.take_load().in_flight, 5);
    drop((first, rest));
}

#[test]
fn the_queue_is_bounded_in_requests_and_bytes() {
    let gate = Gate::new(bounds(80, 0, 2, 1000));
    let held = [queued(&gate), queued(&gate)];
    assert_eq!(full(&gate), Full::Requests(2));
    drop(held);
    gate.configure(bounds(80, 0, 10, 15));
    let held = queued(&gate);
    assert_eq!(full(&gate), Full::Bytes(15));
    drop(held);
    drop(queued(&gate));
}

#[test]
fn a_waiter_that_leaves_gives_its_place_and_its_slot_back() {
    let gate = Gate::new(bounds(80, 1, 10, 1000));
    let leaves = queued(&gate);
    let stays = queued(&gate);
    drop(leaves);
    let answered_then_dropped = queued(&gate);
    gate.open(&pod("a"));
    drop(now(stays));
    drop(answered_then_dropped);
    let load = gate.take_load();
    assert_eq!((load.in_flight, load.waiting), (0, 0));
    drop(granted(&gate));
}

#[test]
fn a_failed_start_turns_away_until_a_pod_opens_or_there_is_hope() {
    let gate = Gate::new(bounds(80, 1, 10, 1000));
    let waiting = queued(&gate);
    let failure = Arc::new(StartFailure { reason: "ImagePullFailed", message: "no".into() });
    gate.fail(Arc::clone(&failure));
    let answer = waiting.now_or_never().expect("the waiter has an answer");
    assert_eq!(answer.unwrap_err(), Refusal::StartFailed(Arc::clone(&failure)));
    assert_eq!(refused(&gate), Refusal::StartFailed(Arc::clone(&failure)));
    gate.hope();
    drop(queued(&gate));
    gate.open(&pod("a"));
    gate.fail(failure);
    drop(granted(&gate));
}

#[test]
fn a_shut_gate_turns_everyone_away_and_lets_the_served_go_on() {
    let gate = Gate::new(bounds(80, 1, 10, 1000));
    gate.open(&pod("a"));
    let permit = granted(&gate);
    let waiting = queued(&gate);
    gate.shut(Refusal::Moved);
    assert_eq!(waiting.now_or_never().unwrap().unwrap_err(), Refusal::Moved);
    assert_eq!(refused(&gate), Refusal::Moved);
    assert_eq!(gate.take_load().in_flight, 1);
    drop(permit);
    assert_eq!(gate.take_load().in_flight, 0);
}

#[tokio::test]
async fn the_task_is_told_of_load_above_the_alarm_and_of_idle_pods() {
    let gate = Gate::new(bounds(80, 0, 10, 1000));
    let waiting = queued(&gate);
    gate.changed().await;
    gate.set_alarm(5);
    gate.open(&pod("a"));
    let permit = now(waiting);
    assert!(gate.changed().now_or_never().is_none(), "below the alarm nobody is woken");
    permit.note_first_byte(None);
    gate.changed().await;
    assert!(gate.take_load().activation.unwrap().first_byte.is_some());
    let other = granted(&gate);
    drop(other);
    let other = granted(&gate);
    gate.close("a");
    drop(permit);
    assert!(gate.changed().now_or_never().is_none());
    drop(other);
    gate.changed().await;
}

#[test]
fn a_retired_pod_goes_with_its_last_request_and_never_opens_again() {
    let gate = Gate::new(bounds(80, 0, 10, 1000));
    let a = pod("a");
    gate.open(&a);
    let permit = granted(&gate);
    gate.retire("a");
    gate.open(&a);
    drop(queued(&gate));
    assert_eq!(gate.take_load().pods.len(), 1);
    drop(permit);
    assert_eq!(gate.take_load().pods, []);
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_load_leaves_the_peak_and_learns_when_it_was_idle() {
    let gate = Gate::new(bounds(80, 0, 10, 1000));
    gate.open(&pod("a"));
    gate.set_alarm(5);
    assert_eq!(gate.load().idle_since, None);
    drop((granted(&gate), granted(&gate)));
    let idle = Instant::now();
    advance(Duration::from_secs(9)).await;
    assert_eq!((gate.load().peak, gate.load().peak), (2, 2));
    assert_eq!(gate.take_load().idle_since, Some(idle));
    assert_eq!(gate.load().peak, 0);
    let permit = granted(&gate);
    assert_eq!((gate.load().peak, gate.load().idle_since), (1, None));
    drop(permit);
    assert!(gate.changed().now_or_never().is_none(), "nobody is woken for each request");
}

#[test]
fn a_request_that_could_not_be_sent_keeps_its_place() {
    let gate = Gate::new(bounds(80, 1, 10, 1000));
    let (a, b) = (pod("a"), pod("b"));
    gate.open(&a);
    let first = granted(&gate);
    let later = queued(&gate);
    assert!(!first.note_fault(Fault::Unreached), "the only pod is not ejected");
    let place = first.place();
    drop(first);
    let Admission::Queued(mut again) = gate.admit_again(place, 10) else { panic!("it waits") };
    gate.open(&b);
    let permit = (&mut again).now_or_never().expect("it is the first").unwrap();
    assert_eq!(&*permit.pod().uid, "b");
    assert!(permit.waited_since().is_some());
    drop((permit, again));
    assert_eq!(&*now(later).pod().uid, "b");
}

#[tokio::test(start_paused = true)]
async fn a_suspect_pod_is_tried_by_one_request_and_the_queue_follows_once_it_is_reached() {
    let gate = Gate::new(bounds(80, 0, 100, 10_000));
    gate.open(&pod("a"));
    let first = granted(&gate);
    let begun = Instant::now();
    first.note_fault(Fault::Unreached);
    drop(first);
    let mut waiting: Vec<Waiting> = (0..50).map(|_| queued(&gate)).collect();
    for tried in 0..10 {
        let trial = waiting.remove(0).await.unwrap();
        assert!(trial.is_trial());
        assert!((&mut waiting[0]).now_or_never().is_none(), "one at a time");
        if tried < 9 {
            trial.note_fault(Fault::Unreached);
            let place = trial.place();
            drop(trial);
            let Admission::Queued(again) = gate.admit_again(place, 10) else { panic!("it waits") };
            waiting.insert(0, again);
        } else {
            trial.reached()();
            drop(trial);
        }
    }
    // 2 + 4 ... 128 + 250 + 250 + 250 ms
    assert_eq!(begun.elapsed(), Duration::from_millis(1004));
    let rest: Vec<Permit> = waiting.into_iter().map(now).collect();
    assert!(rest.iter().all(|permit| !permit.is_trial()));
    drop(rest);
    assert_eq!(gate.take_load().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_failing_pod_is_ejected_for_ever_longer_and_taken_back_when_it_answers() {
    let gate = Gate::new(bounds(80, 0, 100, 10_000));
    for uid in ["good", "also good", "bad"] {
        gate.open(&pod(uid));
    }
    let on_bad = |gate: &Arc<Gate>| {
        let permits: Vec<Permit> = (0..30).map(|_| granted(gate)).collect();
        permits.into_iter().find(|permit| &*permit.pod().uid == "bad")
    };
    for _ in 0..2 {
        let broken = on_bad(&gate).expect("it is not suspect yet");
        assert!(!broken.note_fault(Fault::Broken));
    }
    assert!(on_bad(&gate).unwrap().note_fault(Fault::Broken));
    gate.changed().await;
    for pause in [1, 2, 4] {
        let begun = Instant::now();
        let trial = loop {
            match on_bad(&gate) {
                Some(trial) => break trial,
                None => advance(Duration::from_millis(50)).await,
            }
        };
        assert_eq!(begun.elapsed(), Duration::from_secs(pause));
        assert!(trial.is_trial() && on_bad(&gate).is_none(), "one request tries it");
        if pause == 4 {
            let bad = gate.load().pods.into_iter().find(|pod| &*pod.uid == "bad").unwrap();
            assert_eq!(bad.failing.unwrap().ejections, 3);
            trial.note_first_byte(None);
        } else {
            assert!(trial.note_fault(Fault::Broken));
        }
    }
    assert!(!on_bad(&gate).expect("it serves again").is_trial());
    assert!(gate.load().pods.iter().all(|pod| pod.failing.is_none()));
}

#[tokio::test(start_paused = true)]
async fn never_more_than_half_are_ejected_and_when_all_fail_all_are_tried() {
    let gate = Gate::new(bounds(80, 1, 100, 10_000));
    let pods: Vec<Arc<Pod>> = (0..4).map(|i| pod(&i.to_string())).collect();
    for pod in &pods {
        gate.open(pod);
    }
    let permits: Vec<Permit> = (0..4).map(|_| granted(&gate)).collect();
    let ejected: Vec<bool> =
        permits.iter().map(|permit| permit.note_fault(Fault::Unreached)).collect();
    assert_eq!(ejected, [true, true, false, false]);
    drop(permits);
    let waiting: Vec<Waiting> = (0..4).map(|_| queued(&gate)).collect();
    let begun = Instant::now();
    let mut tried = Vec::new();
    for waiting in waiting {
        tried.push(waiting.await.unwrap());
    }
    assert!(begun.elapsed() <= Duration::from_millis(260), "{:?}", begun.elapsed());
    let mut uids: Vec<&str> = tried.iter().map(|permit| &*permit.pod().uid).collect();
    uids.sort_unstable();
    assert_eq!(uids, ["0", "1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_breaks_off_and_is_the_only_one_is_used_as_before() {
    let gate = Gate::new(bounds(80, 0, 100, 10_000));
    gate.open(&pod("a"));
    for _ in 0..5 {
        assert!(!granted(&gate).note_fault(Fault::Broken));
    }
    assert!(gate.load().pods[0].failing.is_some());
    let at_once: Vec<Permit> = (0..20).map(|_| granted(&gate)).collect();
    at_once[7].note_first_byte(None);
    assert!(gate.load().pods[0].failing.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_suspect_pod_without_a_free_slot_is_tried_when_it_has_one() {
    let gate = Gate::new(bounds(80, 1, 10, 1000));
    gate.open(&pod("a"));
    let permit = granted(&gate);
    permit.note_fault(Fault::Unreached);
    let mut waiting = queued(&gate);
    let waited = tokio::time::timeout(Duration::from_secs(1), &mut waiting).await;
    assert!(waited.is_err(), "time goes on, and nobody is let in");
    drop(permit);
    assert!(now(waiting).is_trial());
}

#[tokio::test(start_paused = true)]
async fn a_trial_whose_client_leaves_makes_room_for_the_next() {
    let gate = Gate::new(bounds(80, 0, 100, 10_000));
    gate.open(&pod("a"));
    granted(&gate).note_fault(Fault::Unreached);
    let (first, second) = (queued(&gate), queued(&gate));
    let trial = first.await.unwrap();
    assert!(trial.is_trial());
    drop(trial);
    assert!(second.await.unwrap().is_trial());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive,
    Leave(usize),
    Finish(usize),
    Open(usize),
    Close(usize),
    Retire(usize),
    Expect(bool),
    Fault(usize, bool),
    Answer(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Arrive),
        1 => (0usize..20).prop_map(Step::Leave),
        3 => (0usize..20).prop_map(Step::Finish),
        1 => (0usize..4).prop_map(Step::Open),
        1 => (0usize..4).prop_map(Step::Close),
        1 => (0usize..4).prop_map(Step::Retire),
        1 => any::<bool>().prop_map(Step::Expect),
        2 => (0usize..20, any::<bool>()).prop_map(|(i, broken)| Step::Fault(i, broken)),
        1 => (0usize..20).prop_map(Step::Answer),
    ]
}

proptest! {
    /// Whatever happens: no pod above its limit, nobody waits while a sound pod has room, some pod
    /// may be tried while all are suspect, and every count is zero when all have gone.
    #[test]
    fn slots_are_exact_and_nothing_leaks(
        steps in prop::collection::vec(step(), 1..200), limit in 0u32..4,
    ) {
        let gate = Gate::new(bounds(2, limit, 8, 1000));
        let pods: Vec<Arc<Pod>> = (0..4).map(|i| pod(&i.to_string())).collect();
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut permits: Vec<Permit> = Vec::new();
        let mut retired = [false; 4];
        for step in steps {
            match step {
                Step::Arrive => match gate.admit(1) {
                    Admission::Granted(permit) => permits.push(permit),
                    Admission::Queued(place) => waiting.push(place),
                    Admission::Refused(_) => {}
                },
                Step::Leave(i) if !waiting.is_empty() => { let i = i % waiting.len(); drop(waiting.remove(i)); }
                Step::Finish(i) if !permits.is_empty() => { let i = i % permits.len(); drop(permits.remove(i)); }
                Step::Open(i) if !retired[i] => gate.open(&pods[i]),
                Step::Close(i) => gate.close(&pods[i].uid),
                Step::Retire(i) => { retired[i] = true; gate.retire(&pods[i].uid); }
                Step::Expect(more) => gate.expect_pods(more),
                Step::Fault(i, broken) if !permits.is_empty() => {
                    let i = i % permits.len();
                    permits[i].note_fault(if broken { Fault::Broken } else { Fault::Unreached });
                }
                Step::Answer(i) if !permits.is_empty() => {
                    let permit = &permits[i % permits.len()];
                    permit.reached()();
                    permit.note_first_byte(None);
                }
                _ => {}
            }
            let mut still = Vec::new();
            for mut place in waiting.drain(..) {
                match (&mut place).now_or_never() {
                    Some(answer) => permits.push(answer.expect("nobody fails here")),
                    None => still.push(place),
                }
            }
            waiting = still;
            let load = gate.take_load();
            prop_assert_eq!(load.in_flight as usize, permits.len());
            prop_assert_eq!(load.waiting as usize, waiting.len());
            for pod in &load.pods {
                prop_assert!(limit == 0 || pod.in_flight <= limit);
                let sound = pod.open && pod.failing.is_none();
                let room = sound && limit != 0 && pod.in_flight < limit;
                prop_assert!(!(room && load.waiting > 0), "someone waits beside a free slot");
            }
        }
        drop(waiting);
        drop(permits);
        let load = gate.take_load();
        prop_assert_eq!((load.in_flight, load.waiting), (0, 0));
        let state = gate.state.lock().unwrap();
        let open = state.slots.iter().filter(|slot| slot.open).count();
        let ejected = state.slots.iter().filter(|slot| slot.open && slot.health.is_ejected());
        let sound = state.slots.iter().any(|slot| slot.open && slot.health.is_sound());
        prop_assert!(ejected.count() == 0 || (sound && open > 1), "somebody is left");
    }
}
