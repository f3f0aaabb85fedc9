//! A thousand requests over twenty Functions while their processes are killed at random: none fails
//! but those that were in a process that was killed, and nothing is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::rig::{Dev, Folder, function, get, processes_of, until};

const FUNCTIONS: usize = 20;
const REQUESTS: usize = 1000;
const CALLERS: usize = 8;
/// Long enough that most processes end by being killed: waking Functions that went to sleep is what would
/// take most of the time, and is for other tests.
const DROWSY: &str = "  scaling: {stableWindow: 1s, idle: {after: 5s}}\n";
/// How often a process is killed: seldom enough that most live for a second, or they would be told from
/// ones that can't run by nothing.
const KILL_EVERY: Duration = Duration::from_millis(400);

#[tokio::test]
async fn killed_processes_fail_no_request_and_leave_nothing() {
    let seed = std::env::var("ROUSE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("ROUSE_TEST_SEED={seed}");
    let files: Vec<(String, String)> = (0..FUNCTIONS)
        .map(|n| (format!("f{n}.yaml"), function(&format!("f{n}"), &format!("'{n}'"), DROWSY)))
        .collect();
    let named: Vec<(&str, &str)> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let folder = Folder::of(&named);
    let dev = Dev::start(&folder).await;
    let begun = Instant::now();
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (port, mut dice) = (dev.port, Rng::with_seed(seed.wrapping_add(caller as u64)));
        callers.spawn(async move {
            let mut failed = Vec::new();
            for _ in 0..REQUESTS / CALLERS {
                let n = dice.usize(..FUNCTIONS);
                let path = format!("/?ms={}", dice.usize(..20));
                let (status, body) = get(port, &format!("f{n}.default.localhost"), &path).await;
                if (status, body.as_str()) != (200, n.to_string().as_str()) {
                    failed.push((n, status, body));
                }
            }
            failed
        });
    }
    let (stop, place) = (Arc::clone(&over), folder.path().to_owned());
    let mut dice = Rng::with_seed(!seed);
    let killing = tokio::spawn(async move {
        let (mut ticks, mut kills) = (interval(KILL_EVERY), 0);
        while !stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            let all = processes_of(&place);
            let Some(id) = all.get(dice.usize(..all.len().max(1))) else { continue };
            // It may be gone already.
            if kill_process(Pid::from_raw(*id).unwrap(), Signal::KILL).is_ok() {
                kills += 1;
            }
        }
        kills
    });
    let mut failed = Vec::new();
    while let Some(of_one) = callers.join_next().await {
        failed.extend(of_one.unwrap());
    }
    over.store(true, Ordering::Relaxed);
    let kills = killing.await.unwrap();
    println!("{REQUESTS} requests, {kills} kills, {:?}", begun.elapsed());
    assert!(kills > 0);
    // What a killed process was answering can be served by nobody: it may have had its effect already,
    // and of its answer there may be the beginning.
    let is_lost = |status: u16, body: &str| status == 502 || (status == 200 && body.is_empty());
    let (lost, failed): (Vec<_>, Vec<_>) =
        failed.into_iter().partition(|(_, status, body)| is_lost(*status, body));
    println!("{} requests were lost with their processes", lost.len());
    assert!(lost.len() <= kills * CALLERS, "{} lost: {lost:?}", lost.len());
    assert!(failed.is_empty(), "{} failed: {failed:?}\n{}", failed.len(), dev.said());
    dev.interrupt().await;
    let left = || processes_of(folder.path());
    until(|| left().is_empty(), || format!("{:?} are left", left())).await;
}
