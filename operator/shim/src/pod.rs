//! The life of a pod, from nothing to code to requests to its end. Owns the order of things; what
//! is done in each stands elsewhere.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::code::Store;
use crate::code::fetch::{Failed, fetch};
use crate::control::Control;
use crate::front::Front;
use crate::process::adopt_orphans;
use crate::serve;
use crate::state::Phase;
use crate::supervisor::{Orders, World};
use crate::tether::Tether;

/// The pauses before code is fetched again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// How long who asks at the control port may take once the pod ends.
const FAREWELL: Duration = Duration::from_millis(200);

/// Lives until the pod is told to end, or its tether is cut: then nobody is left who waits for
/// anything, and what runs is ended by being dropped.
pub async fn live(world: Arc<World>, tether: Option<Tether>) -> io::Result<()> {
    // In a pod the first process has this duty anyway.
    adopt_orphans();
    let mut cut = std::pin::pin!(Tether::cut(tether));
    let reaper = Arc::clone(&world.reaper);
    tokio::spawn(async move { reaper.run().await });
    let (ending, told) = watch::channel(false);
    let (leaving, over) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let settings = &world.settings;
    let store = Store::new(settings.folder.clone(), settings.digest, settings.code);
    let (pushed, fetched) =
        if settings.url.is_some() { (None, Some(store)) } else { (Some(store), None) };
    let control = Arc::new(Control::new(Arc::clone(&world), pushed));
    let listener = serve::open(settings.address, settings.control_port).await?;
    world.log.note("asked at", json!({"controlPort": listener.local_addr()?.port()}));
    let (answer, stop) = (Arc::clone(&control), until_told(over));
    let answer = move |request| Arc::clone(&answer).answer(request);
    tasks.spawn(serve::serve(listener, answer, stop, FAREWELL));

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut served = None;
    let outcome = tokio::select! {
        outcome = work(&world, fetched, &control, &mut served, told) => outcome,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = &mut cut => return Ok(()),
    };
    world.board.set(Phase::Ending, "");
    world.log.note("the pod ends", json!({}));
    ending.send_replace(true);
    let leave = async {
        end(served).await;
        // Who fetches lines gets the last ones before nobody is left to ask.
        world.log.recent().close();
        world.log.recent().until_fetched().await;
        leaving.send_replace(true);
        while tasks.join_next().await.is_some() {}
    };
    tokio::select! {
        () = leave => {}
        () = &mut cut => {}
    }
    outcome
}

/// What was begun for requests.
struct Served {
    /// Serves the port.
    server: tokio::task::JoinHandle<()>,
    orders: Vec<Orders>,
    supervisors: JoinSet<()>,
}

/// Requests that are under way come to their end, then the language processes do.
async fn end(served: Option<Served>) {
    let Some(Served { server, orders, mut supervisors }) = served else { return };
    // It ends when all is answered, or the time for that is over.
    let _ = server.await;
    for order in &orders {
        order.terminate().await;
    }
    while supervisors.join_next().await.is_some() {}
}

async fn until_told(mut told: watch::Receiver<bool>) {
    // Who tells is there until the end.
    let _ = told.wait_for(|told| *told).await;
}

/// Gets the code, starts it, opens the port, and passes signals on for ever after.
async fn work(
    world: &Arc<World>,
    to_fetch: Option<Store>,
    control: &Control,
    served: &mut Option<Served>,
    told: watch::Receiver<bool>,
) -> io::Result<()> {
    match to_fetch {
        Some(store) => until_fetched(world, &store).await,
        None => control.arrived().await,
    }
    world.board.set(Phase::Starting, "");
    let mut supervisors = JoinSet::new();
    let begun = Front::of(world, &mut supervisors);
    let (front, orders) = match begun {
        Ok(begun) => begun,
        Err(unfit) => {
            world.log.note("the code can't be run", json!({"why": unfit.to_string()}));
            world.board.set(Phase::CodeRefused, unfit.to_string());
            return std::future::pending().await;
        }
    };
    let drain = world.settings.times.drain;
    let carrying = {
        let world = Arc::clone(world);
        tokio::spawn(async move {
            let opened = tokio::select! {
                opened = opened(&world) => opened,
                () = until_told(told.clone()) => return,
            };
            let answer = move |request| front.clone().answer(request);
            serve::serve(opened, answer, until_told(told), drain).await;
        })
    };
    *served = Some(Served { server: carrying, orders: orders.clone(), supervisors });
    pass_on(&orders).await
}

/// The port for requests, opened when they can be served.
async fn opened(world: &World) -> TcpListener {
    world.board.until(|phase| phase == Phase::Ready).await;
    loop {
        match serve::open(world.settings.address, world.settings.port).await {
            Ok(listener) => {
                let port = listener.local_addr().map(|address| address.port());
                world.log.note("serving", json!({"port": port.unwrap_or_default()}));
                return listener;
            }
            Err(error) => {
                let why = error.to_string();
                world.log.note("the port for requests can't be opened", json!({"why": why}));
                sleep(FIRST_PAUSE).await;
            }
        }
    }
}

/// Fetches the code until it is there; what is refused for good is waited for in vain.
async fn until_fetched(world: &World, store: &Store) {
    let Some(url) = &world.settings.url else { return };
    let mut pause = FIRST_PAUSE;
    loop {
        let failed = match fetch(store, url, world.settings.code.bytes).await {
            Ok(()) => return,
            Err(failed) => failed,
        };
        let why = failed.to_string();
        world.log.note("the code could not be fetched", json!({"why": why}));
        if matches!(&failed, Failed::Refused(refused) if refused.is_final()) {
            world.board.set(Phase::CodeRefused, why);
            return std::future::pending().await;
        }
        world.board.set(Phase::FetchFailed, why);
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Passes on the signals that programs give meanings of their own.
async fn pass_on(orders: &[Orders]) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut first = signal(SignalKind::user_defined1())?;
    let mut second = signal(SignalKind::user_defined2())?;
    loop {
        let passed = tokio::select! {
            _ = hangup.recv() => Signal::HUP,
            _ = first.recv() => Signal::USR1,
            _ = second.recv() => Signal::USR2,
        };
        for order in orders {
            order.signal(passed);
        }
    }
}
