//! What is done while the server is there: lists, looks at what was told, brings what was found as far
//! as there is room, and notes what is done.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use rouse_core::s3::{Change, Index, Told};
use tokio::time::{Instant, sleep_until};

use super::book::{Fate as Noted, Found};
use super::look::{Looked, look};
use super::notifications::{Heard, Notifications};
use super::pass::{Step, step};
use super::store::Store;
use super::{S3, Settings, State};
use crate::failure::Failure;
use crate::link::{Link, Next, Order, count};
use crate::runner::{Outlook, Trouble};
use crate::webhook::{Fate, Offered, told_of};

/// Objects that are done before the ledger is written.
const WRITE_AT: usize = 4000;
/// How long it waits for more of them.
const WRITE_AFTER: Duration = Duration::from_secs(10);

/// What goes on beside the looks, one at a time.
enum Job {
    Step(Step),
    Written(Index),
}

type Token = Arc<str>;

/// A connection to a server.
pub(super) struct Desk<'a> {
    settings: &'a Settings,
    notifications: Option<&'a mut Notifications>,
    state: &'a mut State,
    store: Store,
    index: Arc<Index>,
    job: Option<BoxFuture<'static, Result<Job, Failure>>>,
    looks: FuturesUnordered<BoxFuture<'static, Result<Looked, Failure>>>,
    /// Notifications that are looked at, by object: one after the other, so that they keep their
    /// order.
    looking: HashMap<String, VecDeque<(Told, Token)>>,
    /// What was written later the ledger has not: when it, or the last list, was made, by the
    /// server's clock.
    horizon: Timestamp,
    write_at: Instant,
    /// Whether the list went to its end since the ledger was written.
    ended: bool,
}

impl<'a> Desk<'a> {
    /// A desk; `now` is the server's time.
    pub fn new(s3: &'a mut S3, store: Store, index: Arc<Index>, now: Timestamp) -> Self {
        let S3 { settings, notifications, state, .. } = s3;
        state.book.unwrite();
        Self {
            settings,
            notifications: notifications.as_mut(),
            state,
            store,
            index,
            job: None,
            looks: FuturesUnordered::new(),
            looking: HashMap::new(),
            horizon: now,
            write_at: Instant::now() + WRITE_AFTER,
            ended: false,
        }
    }

    /// Works until the server fails, or there is nothing more to do.
    pub async fn work(&mut self, link: &mut Link<Token>) -> Result<(), Failure> {
        loop {
            self.bring_found(link);
            self.plan();
            link.set_lag(count(self.state.book.open() + self.state.book.found.len()));
            let has_place = link.room().events > self.pending() && self.has_place();
            let due = self.due();
            tokio::select! {
                biased;
                next = link.next() => match next {
                    Next::Order(order) => self.carry_out(&order),
                    Next::Room => {}
                    Next::End => return self.end().await,
                },
                Some(looked) = self.looks.next(), if !self.looks.is_empty() => {
                    self.take_look(looked?, link);
                }
                job = next_of(&mut self.job), if self.job.is_some() => {
                    self.job = None;
                    self.take_job(job?, link);
                }
                heard = next_heard(&mut self.notifications, has_place) => match heard {
                    Heard::Offered(offered) => self.take_in(offered),
                    Heard::Outlook => self.tell_state(link),
                },
                () = sleep_until(due), if self.job.is_none() => {}
            }
        }
    }

    /// Tells that the server is there, and whether what it tells is heard.
    pub fn tell_state(&self, link: &Link<Token>) {
        let outlook = self.notifications.as_ref().and_then(|told| told.outlook());
        match outlook {
            None => link.set_connected(true),
            Some(Outlook { progress, trouble: None }) => link.set_connected(progress.connected),
            Some(Outlook { trouble: Some(Trouble { reason, message }), .. }) => {
                let message = format!("no notifications are heard, lists go on: {message}");
                link.set_trouble(Trouble { reason, message: message.into() });
            }
        }
    }

    /// Gives back what it holds, for the next connection or for whoever waits.
    pub fn leave(&mut self) {
        self.state.index = Some(self.index.clone());
        self.state.book.unwrite();
        let waiting: Vec<_> = self.looking.drain().flat_map(|(_, queue)| queue).collect();
        self.tell(waiting.into_iter().map(|(_, token)| token), Fate::Released);
    }

    /// Notifications that were let in and not looked at yet.
    fn pending(&self) -> usize {
        self.looking.values().map(VecDeque::len).sum()
    }

    /// Whether more may be done before the ledger is written.
    fn has_place(&self) -> bool {
        self.state.book.done.len() < 2 * WRITE_AT
    }

    fn due(&self) -> Instant {
        let far = Instant::now() + WRITE_AFTER;
        let list = self.state.rests_until.unwrap_or(far);
        if self.state.book.done.is_empty() { list } else { list.min(self.write_at) }
    }

    /// Begins what is to be done next, if nothing is being done.
    fn plan(&mut self) {
        if self.job.is_some() {
            return;
        }
        let (now, book) = (Instant::now(), &mut self.state.book);
        let is_due = !book.done.is_empty() && (self.write_at <= now || self.ended);
        if book.done.len() >= WRITE_AT || is_due || self.ended && self.index.since.is_some() {
            let (store, index) = (self.store.clone(), Index::clone(&self.index));
            let (news, all) = (book.write(), self.ended);
            self.ended = false;
            self.job =
                Some(async move { store.flush(index, news, all).await.map(Job::Written) }.boxed());
            return;
        }
        self.ended = false;
        if self.state.rests_until.is_some_and(|until| until <= now) {
            (self.state.rests_until, self.state.began) = (None, now);
        }
        if self.state.rests_until.is_none() && book.found.is_empty() {
            let fresh: BTreeSet<usize> = book.unwritten().map(|key| self.index.find(key)).collect();
            book.watch();
            let (store, index) = (self.store.clone(), self.index.clone());
            let (scope, after) = (self.settings.scope.clone(), self.state.cursor.clone());
            let job = async move { step(&store, &scope, &index, after, &fresh).await };
            self.job = Some(job.map(|step| step.map(Job::Step)).boxed());
        }
    }

    fn take_job(&mut self, job: Job, link: &Link<Token>) {
        match job {
            Job::Written(index) => {
                self.index = Arc::new(index);
                self.state.book.written();
                self.write_at = Instant::now() + WRITE_AFTER;
                self.horizon = self.horizon.max(self.store.server.now());
            }
            Job::Step(Step { parts, next, made }) => {
                self.horizon = self.horizon.max(made);
                for part in parts {
                    self.state.book.take(part, self.index.since, self.settings);
                }
                self.state.book.listed();
                if next.is_none() {
                    self.state.rests_until = Some(self.state.began + self.settings.interval);
                    self.ended = true;
                    link.set_checkpoint(format!(
                        "{} objects, listed at {made}",
                        self.index.count()
                    ));
                }
                self.state.cursor = next;
            }
        }
    }

    /// Brings what the list found, as far as there is room.
    fn bring_found(&mut self, link: &mut Link<Token>) {
        while self.has_place() && link.room().events > self.pending() && !link.room().is_none() {
            let Some((key, change)) = self.state.book.next_found() else { return };
            self.bring(&key, change, None, link);
        }
    }

    fn bring(
        &mut self,
        key: &str,
        change: Change,
        told: Option<(&Told, Token)>,
        link: &mut Link<Token>,
    ) {
        let (settings, now) = (self.settings, Timestamp::now());
        let (version_id, token) =
            told.map_or((None, None), |(told, token)| (told.version_id.as_deref(), Some(token)));
        let found = Found { settings, version_id, waiting: token.clone(), now };
        match self.state.book.note(key, change, &found) {
            Noted::Brought(brought) => link.bring(vec![*brought]),
            Noted::Joined => {}
            Noted::Noted => self.tell(token, Fate::Done),
        }
    }

    /// Takes in a notification.
    fn take_in(&mut self, Offered { token, event, .. }: Offered) {
        let Some(told) = told_of(&event).filter(|told| self.is_meant(told)) else {
            return self.tell([token], Fate::Done);
        };
        let queue = self.looking.entry(told.key.clone()).or_default();
        queue.push_back((told.clone(), token.clone()));
        if queue.len() == 1 {
            self.look(told, token);
        }
    }

    fn is_meant(&self, told: &Told) -> bool {
        told.bucket == self.settings.scope.bucket && self.settings.scope.has(&told.key)
    }

    fn look(&self, told: Told, token: Token) {
        let (store, index) = (self.store.clone(), self.index.clone());
        self.looks.push(look(store, index, self.horizon, told, token).boxed());
    }

    fn take_look(&mut self, looked: Looked, link: &mut Link<Token>) {
        let key = looked.told.key.clone();
        if let Some(queue) = self.looking.get_mut(&key) {
            queue.pop_front();
            match queue.front().cloned() {
                Some((told, token)) => self.look(told, token),
                None => drop(self.looking.remove(&key)),
            }
        }
        let change = looked.change(&self.state.book.known(&key));
        let Looked { told, token, .. } = looked;
        match change {
            Some(change) => self.bring(&key, change, Some((&told, token)), link),
            None => self.tell([token], Fate::Done),
        }
    }

    fn carry_out(&mut self, order: &Order<Token>) {
        match order {
            Order::Acknowledge(batch) => {
                for (id, is_dropped) in batch.fates() {
                    let waiting = self.state.book.settle(id);
                    self.tell(waiting, if is_dropped { Fate::GivenUp } else { Fate::Done });
                }
            }
            Order::Release(batch) => {
                for id in batch.tokens() {
                    let waiting = self.state.book.release(id);
                    self.tell(waiting, Fate::Released);
                }
            }
            // Nothing here is taken back for want of a sign of life.
            Order::Extend(_) => {}
        }
    }

    /// Tells those who wait what became of their notifications.
    fn tell(&self, waiting: impl IntoIterator<Item = Token>, fate: Fate) {
        if let Some(notifications) = &self.notifications {
            for token in waiting {
                notifications.settle(&token, fate);
            }
        }
    }

    /// Notes what is done, so that it is not told again.
    async fn end(&mut self) -> Result<(), Failure> {
        if let Some(job) = self.job.take()
            && let Job::Written(index) = job.await?
        {
            self.index = Arc::new(index);
            self.state.book.written();
        }
        if !self.state.book.done.is_empty() {
            let (index, news) = (Index::clone(&self.index), self.state.book.write());
            self.index = Arc::new(self.store.flush(index, news, false).await?);
            self.state.book.written();
        }
        Ok(())
    }
}

async fn next_of(
    job: &mut Option<BoxFuture<'static, Result<Job, Failure>>>,
) -> Result<Job, Failure> {
    match job {
        Some(job) => job.await,
        None => pending().await,
    }
}

async fn next_heard(notifications: &mut Option<&mut Notifications>, has_place: bool) -> Heard {
    match notifications {
        Some(notifications) => notifications.next(has_place).await,
        None => pending().await,
    }
}
