//! What no real server here does: a clock that is off, a redirect, a list in no order.

use std::sync::Arc;
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use rouse_crds::v1alpha1::SourceTls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::stage::{access, key};
use crate::credentials::Secrets;
use crate::failure::Failure;
use crate::s3::client::Objects;
use crate::s3::{Server, Servers};
use crate::stage::loopback;

/// Answers requests one after the other; gives the lines that they begin with.
async fn answers(all: Vec<String>) -> (Server, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let lines = asked.clone();
    tokio::spawn(async move {
        for answer in all {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 8192];
            let read = stream.read(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request[..read]).into_owned();
            lines.lock().unwrap().push(text.lines().next().unwrap().to_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let (region, policy) = ("us-east-1".into(), loopback());
    (Server { endpoint, region, credentials: None, tls: None, policy }, asked)
}

fn answer(status: &str, date: Timestamp, more: &str, body: &str) -> String {
    let date = jiff::fmt::rfc2822::to_string(&date.to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ndate: {date}\r\ncontent-length: {length}\r\n{more}connection: close\r\n\r\n{body}"
    )
}

fn list(keys: &[&str]) -> String {
    let object = |key: &&str| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
             <ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>"
        )
    };
    let contents = keys.iter().map(object).collect::<Vec<_>>().concat();
    format!(
        "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
    )
}

fn open(server: &Server) -> Objects {
    Objects::open(server, &Secrets::below("/nowhere")).unwrap()
}

#[tokio::test]
async fn a_server_whose_clock_is_off_is_asked_again_by_its_own_time() {
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    let refused = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
    let all = vec![
        answer("403 Forbidden", later, "", refused),
        answer("200 OK", later, "", &list(&["a"])),
    ];
    let (server, asked) = answers(all).await;
    let page = open(&server).list("b", "", None, 1).await.unwrap();
    assert_eq!(page.objects[0].version.etag, "e");
    assert_eq!(page.made.as_second(), later.as_second());
    assert_eq!(asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn nobody_is_followed_elsewhere() {
    let elsewhere = "location: http://169.254.169.254/b\r\n";
    let all = vec![answer("301 Moved Permanently", Timestamp::now(), elsewhere, "")];
    let (server, asked) = answers(all).await;
    let failure = open(&server).list("b", "", None, 1).await.unwrap_err();
    assert!(matches!(&failure, Failure::Invalid(text) if text.contains("redirects")), "{failure}");
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn who_reaches_a_server_alike_shares_its_connections() {
    let folder = std::env::temp_dir().join(format!("rouse-s3-alike-{}", std::process::id()));
    let write = |name: &str, text: &str| {
        std::fs::create_dir_all(folder.join(name)).unwrap();
        for key in ["id", "secret"] {
            std::fs::write(folder.join(name).join(key), text).unwrap();
        }
    };
    write("a", "one");
    write("b", "one");
    let servers = Servers::new(Secrets::below(&folder));
    let (mut server, _) = answers(Vec::new()).await;
    server.credentials = Some(access("a"));
    let first = servers.open(&server).unwrap();
    let [second, third] = [servers.open(&server), servers.open(&server)];
    assert!(Arc::ptr_eq(&first, &second.unwrap()) && Arc::ptr_eq(&first, &third.unwrap()));
    for other in [
        Server { credentials: Some(access("b")), ..server.clone() },
        Server { credentials: None, ..server.clone() },
        Server { region: "eu-central-1".into(), ..server.clone() },
        Server { endpoint: "http://other:9000".into(), ..server.clone() },
    ] {
        assert!(!Arc::ptr_eq(&first, &servers.open(&other).unwrap()), "{other:?}");
    }
    // A Secret that changed is taken at the next connection, and shared too.
    write("a", "two");
    let new = servers.open(&server).unwrap();
    assert!(!Arc::ptr_eq(&first, &new));
    assert!(Arc::ptr_eq(&new, &servers.open(&server).unwrap()));
    let tls = Some(SourceTls { ca: Some(key("a", "id")), ..SourceTls::default() });
    let unfit = servers.open(&Server { tls, ..server.clone() }).unwrap_err();
    assert_eq!(unfit.reason(), "SourceInvalid");
    let gone = Arc::downgrade(&new);
    drop((first, new));
    assert!(gone.upgrade().is_none(), "nobody keeps what nobody uses");
    std::fs::remove_dir_all(&folder).unwrap();
}
