//! The files: what is wrong in them is said by file, line, field and rule; what changes takes force
//! without a request being dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::rig::{Dev, Folder, PATIENCE, command, function, get, send, until};

async fn refused(folder: &Folder, arguments: &[&str]) -> String {
    let output = command(folder.path(), arguments).output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("it runs on").unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn mistakes_are_said_where_they_stand() {
    let head = "apiVersion: rouse.dev/v1alpha1\nkind: Function\nmetadata: {name: a}\nspec:\n";
    for (rest, said) in [
        ("  image: x\n  concurrency:\n    limit: -1\n", "a.yaml:7: spec.concurrency.limit: "),
        ("  imag: x\n", "a.yaml:5: spec.imag: "),
        ("  port: 80\n", "a.yaml:"),
        ("  image: [x\n", "a.yaml:"),
    ] {
        let folder = Folder::of(&[("a.yaml", &format!("{head}{rest}"))]);
        let error = refused(&folder, &["--port", "0"]).await;
        assert!(error.contains(said), "{rest}: {error}");
    }
}

#[tokio::test]
async fn a_port_in_use_and_a_folder_in_use_are_said() {
    let folder = Folder::of(&[("a.yaml", &function("hello", "'hi'", ""))]);
    let dev = Dev::start(&folder).await;
    let error = refused(&folder, &["--port", &dev.port.to_string()]).await;
    assert!(error.contains("is in use") && error.contains("--port"), "{error}");
    let error = refused(&folder, &["--port", "0"]).await;
    assert!(error.contains("another `rouse dev`") && error.contains("--state"), "{error}");
    dev.interrupt().await;
}

#[tokio::test]
async fn changes_take_force_without_a_dropped_request() {
    let folder = Folder::of(&[
        ("a.yaml", &function("hello", "'one'", "")),
        (
            "code/function.yaml",
            "kind: Function\nmetadata: {name: code}\nspec: {source: {handler: app.py, contract: Http}}\n",
        ),
        ("code/app.py", &crate::rig::SERVER.replace("TEXT", "'first'")),
    ]);
    let mut dev = Dev::start(&folder).await;
    assert_eq!((dev.text("hello").await, dev.text("code").await), ("one".into(), "first".into()));
    let over = Arc::new(AtomicBool::new(false));
    let (port, stop) = (dev.port, Arc::clone(&over));
    let calling = tokio::spawn(async move {
        let mut answers = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            answers.push(get(port, "hello.default.localhost", "/?ms=5").await);
        }
        answers
    });
    folder.write("a.yaml", &function("hello", "'two'", ""));
    folder.write("code/app.py", &crate::rig::SERVER.replace("TEXT", "'second'"));
    dev.heard("Function default/hello has changed").await;
    dev.heard("Function default/code has changed").await;
    for (name, text) in [("hello", "two"), ("code", "second")] {
        let changed = async { while dev.text(name).await != text {} };
        tokio::time::timeout(PATIENCE, changed).await.expect("the change takes no force");
    }
    over.store(true, Ordering::Relaxed);
    let answers = calling.await.unwrap();
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    // What is wrong changes nothing, however it is wrong.
    for (text, said) in [
        ("kind: [\n".to_owned(), "a.yaml:1: "),
        (function("hello", "'3'", "").replace("hello}", "Hello}"), "a.yaml:3: metadata.name: "),
        (
            function("hello", "'4'", "").replace("hello}", "hello, namespace: A}"),
            "metadata.namespace: ",
        ),
        (
            function("hello", "'5'", "").replace("hello}", "hello, labels: {a: 1}}"),
            "metadata.labels.a: ",
        ),
    ] {
        folder.write("a.yaml", &text);
        dev.heard(said).await;
        assert_eq!(dev.text("hello").await, "two");
    }
    folder.write("new.yaml", &function("new", "'new'", ""));
    folder.write("a.yaml", &function("hello", "'two'", ""));
    dev.heard("new  http://new.default.localhost:").await;
    folder.remove("a.yaml");
    dev.heard("Function default/hello is gone").await;
    until(|| dev.said().contains("is gone"), || dev.said()).await;
    dev.interrupt().await;
}

#[tokio::test]
async fn secrets_and_schedules_work() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: words}\nstringData: {one: abc}\n";
    let more = "  env: [{name: WORD, valueFrom: {secretKeyRef: {name: words, key: one}}}]\n";
    let schedule = "apiVersion: rouse.dev/v1alpha1\nkind: Trigger\nmetadata: {name: tick}\nspec:\n  \
                    function: ticked\n  schedule: {cron: \"@every 2s\"}\n";
    let ticked = function("ticked", "'x'", "");
    let folder = Folder::of(&[
        ("secret.yaml", secret),
        ("a.yaml", &function("hello", "os.environ['WORD']", more)),
        ("t.yaml", &format!("{ticked}---\n{schedule}")),
    ]);
    let mut dev = Dev::start(&folder).await;
    assert_eq!(dev.text("hello").await, "abc");
    dev.heard("ticked | asked for /").await;
    dev.interrupt().await;
}

#[tokio::test]
async fn events_come_in_where_their_sender_proves_who_he_is() {
    let trigger = "apiVersion: v1\nkind: Secret\nmetadata: {name: door}\nstringData: {token: abc}\n---\n\
                   apiVersion: rouse.dev/v1alpha1\nkind: Trigger\nmetadata: {name: door}\nspec:\n  \
                   function: hello\n  cloudEvents: {host: in.example.com, path: /events, token: {name: door, key: token}}\n";
    let folder = Folder::of(&[("a.yaml", &function("hello", "'hi'", "")), ("door.yaml", trigger)]);
    let mut dev = Dev::start(&folder).await;
    let head = |token: &str, id: usize| {
        format!(
            "POST /events HTTP/1.1\r\nhost: in.example.com\r\nauthorization: Bearer {token}\r\n\
             ce-specversion: 1.0\r\nce-id: {id}\r\nce-source: test\r\nce-type: test\r\n\
             content-type: application/json\r\n"
        )
    };
    let port = dev.port;
    // The pod that takes them has to come up.
    let taken = async {
        let mut id = 0;
        while send(port, &head("abc", id), "{}").await.0 / 100 != 2 {
            id += 1;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("no event is taken");
    dev.heard("hello | asked for /").await;
    assert_eq!(send(port, &head("wrong", 0), "{}").await.0, 401);
    dev.interrupt().await;
}
