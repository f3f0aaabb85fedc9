use http_body_util::BodyExt;

use super::*;

fn key() -> FunctionKey {
    FunctionKey::new("shop", "thumbnails")
}

fn full(full: Full) -> Failure {
    Failure::QueueFull { function: key(), full, retry_after: Duration::from_secs(7) }
}

/// One of each kind.
fn all() -> Vec<Failure> {
    let function = key();
    let pod: Arc<str> = "thumbnails-0a1b2c3d4e-x7k2p".into();
    let peer = "rouse-activator-7d9f-abcde".to_owned();
    let error = "connection refused".to_owned();
    vec![
        Failure::BadRequest("the request names no host"),
        Failure::HeadersTooLarge { bytes: 40_000, count: 12, max_bytes: 32_768, max_count: 96 },
        Failure::TargetTooLong { bytes: 20_000, max_bytes: 16_384 },
        Failure::BodyTooLarge { function: key(), limit: 1_048_576 },
        Failure::BodyStalled(Duration::from_mins(1)),
        Failure::NotFound { host: "g.shop".into(), path: "/a\"b".into(), public: false },
        Failure::NotFound { host: "g.example.com".into(), path: "/".into(), public: true },
        Failure::BareName { name: "thumbnails".into(), domain: "cluster.local".into() },
        Failure::MethodNotAllowed(vec![HttpMethod::Get, HttpMethod::Head]),
        Failure::Connect,
        Failure::Deleted(key()),
        full(Full::Requests(1000)),
        full(Full::Bytes(67_108_864)),
        Failure::ActivatorFull { function: key(), retry_after: Duration::from_secs(3) },
        Failure::StartFailed {
            function: key(),
            failure: Arc::new(StartFailure {
                reason: "ImagePullFailed",
                message: "the image registry.example/thumbnails:9 can't be pulled".into(),
            }),
        },
        Failure::NoOwner(key()),
        Failure::ActivationTimeout { function: key(), limit: Duration::from_mins(1), delay: None },
        Failure::ActivationTimeout {
            function: key(),
            limit: Duration::from_mins(1),
            delay: Some(Arc::new(StartFailure {
                reason: "NotListening",
                message: "the container runs but nothing listens on port 8080".into(),
            })),
        },
        Failure::NotConnected { function: key(), pod: pod.clone(), error: error.clone() },
        Failure::StreamRefused { function: key(), pod: pod.clone(), error: error.clone() },
        Failure::PodBroke { function: key(), pod: pod.clone(), error: error.clone() },
        Failure::AnswerTimeout {
            function: key(),
            pod,
            limit: Duration::from_millis(2500),
            field: "spec.timeouts.firstByte",
        },
        Failure::PeerUnreachable { function: key(), peer: peer.clone(), error: error.clone() },
        Failure::PeerBroke { function, peer, error: error.clone() },
        Failure::SourceAway { error },
        Failure::NotOwner,
        Failure::NotAPeer,
    ]
}

#[tokio::test]
async fn every_failure_is_a_document_that_says_what_to_do() {
    let mut texts = Vec::new();
    for failure in all() {
        let response = respond(&failure);
        let mut fields: Vec<String> = response
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        fields.sort();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(document["status"], status.as_u16());
        let document = serde_json::to_string_pretty(&document).unwrap();
        texts.push(format!("{status}\n{}\n{document}", fields.join("\n")));
    }
    insta::assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn only_what_may_pass_by_itself_is_worth_trying_again() {
    for failure in all() {
        let after = respond(&failure).headers().contains_key(RETRY_AFTER);
        assert_eq!(failure.retryable(), after, "{failure}");
        if failure.retryable() {
            assert_ne!(failure.source(), Source::Client, "{failure}");
        }
    }
}
