//! How code comes to the program, and what is refused.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::LOCATION;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::rig::{self, Shim, digest, files, get, handler};

#[tokio::test]
async fn only_the_code_of_the_digest_is_taken_and_the_port_opens_then() {
    let code = files(&[("app.txt", "hello"), ("lib/run.sh", "#!/bin/sh\n")]);
    let mut shim = Shim::start(&digest(&code), &[&handler()], &[]).await;
    assert_eq!(shim.state().await["phase"], "WaitingForCode");
    let other = shim.push(files(&[("app.txt", "other")])).await;
    assert_eq!(other.status, 422);
    assert!(other.text().contains(&digest(&code)), "{}", other.text());
    assert_eq!(shim.state().await["phase"], "WaitingForCode");
    assert_eq!(shim.push(code.clone()).await.status, 200);
    assert_eq!(shim.push(code).await.status, 200, "twice is as good as once");
    let port = shim.port().await;
    assert_eq!(get(port, "/").await.status, 200);
    let state = shim.state().await;
    assert_eq!((&state["phase"], &state["ready"]), (&"Ready".into(), &1.into()));
    assert!(state["initMillis"].is_u64());
    let script = shim.folder.join("task/lib/run.sh");
    let mode = std::os::unix::fs::PermissionsExt::mode(&script.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o755);
}

#[tokio::test]
async fn bad_code_is_said_to_be_bad_and_the_pod_stays() {
    let code = files(&[("../escaped", "x")]);
    let shim = Shim::start(&digest(&code), &[&handler()], &[]).await;
    let answer = shim.push(code.clone()).await;
    assert_eq!(answer.status, 422);
    assert!(answer.text().contains("leads out of the folder"), "{}", answer.text());
    assert_eq!(shim.push(code).await.status, 422, "it is as bad as before");
    let state = shim.state().await;
    assert_eq!(state["phase"], "CodeRefused");
    assert!(state["message"].as_str().unwrap().contains("../escaped"), "{state}");
    assert!(!shim.folder.join("escaped").exists());
}

#[tokio::test]
async fn who_is_slow_keeps_out_nobody() {
    let code = files(&[("app.txt", "hello")]);
    let mut shim = Shim::start(&digest(&code), &[&handler()], &[]).await;
    let mut slow = tokio::net::TcpStream::connect(("127.0.0.1", shim.control)).await.unwrap();
    slow.write_all(b"PUT /code HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{").await.unwrap();
    // It has been heard when a question of the same connection's time is answered.
    assert_eq!(shim.state().await["phase"], "WaitingForCode");
    assert_eq!(shim.push(code).await.status, 200);
    shim.port().await;
}

#[tokio::test]
async fn more_code_than_may_be_pushed_is_not_read_to_its_end() {
    let code = vec![b' '; 2 << 20];
    let shim = Shim::start(&digest(&code), &[&handler()], &[]).await;
    let answer = shim.push(code).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
}

#[tokio::test]
async fn an_environment_that_is_wrong_is_named_and_ends_the_program() {
    let code = std::process::Command::new(env!("CARGO_BIN_EXE_rouse-shim"))
        .args(["true"])
        .env("ROUSE_CODE_DIGEST", "abc")
        .output()
        .unwrap();
    assert_eq!(code.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&code.stdout).contains("ROUSE_CODE_DIGEST"));
}

/// Answers each request by its path.
async fn web(answers: impl Fn(&str) -> Response<Full<Bytes>> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = Arc::new(answers);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(carry(TokioIo::new(stream), Arc::clone(&answers)));
        }
    });
    port
}

async fn carry<S, A>(stream: S, answers: Arc<A>)
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin,
    A: Fn(&str) -> Response<Full<Bytes>>,
{
    let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
        let response = answers(request.uri().path());
        async { Ok::<_, std::convert::Infallible>(response) }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
}

fn redirect(to: &str) -> Response<Full<Bytes>> {
    let response = Response::builder().status(StatusCode::FOUND).header(LOCATION, to);
    response.body(Full::default()).unwrap()
}

#[tokio::test]
async fn an_archive_is_fetched_and_unpacked() {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("app.txt", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"hello").unwrap();
    let code = zip.finish().unwrap().into_inner();
    let sum = digest(&code);
    let port = web(move |_| Response::new(code.clone().into())).await;
    let url = format!("http://127.0.0.1:{port}/code.zip?signature=secret");
    let mut shim = Shim::start(&sum, &[&handler()], &[("ROUSE_CODE_URL", &url)]).await;
    let port = shim.port().await;
    assert_eq!(get(port, "/").await.status, 200);
    assert_eq!(std::fs::read(shim.folder.join("task/app.txt")).unwrap(), b"hello");
    let pushed = shim.push(vec![1]).await;
    assert_eq!(pushed.status, 409, "{}", pushed.text());
}

#[tokio::test]
async fn what_can_not_be_fetched_is_said_without_secrets_and_tried_again() {
    let code = files(&[("app.txt", "hello")]);
    let sum = digest(&code);
    let asked = std::sync::atomic::AtomicBool::new(false);
    let port = web(move |_| {
        if asked.swap(true, std::sync::atomic::Ordering::Relaxed) {
            return Response::new(code.clone().into());
        }
        Response::builder().status(403).body(Full::default()).unwrap()
    });
    let url = format!("http://127.0.0.1:{}/code?signature=secret", port.await);
    let mut shim = Shim::start(&sum, &[&handler()], &[("ROUSE_CODE_URL", &url)]).await;
    let state = shim.until("FetchFailed").await;
    let message = state["message"].as_str().unwrap();
    assert!(message.contains("403") && !message.contains("secret"), "{message}");
    shim.port().await;
}

#[tokio::test]
async fn a_redirect_inwards_is_not_followed() {
    let port = web(|_| redirect("http://localhost:1/code")).await;
    let url = format!("http://127.0.0.1:{port}/");
    let shim = Shim::start(&digest(b""), &[&handler()], &[("ROUSE_CODE_URL", &url)]).await;
    let state = shim.until("FetchFailed").await;
    assert!(state["message"].as_str().unwrap().contains("not followed"), "{state}");
}

#[tokio::test]
async fn code_of_another_digest_is_refused_for_good() {
    let port = web(|_| Response::new("other".into())).await;
    let url = format!("http://127.0.0.1:{port}/");
    let shim = Shim::start(&digest(b"code"), &[&handler()], &[("ROUSE_CODE_URL", &url)]).await;
    let state = shim.until("CodeRefused").await;
    assert!(state["message"].as_str().unwrap().contains("SHA-256"), "{state}");
}

#[tokio::test]
async fn https_is_fetched_from_who_an_authority_knows_only() {
    let code = files(&[("app.txt", "hello")]);
    let sum = digest(&code);
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(authority, key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let answers = Arc::new(move |_: &str| Response::new(code.clone().into()));
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(carry(TokioIo::new(stream), Arc::clone(&answers)));
            }
        }
    });
    let url = format!("https://localhost:{port}/code");
    let stranger = Shim::start(&sum, &[&handler()], &[("ROUSE_CODE_URL", &url)]).await;
    let state = stranger.until("FetchFailed").await;
    assert!(state["message"].as_str().unwrap().contains("ertificate"), "{state}");
    let file = rig::folder().join("authority.pem");
    std::fs::write(&file, authority.as_ref().pem()).unwrap();
    let known = [("ROUSE_CODE_URL", &*url), ("SSL_CERT_FILE", file.to_str().unwrap())];
    Shim::start(&sum, &[&handler()], &known).await.port().await;
}
