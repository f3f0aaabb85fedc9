//! An ear at a broker that is a script, on a paused clock.

use std::sync::Mutex;

use rouse_core::delivery::Acks;
use rouse_core::event::{Invalid, Message};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::*;
use crate::failure::Failure;
use crate::link::{Link, Next};
use crate::source::Terms;
use crate::webhook::Offered;

const PATIENCE: Duration = Duration::from_secs(30);

/// A broker: what is published, and what it is answered.
#[derive(Clone, Default)]
struct Broker {
    /// Bodies that nobody has got yet; the number of the first.
    waiting: Arc<Mutex<(u64, Vec<String>)>>,
    published: Arc<Notify>,
    broken: Arc<Notify>,
    answers: Arc<Mutex<Vec<String>>>,
    answered: Arc<Notify>,
}

impl Broker {
    fn publish(&self, body: &str) {
        self.waiting.lock().unwrap().1.push(body.to_owned());
        self.published.notify_one();
    }

    fn bring(&self, link: &mut Link<u64>) {
        let mut waiting = self.waiting.lock().unwrap();
        while !link.room().is_none() && !waiting.1.is_empty() {
            let (token, body) = (waiting.0, waiting.1.remove(0));
            waiting.0 += 1;
            let data = Data::Bytes { content_type: "application/json".into(), bytes: body.into() };
            let event = CloudEvent {
                id: token.to_string(),
                source: "/nats/S".into(),
                kind: "dev.rouse.nats.message".into(),
                time: jiff::Timestamp::UNIX_EPOCH,
                subject: None,
                extensions: [].into(),
                data,
            };
            link.bring(vec![Brought { key: None, event, token }]);
        }
    }

    fn carry_out(&self, order: &Order<u64>) {
        let (word, batch) = match order {
            Order::Acknowledge(batch) => ("done", batch),
            Order::Extend(batch) => ("extend", batch),
            Order::Release(batch) => ("again", batch),
        };
        let mut numbers: Vec<_> = batch.tokens().collect();
        numbers.sort_unstable();
        self.answers.lock().unwrap().push(format!("{word} {numbers:?}"));
        self.answered.notify_one();
    }

    /// Waits for the next answers.
    async fn hears(&self, expected: &[&str]) {
        let enough = async {
            while self.answers.lock().unwrap().len() < expected.len() {
                self.answered.notified().await;
            }
        };
        let outcome = timeout(PATIENCE, enough).await;
        let answers = std::mem::take(&mut *self.answers.lock().unwrap());
        assert_eq!(answers, expected, "{outcome:?}");
    }

    /// Nothing is said for a while.
    async fn hears_nothing(&self) {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(*self.answers.lock().unwrap(), [""; 0]);
    }
}

impl Source for Broker {
    type Token = u64;

    fn terms(&self) -> Terms {
        Terms { acks: Acks::Each, patience: Some(PATIENCE) }
    }

    async fn run(&mut self, link: &mut Link<u64>) -> Result<(), Failure> {
        link.set_connected(true);
        loop {
            self.bring(link);
            tokio::select! {
                biased;
                next = link.next() => match next {
                    Next::Order(order) => self.carry_out(&order),
                    Next::Room => {}
                    Next::End => {
                        self.answers.lock().unwrap().push("end".into());
                        return Ok(());
                    }
                },
                () = self.broken.notified() => return Err(Failure::away("hearing", "broken off")),
                () = self.published.notified() => {}
            }
        }
    }

    fn to_lambda(_: &[&CloudEvent]) -> Result<Message, Invalid> {
        unreachable!("nobody is told of messages")
    }
}

/// A notification of objects with these keys.
fn told(keys: &[&str]) -> String {
    let record = |key: &&str| {
        serde_json::json!({
            "eventName": "s3:ObjectCreated:Put", "eventTime": "2026-01-01T00:00:00Z",
            "s3": {"bucket": {"name": "b"}, "object": {"key": key, "eTag": "e", "size": 1}},
        })
    };
    let records: Vec<_> = keys.iter().map(record).collect();
    serde_json::json!({"EventName": "s3:ObjectCreated:Put", "Records": records}).to_string()
}

struct Rig {
    broker: Broker,
    intake: Arc<Intake>,
    offered: mpsc::UnboundedReceiver<Offered>,
    ear: Ear,
}

impl Rig {
    fn new() -> Self {
        let (sender, offered) = mpsc::unbounded_channel();
        let (broker, intake) = (Broker::default(), Arc::new(Intake::new(sender)));
        let hearer = Hearer {
            key: TriggerKey { namespace: "shop".into(), name: "t".into() },
            uid: "u".into(),
            source: "/s3/b".into(),
        };
        let ear = Ear::spawn(broker.clone(), hearer, intake.clone());
        Self { broker, intake, offered, ear }
    }

    async fn next(&mut self) -> Arc<str> {
        timeout(PATIENCE, self.offered.recv()).await.unwrap().unwrap().token
    }

    async fn is(&mut self, what: impl Fn(&Outlook) -> bool) {
        let told = timeout(PATIENCE, self.ear.outlook.wait_for(|told| what(told))).await;
        assert!(told.is_ok(), "{:?}", told.map(drop));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_answered_when_all_that_it_tells_is_done() {
    let mut rig = Rig::new();
    rig.broker.publish(&told(&["a", "b"]));
    let (a, b) = (rig.next().await, rig.next().await);
    rig.intake.settle(&a, Fate::Done);
    rig.broker.hears_nothing().await;
    rig.intake.settle(&b, Fate::GivenUp);
    rig.broker.hears(&["done [0]"]).await;
    // It is told again, of an object that is done, and of one that nobody sees to.
    rig.broker.publish(&told(&["a"]));
    rig.broker.hears(&["done [1]"]).await;
    rig.broker.publish(&told(&["b", "c"]));
    let (b, c) = (rig.next().await, rig.next().await);
    rig.intake.settle(&b, Fate::Done);
    rig.intake.settle(&c, Fate::Released);
    rig.broker.hears(&["again [2]"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_tells_of_no_object_is_done_at_once() {
    let mut rig = Rig::new();
    for body in ["no document", "[1]", r#"{"Event": "s3:TestEvent"}"#, ""] {
        rig.broker.publish(body);
    }
    rig.broker.hears(&["done [0]", "done [1]", "done [2]", "done [3]"]).await;
    rig.broker.publish(&told(&["a"]));
    let a = rig.next().await;
    rig.intake.settle(&a, Fate::Done);
    rig.broker.hears(&["done [4]"]).await;
}

#[tokio::test(start_paused = true)]
async fn patience_is_asked_for_while_a_function_works() {
    let mut rig = Rig::new();
    rig.broker.publish(&told(&["a"]));
    rig.broker.publish(&told(&["b"]));
    let (a, b) = (rig.next().await, rig.next().await);
    rig.broker.hears(&["extend [0, 1]"]).await;
    rig.intake.settle(&a, Fate::Done);
    rig.broker.hears(&["done [0]", "extend [1]"]).await;
    rig.intake.settle(&b, Fate::Done);
    rig.broker.hears(&["done [1]"]).await;
    tokio::time::sleep(PATIENCE).await;
    rig.broker.hears_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_is_taken_than_is_held() {
    let mut rig = Rig::new();
    for number in 0..HELD + 10 {
        rig.broker.publish(&told(&[&number.to_string()]));
    }
    let mut tokens = Vec::new();
    for _ in 0..HELD {
        tokens.push(rig.next().await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(rig.offered.try_recv().is_err());
    rig.intake.settle(&tokens[0], Fate::Done);
    rig.next().await;
}

#[tokio::test(start_paused = true)]
async fn what_keeps_it_from_hearing_is_told_and_passes() {
    let mut rig = Rig::new();
    rig.is(|told| told.progress.connected && told.trouble.is_none()).await;
    rig.broker.publish(&told(&["a"]));
    let a = rig.next().await;
    rig.broker.broken.notify_one();
    rig.is(|told| !told.progress.connected && told.trouble.is_some()).await;
    let trouble = rig.ear.outlook.borrow().trouble.clone().unwrap();
    assert_eq!((trouble.reason, &*trouble.message), ("ServerAway", "hearing: broken off"));
    // What was taken before is answered once there is somebody to tell.
    rig.intake.settle(&a, Fate::Done);
    rig.is(|told| told.progress.connected && told.trouble.is_none()).await;
    rig.broker.hears(&["done [0]"]).await;
}

#[tokio::test(start_paused = true)]
async fn who_ends_it_sees_the_last_answers_off() {
    let mut rig = Rig::new();
    rig.broker.publish(&told(&["a"]));
    rig.broker.publish(&told(&["b"]));
    let a = rig.next().await;
    rig.next().await;
    rig.intake.settle(&a, Fate::Done);
    rig.intake.close();
    rig.ear.end().await;
    let mut answers = std::mem::take(&mut *rig.broker.answers.lock().unwrap());
    assert_eq!(answers.pop().as_deref(), Some("end"));
    answers.sort_unstable();
    assert_eq!(answers, ["again [1]", "done [0]"]);
    assert_eq!(rig.intake.counts(), (0, 1, 0), "every place is given back");
}
