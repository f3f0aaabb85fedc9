//! The protocol of claims against a world that does its worst, by seeds; and that the world would
//! notice if a step of the protocol were missing.

mod process;
mod world;

use world::{Flaw, World};

use super::*;
use crate::exploration;

/// Runs of the world that sees each invariant hold. More by `ROUSE_SEEDS=N`.
const SEEDS: u64 = 600;
/// Runs within which each flaw must show.
const FLAW_SEEDS: u64 = 400;
const STEPS: usize = 600;

fn run(seed: u64, flaw: Option<Flaw>) -> Result<(), String> {
    live(World::new(seed, flaw))
}

fn run_gentle(seed: u64, flaw: Option<Flaw>) -> Result<(), String> {
    live(World::gentle(seed, flaw))
}

fn live(mut world: World) -> Result<(), String> {
    for _ in 0..STEPS {
        world.step()?;
    }
    world.heal()
}

#[test]
fn no_pod_ever_has_two_senders_or_more_requests_than_its_limit_and_all_are_served_in_the_end() {
    exploration::holds(SEEDS, |seed| run(seed, None));
}

#[test]
fn each_step_of_the_protocol_is_needed() {
    let flaws = [
        Flaw::ClaimsOverwrite,
        Flaw::CountsIgnored,
        Flaw::SilenceTrusted,
        Flaw::ReleasedKeepSending,
        Flaw::BrokenTrusted,
    ];
    exploration::notices(FLAW_SEEDS, flaws, run);
}

#[test]
fn no_pod_is_replaced_while_nobody_fails_however_often_the_function_moves() {
    exploration::holds(SEEDS, |seed| run_gentle(seed, None));
    exploration::notices(FLAW_SEEDS, [Flaw::LateLost, Flaw::OthersUnnamed], run_gentle);
}

fn pod(name: &str) -> Arc<str> {
    name.into()
}

fn member(name: &str) -> Arc<str> {
    name.into()
}

/// Has both hear what `member` said.
fn say(
    takeover: &mut Takeover,
    claims: &mut Claims,
    member: &str,
    answer: &Answer,
) -> Vec<PodCount> {
    let counts = claims.hear(member, answer);
    takeover.answered(&member.into(), answer, claims);
    counts
}

#[test]
fn what_nobody_has_is_claimed_and_what_somebody_has_is_asked_for() {
    let mut claims = Claims::new(ClaimId::new("me", 1, 1));
    claims.suspect(&member("before"));
    let mut takeover = Takeover::new(member("me"));
    let (free, taken) = (pod("free"), pod("taken"));
    let first = ClaimId::new("first", 9, 9);
    takeover.observe([(&free, None), (&taken, Some(&first))], &mut claims);
    assert_eq!(
        takeover.step(&mut claims),
        [Action::Claim(pod("free")), Action::Ask(member("before")), Action::Ask(member("first"))]
    );
    assert_eq!(takeover.step(&mut claims), []);
    let own = claims.id().clone();
    takeover.claimed(&free, &Found::Standing(own), &mut claims);
    assert!(claims.holds("free"));
    assert_eq!(say(&mut takeover, &mut claims, "first", &Answer::Silent), []);
    assert_eq!(takeover.step(&mut claims), [], "the other may still have it");
    let pods = vec![PodCount { pod: pod("taken"), in_flight: 2 }];
    let estate = Estate { pods, ..Estate::default() };
    let counts = say(&mut takeover, &mut claims, "before", &Answer::Gave(estate));
    assert_eq!(counts.len(), 1);
    assert_eq!((claims.holds("taken"), claims.foreign("taken")), (true, 2));
    assert_eq!(takeover.step(&mut claims), []);
    claims.count_down("taken", 1);
    claims.lose("taken");
    assert_eq!(takeover.step(&mut claims), [Action::Replace(pod("taken"))]);
}

#[test]
fn what_nobody_gives_is_replaced_until_that_works() {
    let mut claims = Claims::new(ClaimId::new("me", 1, 1));
    let mut takeover = Takeover::new(member("me"));
    let taken = pod("taken");
    let dead = ClaimId::new("dead", 1, 1);
    takeover.observe([(&taken, Some(&dead))], &mut claims);
    assert_eq!(takeover.step(&mut claims), [Action::Ask(member("dead"))]);
    say(&mut takeover, &mut claims, "dead", &Answer::Refused);
    assert_eq!(takeover.step(&mut claims), [Action::Ask(member("dead"))]);
    say(&mut takeover, &mut claims, "dead", &Answer::Silent);
    assert_eq!(takeover.step(&mut claims), [Action::Replace(pod("taken"))]);
    takeover.replacing_failed("taken");
    assert_eq!(takeover.step(&mut claims), [Action::Replace(pod("taken"))]);
    assert!(!claims.holds("taken"));
}

#[test]
fn what_this_activator_gave_away_before_is_not_its_own_again() {
    let mut earlier = Claims::new(ClaimId::new("me", 1, 1));
    let one = pod("one");
    earlier.begin(&one);
    assert!(earlier.settle(&one, &ClaimId::new("me", 1, 1)));
    let estate = earlier.hand_over(|_| 3);
    assert_eq!(estate.pods, [PodCount { pod: pod("one"), in_flight: 3 }]);
    assert!(!earlier.holds("one") && !earlier.settle(&one, &ClaimId::new("me", 1, 1)));
    let mut claims = Claims::new(ClaimId::new("me", 1, 2));
    claims.suspect(&member("next"));
    let mut takeover = Takeover::new(member("me"));
    takeover.observe([(&one, Some(earlier.id()))], &mut claims);
    assert_eq!(takeover.step(&mut claims), [Action::Ask(member("next"))]);
}

#[test]
fn a_claim_on_its_way_goes_to_the_heir() {
    let mut giver = Claims::new(ClaimId::new("a", 1, 1));
    let one = pod("one");
    giver.begin(&one);
    let estate = giver.hand_over(|_| 0);
    for lands_first in ["a", "b"] {
        let mut claims = Claims::new(ClaimId::new("b", 1, 1));
        claims.suspect(&member("a"));
        let mut takeover = Takeover::new(member("b"));
        takeover.observe([(&one, None), (&pod("two"), Some(giver.id()))], &mut claims);
        let actions = takeover.step(&mut claims);
        assert_eq!(actions, [Action::Claim(pod("one")), Action::Ask(member("a"))]);
        say(&mut takeover, &mut claims, "a", &Answer::Gave(estate.clone()));
        assert!(!claims.holds("one"), "nothing stands on it yet");
        let standing = ClaimId::new(lands_first, 1, 1);
        takeover.claimed(&one, &Found::Standing(standing), &mut claims);
        assert!(claims.holds("one"));
    }
}

#[test]
fn who_is_named_is_asked_and_named_on() {
    let mut claims = Claims::new(ClaimId::new("me", 1, 1));
    claims.suspect(&member("before"));
    let mut takeover = Takeover::new(member("me"));
    let taken = pod("taken");
    let first = ClaimId::new("me", 9, 9);
    takeover.observe([(&taken, Some(&first))], &mut claims);
    assert_eq!(takeover.step(&mut claims), [Action::Ask(member("before"))]);
    assert!(claims.is_asking() && !claims.is_empty());
    let unheard = vec![member("me"), member("earlier")];
    let estate = Estate { unheard, ..Estate::default() };
    say(&mut takeover, &mut claims, "before", &Answer::Gave(estate));
    assert_eq!(takeover.step(&mut claims), [Action::Ask(member("earlier"))]);
    say(&mut takeover, &mut claims, "earlier", &Answer::Refused);
    let heirs = claims.clone().hand_over(|_| 0);
    assert_eq!(heirs.unheard, [member("earlier"), member("me")]);
    assert_eq!(takeover.step(&mut claims), [Action::Ask(member("earlier"))]);
    say(&mut takeover, &mut claims, "earlier", &Answer::Gave(Estate::default()));
    assert_eq!(takeover.step(&mut claims), [Action::Replace(pod("taken"))]);
}

#[test]
fn lines_are_json() {
    let line = ReleaseLine::Estate(Estate {
        pods: vec![PodCount { pod: pod("p"), in_flight: 1 }],
        ..Estate::default()
    });
    let text = serde_json::to_string(&line).unwrap();
    assert_eq!(text, r#"{"estate":{"pods":[{"pod":"p","inFlight":1}]}}"#);
    assert_eq!(serde_json::from_str::<ReleaseLine>(&text).unwrap(), line);
    assert_eq!(serde_json::to_string(&ReleaseLine::Done).unwrap(), r#""done""#);
}
