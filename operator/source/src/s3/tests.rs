//! The source against a real server, which `cargo xtask test` builds, and against one that only a
//! script is.

mod published;
mod script;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rouse_core::simulation::chance::Chance;
use rouse_crds::v1alpha1::{S3Event, S3Start, SourceTls};
use tokio::time::sleep;

use self::stage::{BUCKET, Minio, Recorder, Setup, access, key};
use crate::stage::{Running, until};

/// Waits until a list went to its end.
async fn listed(source: &mut Running) {
    let listed = source.outlook.wait_for(|told| told.progress.checkpoint.is_some());
    tokio::time::timeout(Duration::from_mins(1), listed).await.unwrap().unwrap();
}

/// Writes objects while the source, the server and `others`, which `disturb` kills, die at moments of
/// chance. Gives the source that is left when all was told, set up as `tell` says.
async fn survives(
    mut minio: Minio,
    tell: impl Fn(&mut Setup<'_>),
    (others, mut disturb): (usize, impl AsyncFnMut()),
) -> (Minio, Running) {
    const OBJECTS: u32 = 1000;
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let client = minio.client();
    let mut function = Recorder::new(seed);
    (function.takes, function.fails) = (Duration::from_millis(5), 2);
    let uploader = tokio::spawn(async move {
        for number in 0..OBJECTS {
            while !client.try_put(&format!("in/{number:04}"), "x").await {
                sleep(Duration::from_millis(20)).await;
            }
            sleep(Duration::from_millis(5)).await;
        }
    });
    let mut chance = Chance::new(seed, 2);
    let start = |minio: &Minio| {
        let mut setup = Setup::new(minio);
        tell(&mut setup);
        setup.settings.interval = Duration::from_millis(500);
        setup.start(&function)
    };
    let mut source = start(&minio);
    while !uploader.is_finished() {
        sleep(Duration::from_millis(chance.number() % 1500)).await;
        match chance.below(2 + others) {
            0 => minio.restart().await,
            1 => {
                drop(source);
                source = start(&minio);
            }
            _ => disturb().await,
        }
    }
    uploader.await.unwrap();
    let keys = || function.told().into_iter().map(|told| told.key).collect::<BTreeSet<_>>();
    until(async || keys().len() == OBJECTS as usize).await;
    source.lags(0).await;
    let mut ids: BTreeMap<Vec<u8>, BTreeSet<String>> = BTreeMap::new();
    for told in function.told() {
        assert_eq!(told.kind, "created", "seed {seed}: {}", told.key);
        ids.entry(told.body).or_default().insert(told.id);
    }
    println!("told {} times of {} versions", function.told().len(), ids.len());
    for (body, ids) in ids {
        assert_eq!(ids.len(), 1, "seed {seed}: {}", String::from_utf8_lossy(&body));
    }
    (minio, source)
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn nothing_is_lost_when_the_server_and_the_source_are_killed() {
    let minio = Minio::start().await;
    minio.client().notify().await;
    survives(minio, |setup| setup.is_told = true, (0, async || {})).await;
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn what_the_server_failed_to_tell_is_found_and_what_it_told_is_not_told_again() {
    let minio = Minio::start().await;
    let client = minio.client();
    client.notify().await;
    let function = Recorder::new(1);
    let mut setup = Setup::new(&minio);
    setup.is_told = true;
    let mut source = setup.start(&function);
    listed(&mut source).await;
    // By notification: there is no second list.
    client.put_all((0..20).map(|number| format!("told-{number:02}"))).await;
    until(async || function.told().len() == 20).await;
    // Nobody is at the door.
    minio.close_door();
    client.put_all((0..5).map(|number| format!("lost-{number}"))).await;
    source.stop().await;
    client.remove("told-00").await;
    let mut source = setup.start(&function);
    listed(&mut source).await;
    until(async || function.told().len() >= 26).await;
    source.lags(0).await;
    let mut expected: Vec<_> = (0..20).map(|number| format!("created told-{number:02}")).collect();
    expected.extend((0..5).map(|number| format!("created lost-{number}")));
    expected.push("removed told-00".into());
    expected.sort_unstable();
    assert_eq!(function.news(), expected, "each once");
    // Before the ledger is written, what was done may be told again, and has the same id.
    client.put("last", "x").await;
    until(async || function.told().len() >= 27).await;
    drop(source);
    let mut source = setup.start(&function);
    listed(&mut source).await;
    source.lags(0).await;
    until(async || function.told().len() >= 28).await;
    let told: BTreeSet<_> =
        function.told().into_iter().map(|told| (told.kind, told.key, told.id)).collect();
    assert_eq!(told.len(), 27, "{told:?}");
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn a_server_with_one_hand_tells_all_while_the_function_takes_its_time() {
    // It tells by as many hands as it has processors.
    let minio = Minio::start_with(vec![("GOMAXPROCS", "1".into())]).await;
    let client = minio.client();
    client.notify().await;
    let mut function = Recorder::new(1);
    function.takes = Duration::from_hours(1);
    let mut setup = Setup::new(&minio);
    setup.is_told = true;
    let mut source = setup.start(&function);
    listed(&mut source).await;
    client.put_all((0..5).map(|number| format!("slow-{number}"))).await;
    until(async || function.calls.load(Ordering::Relaxed) == 5).await;
    assert_eq!(function.told().len(), 0);
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn what_went_and_what_was_written_anew_is_found_after_a_restart() {
    let minio = Minio::start().await;
    let client = minio.client();
    let function = Recorder::new(1);
    let setup = Setup::new(&minio);
    client.put_all(["a", "b", "c"].map(str::to_owned)).await;
    let source = setup.start(&function);
    until(async || function.told().len() == 3).await;
    source.stop().await;
    client.remove("b").await;
    client.put("c", "new").await;
    let mut source = setup.start(&function);
    let expected = ["created a", "created b", "created c", "created c", "removed b"];
    function.hears(&expected).await;
    listed(&mut source).await;
    source.stop().await;
    let mut source = setup.start(&function);
    listed(&mut source).await;
    source.lags(0).await;
    assert_eq!(function.news(), expected, "nothing twice");
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn objects_by_the_thousand_are_told_once_though_the_list_breaks_off() {
    const OBJECTS: usize = 10_500;
    let minio = Minio::start().await;
    let client = minio.client();
    client.put_all((0..OBJECTS).map(|number| format!("{}/{number:05}", number % 7))).await;
    let function = Recorder::new(1);
    let mut setup = Setup::new(&minio);
    setup.play.in_flight = 200;
    let source = setup.start(&function);
    until(async || function.told().len() > 5000).await;
    source.stop().await;
    let stopped = function.told().len();
    assert!(stopped < OBJECTS, "{stopped}");
    let mut source = setup.start(&function);
    until(async || function.told().len() >= OBJECTS).await;
    listed(&mut source).await;
    source.lags(0).await;
    let ids: BTreeSet<_> = function.told().into_iter().map(|told| told.id).collect();
    assert_eq!((ids.len(), function.told().len()), (OBJECTS, OBJECTS));
    source.stop().await;
    // All are known, by a ledger of several segments; another start tells nothing.
    client.remove("3/00003").await;
    let mut source = setup.start(&function);
    until(async || function.told().len() > OBJECTS).await;
    listed(&mut source).await;
    source.lags(0).await;
    let told = function.told();
    assert_eq!(told.len(), OBJECTS + 1);
    assert_eq!((told[OBJECTS].kind.as_str(), told[OBJECTS].key.as_str()), ("removed", "3/00003"));
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn the_latest_are_those_that_come_from_then_on() {
    let minio = Minio::start().await;
    let client = minio.client();
    client.put_all((0..1500).map(|number| format!("old/{number:04}"))).await;
    // The server tells the time to a second.
    sleep(Duration::from_millis(1100)).await;
    let function = Recorder::new(1);
    let mut setup = Setup::new(&minio);
    setup.settings.start = S3Start::Latest;
    setup.settings.interval = Duration::from_millis(200);
    let mut source = setup.start(&function);
    listed(&mut source).await;
    client.put("new", "x").await;
    client.remove("old/0001").await;
    function.hears(&["created new", "removed old/0001"]).await;
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn keys_are_what_they_are_whichever_way_they_come() {
    let minio = Minio::start().await;
    let client = minio.client();
    let odd = ["in/a b+c%25.png", "in/ü/&=?#.png", "in/%2B\u{1f600}.png"];
    client.put_all(odd.map(str::to_owned)).await;
    client.put_all(["in/other.txt", "out/other.png", "inn.png"].map(str::to_owned)).await;
    let function = Recorder::new(1);
    let mut setup = Setup::new(&minio);
    (setup.settings.scope.prefix, setup.settings.scope.suffix) = ("in/".into(), ".png".into());
    setup.settings.events = [S3Event::Created].into();
    let source = setup.start(&function);
    until(async || function.told().len() == 3).await;
    source.stop().await;
    let by_list: BTreeSet<_> = function.told().into_iter().map(|told| told.key).collect();
    assert_eq!(by_list, odd.map(str::to_owned).into());
    // Written anew, and told by the server.
    client.notify().await;
    setup.is_told = true;
    let mut source = setup.start(&function);
    listed(&mut source).await;
    let before = function.told().len();
    client.put_all(odd.map(str::to_owned)).await;
    client.put_all(["in/other.txt", "out/other.png", "inn.png"].map(str::to_owned)).await;
    client.remove(odd[0]).await;
    until(async || function.told().len() >= before + 3).await;
    source.lags(0).await;
    let told = function.told().split_off(before);
    let keys: BTreeSet<_> = told.iter().map(|told| told.key.clone()).collect();
    assert_eq!((told.len(), keys), (3, odd.map(str::to_owned).into()));
    assert!(told.iter().all(|told| told.kind == "created"));
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn what_is_wrong_is_told_and_mended() {
    let mut minio = Minio::begin(false).await;
    let function = Recorder::new(1);
    let mut setup = Setup::new(&minio);
    let mut source = setup.start(&function);
    source.says("SourceMissing").await;
    setup.settings.server.credentials = Some(access("wrong"));
    setup.start(&function).says("AccessDenied").await;
    setup.settings.server.credentials = Some(access("none"));
    setup.start(&function).says("SecretMissing").await;
    setup.settings.server.credentials = None;
    setup.start(&function).says("AccessDenied").await;
    setup.settings.server.credentials = Some(access("s3"));
    setup.settings.server.policy = std::sync::Arc::default();
    setup.start(&function).says("AddressForbidden").await;
    let mut setup = Setup::new(&minio);
    setup.settings.server.region = "eu-central-1".into();
    let mut other = setup.start(&function);
    let client = minio.client();
    client.make(BUCKET).await;
    other.says("SourceInvalid").await;
    let message = other.outlook.borrow().trouble.clone().unwrap().message;
    assert!(message.contains("spec.s3.region") && message.contains("us-east-1"), "{message}");
    client.put("a", "x").await;
    source.connects().await;
    function.hears(&["created a"]).await;
    let mut setup = Setup::new(&minio);
    setup.settings.interval = Duration::from_millis(200);
    setup.settings.own = "other".into();
    let mut source = setup.start(&function);
    source.connects().await;
    let client = minio.client();
    minio.kill();
    source.says("ServerAway").await;
    minio.restart().await;
    source.connects().await;
    client.put("b", "x").await;
    until(async || function.news().contains(&"created b".to_owned())).await;
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn a_server_is_known_by_its_certificate() {
    let minio = Minio::begin(true).await;
    let function = Recorder::new(1);
    let mut setup = Setup::new(&minio);
    // It is none of the public authorities'.
    setup.start(&function).says("ServerAway").await;
    let ca = Some(key("tls", "ca.crt"));
    setup.settings.server.tls = Some(SourceTls { ca, ..SourceTls::default() });
    // What it answers now is believed.
    setup.start(&function).says("SourceMissing").await;
}
