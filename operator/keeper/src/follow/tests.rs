//! A pod is a server that gives lines as `rouse-shim` does; the shim itself is tested with its own.

use std::sync::Mutex;

use http::{Request, Response};
use http_body_util::Full;
use rouse_core::kept::{POD_HEADER, read_pieces};
use rouse_listen::{Reply, say};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const UID: &str = "uid-1";

/// What a pod has said: which start, and the lines; and whether it ends.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<(i64, String, bool)>>);

impl Said {
    fn say(&self, lines: &str) {
        self.0.lock().unwrap().1.push_str(lines);
    }

    fn restart(&self, run: i64) {
        *self.0.lock().unwrap() = (run, String::new(), false);
    }

    fn answer<B>(&self, request: &Request<B>) -> Reply {
        if request.headers().get(POD_HEADER).is_none_or(|uid| uid != UID) {
            return say(StatusCode::FORBIDDEN, "no");
        }
        let (run, lines, ends) = self.0.lock().unwrap().clone();
        let query = request.uri().query().unwrap_or_default();
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(known, _)| *known == name).and_then(|(_, value)| value.parse::<i64>().ok())
        };
        let from = value("from").filter(|_| value("run") == Some(run)).unwrap_or_default();
        let rest = lines[usize::try_from(from).unwrap()..].to_owned();
        let mut reply = Response::new(Full::new(rest.into()));
        reply.headers_mut().insert(RUN_HEADER, run.into());
        reply.headers_mut().insert(FROM_HEADER, from.into());
        if ends {
            reply.headers_mut().insert(END_HEADER, http::HeaderValue::from_static("true"));
        }
        reply
    }
}

struct Rig {
    said: Said,
    store: Arc<Store>,
    gone: watch::Sender<bool>,
    functions: watch::Sender<Option<BTreeSet<String>>>,
    following: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
    _stop: watch::Sender<bool>,
}

async fn rig(uid: &str) -> Rig {
    let said = Said::default();
    said.restart(7);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let server = said.clone();
    let answer = move |request| std::future::ready(server.answer(&request));
    tokio::spawn(rouse_listen::serve(listener, answer, stopped));
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    let functions = watch::Sender::new(None);
    let means = Means {
        store: Arc::clone(&store),
        functions: functions.subscribe(),
        metrics: Metrics::default(),
    };
    let pod =
        Printing { function: "hello".into(), name: "hello-x".into(), uid: uid.into(), address };
    let gone = watch::Sender::new(false);
    let following = tokio::spawn(follow(pod, means, gone.subscribe()));
    Rig { said, store, gone, functions, following, _folder: folder, _stop: stop }
}

impl Rig {
    fn lines(&self) -> String {
        let kept = self.store.read("hello").unwrap();
        let (pieces, _) = read_pieces(&kept);
        pieces.iter().map(|piece| std::str::from_utf8(piece.lines).unwrap()).collect()
    }

    async fn until(&self, lines: &str) {
        let wait = async {
            while self.lines() != lines {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let came = timeout(10 * SECOND, wait).await;
        assert!(came.is_ok(), "{lines:?} was not kept, but {:?}", self.lines());
    }
}

#[tokio::test]
async fn lines_are_kept_as_they_come_and_once_also_of_a_container_that_starts_again() {
    let rig = rig(UID).await;
    rig.said.say("one\n");
    rig.until("one\n").await;
    rig.said.say("two\nthree\n");
    rig.until("one\ntwo\nthree\n").await;
    rig.said.0.lock().unwrap().2 = true;
    rig.said.restart(8);
    rig.said.say("again\n");
    rig.until("one\ntwo\nthree\nagain\n").await;
    rig.gone.send_replace(true);
    timeout(10 * SECOND, rig.following).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_pod_that_has_the_address_of_another_gives_nothing() {
    let rig = rig("uid-2").await;
    rig.said.say("secret\n");
    rig.gone.send_replace(true);
    let (store, following) = (Arc::clone(&rig.store), rig.following);
    timeout(10 * SECOND, following).await.unwrap().unwrap();
    assert_eq!(store.functions(), Vec::<String>::new());
}

#[tokio::test]
async fn lines_of_a_function_that_is_gone_are_not_kept_any_more() {
    let rig = rig(UID).await;
    rig.said.say("one\n");
    rig.until("one\n").await;
    rig.functions.send_replace(Some(BTreeSet::new()));
    rig.store.remove("hello").unwrap();
    rig.said.say("two\n");
    let store = Arc::clone(&rig.store);
    timeout(10 * SECOND, rig.following).await.unwrap().unwrap();
    assert_eq!(store.functions(), Vec::<String>::new());
}
