//! Keeps the API at what the files say, and says what that changes: reads them again as they change,
//! and goes on whatever is wrong with them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::apply::{Applied, Change};
use super::args::DevArgs;
use super::files::Found;
use super::objects::{Key, Kind, Mistake, Object, Read};
use super::refuse;
use crate::shutdown::Shutdown;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Looks that differ before what there is then is read: something may be written all the time.
const MOST_LOOKS: usize = 5;
/// How long the end may take before it is said what is waited for.
const QUIET: Duration = Duration::from_millis(500);

/// What is told of where things are.
pub struct Shown {
    /// Where Functions are called.
    pub port: u16,
    /// How programs reach the API.
    pub kubeconfig: PathBuf,
    /// Whether there is what runs images.
    pub runs_images: bool,
    /// When all this is over.
    pub shutdown: Shutdown,
    /// To whom prints.
    pub lines: mpsc::Sender<String>,
}

impl Shown {
    async fn say(&self, line: impl Into<String>) {
        // Who prints is there as long as this is.
        let _ = self.lines.send(line.into()).await;
    }

    /// How a Function is called.
    fn call_of(&self, key: &Key, object: &Object) -> String {
        let (name, namespace, port) = (&key.name, &key.namespace, self.port);
        // Who calls it is told what to do.
        let note =
            if self.runs_images || !object.is_image() { "" } else { "  (needs podman or docker)" };
        format!("{name}  http://{name}.{namespace}.localhost:{port}/{note}")
    }
}

/// Keeps the API at what the files say.
pub struct Desk {
    applied: Applied,
    args: DevArgs,
    shown: Shown,
    /// The files that were read last.
    found: Found,
    /// What was said of them last.
    mistakes: Vec<Mistake>,
    left_out: Vec<String>,
    /// Whether they are read again though nothing has changed.
    again: bool,
}

impl Desk {
    /// At nothing yet, of what was `found`.
    pub const fn new(applied: Applied, args: DevArgs, found: Found, shown: Shown) -> Self {
        let mistakes = Vec::new();
        Self { applied, args, shown, found, mistakes, left_out: Vec::new(), again: false }
    }

    /// Applies what was read first, then what changes, until the process shall stop.
    pub async fn run(&mut self, read: Read) -> anyhow::Result<()> {
        for line in &read.left_out {
            self.shown.say(line.as_str()).await;
        }
        self.left_out = read.left_out;
        self.applied.make_namespace(&self.args.namespace).await?;
        let change = self.applied.apply(read.objects).await;
        refuse(&change.mistakes)?;
        self.applied.until_known().await;
        self.introduce().await;
        self.follow().await;
        sleep(QUIET).await;
        self.shown.say("ending: requests have 5 s; Ctrl-C again ends at once").await;
        // Who carries requests says when they are over.
        std::future::pending().await
    }

    /// Looks at the files over and over, and reads them where they have changed.
    async fn follow(&mut self) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last, mut restless) = (self.found.clone(), 0);
        let mut trouble: Option<String> = None;
        while !*self.shown.shutdown.borrow() {
            looks.tick().await;
            let found = match look(&self.args.folder).await {
                Ok(found) => found,
                Err(error) => {
                    let told = format!("{error:#}: all stays as it was");
                    if trouble.as_ref() != Some(&told) {
                        self.shown.say(told.as_str()).await;
                    }
                    trouble = Some(told);
                    continue;
                }
            };
            if trouble.take().is_some() {
                self.shown.say("the folder can be read again").await;
            }
            // Editors write in several steps: what changes is read once it no longer does.
            restless = if found == last { 0 } else { restless + 1 };
            last = found;
            let settled = restless == 0 || restless > MOST_LOOKS;
            if settled && (last != self.found || self.again) {
                restless = 0;
                self.found = last.clone();
                self.reload().await;
            }
        }
    }

    /// Reads the files again. What is wrong stays as it was.
    async fn reload(&mut self) {
        let (found, namespace) = (self.found.clone(), self.args.namespace.clone());
        let known = self.applied.objects().values().map(|object| object.file.clone()).collect();
        let reading = move || Read::of(&found, &namespace, &known);
        let read = match tokio::task::spawn_blocking(reading).await {
            Ok(read) => read,
            Err(error) => return self.shown.say(format!("reading the files: {error}")).await,
        };
        for line in read.left_out.iter().filter(|line| !self.left_out.contains(line)) {
            self.shown.say(line.as_str()).await;
        }
        self.left_out = read.left_out;
        self.again = false;
        if !read.mistakes.is_empty() {
            self.say_mistakes(read.mistakes).await;
            return self.shown.say("the files are not right, and all stays as it was").await;
        }
        let Change { made, changed, deleted, mistakes, waits } =
            self.applied.apply(read.objects).await;
        self.again = waits;
        self.say_mistakes(mistakes).await;
        for key in &made {
            let line = match self.applied.objects().get(key) {
                Some(object) if key.kind == Kind::Function => self.shown.call_of(key, object),
                _ => format!("{key} is new"),
            };
            self.shown.say(line).await;
        }
        for key in changed.iter().filter(|key| key.kind != Kind::Namespace) {
            self.shown.say(format!("{key} has changed")).await;
        }
        for key in &deleted {
            self.shown.say(format!("{key} is gone")).await;
        }
    }

    /// Says what is wrong, once as long as the files stay as they are.
    async fn say_mistakes(&mut self, mistakes: Vec<Mistake>) {
        if !(self.again && mistakes == self.mistakes) {
            for mistake in &mistakes {
                self.shown.say(mistake.to_string()).await;
            }
        }
        self.mistakes = mistakes;
    }

    /// Says what there is, and how it is called.
    async fn introduce(&self) {
        let all = self.applied.objects().iter();
        let functions: Vec<_> = all.filter(|(key, _)| key.kind == Kind::Function).collect();
        for (key, object) in &functions {
            self.shown.say(self.shown.call_of(key, object)).await;
        }
        if functions.is_empty() {
            let folder = self.args.folder.display();
            self.shown.say(format!("there is no Function in {folder} yet")).await;
        }
        let kubeconfig = self.shown.kubeconfig.display();
        self.shown.say(format!("kubeconfig  export KUBECONFIG={kubeconfig}")).await;
        self.shown.say("they sleep until they are called; Ctrl-C ends it all").await;
    }
}

async fn look(folder: &Path) -> anyhow::Result<Found> {
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || Found::look(&folder)).await?
}
