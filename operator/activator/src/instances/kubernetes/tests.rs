use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;
use tower_test::mock;

use super::*;

type ApiServer = mock::Handle<Request<Body>, Response<Body>>;

fn cluster() -> (Kubernetes, ApiServer) {
    let (service, server) = mock::pair();
    (Kubernetes::new(Client::new(service, "default"), "rouse-system"), server)
}

fn deployment() -> DeploymentRef {
    DeploymentRef { namespace: "shop".into(), name: "f-abc".into() }
}

/// Answers the next request and returns it with its body.
async fn answer(server: &mut ApiServer, status: u16, body: Value) -> (Request<()>, Value) {
    let (request, respond) = server.next_request().await.expect("a request");
    let response =
        Response::builder().status(status).body(Body::from(body.to_string().into_bytes()));
    respond.send_response(response.unwrap());
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (Request::from_parts(head, ()), serde_json::from_slice(&bytes).unwrap_or_default())
}

fn failure(code: u16, retry_after: u32) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "the reason",
        "reason": "Whatever", "code": code, "details": {"retryAfterSeconds": retry_after}})
}

#[tokio::test]
async fn a_scale_is_one_merge_patch_under_our_name() {
    let (cluster, mut server) = cluster();
    let scaled = json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": "f-abc", "resourceVersion": "42"}, "spec": {"replicas": 3}});
    let target = deployment();
    let (written, (request, body)) =
        tokio::join!(cluster.apply_scale(&target, 3), answer(&mut server, 200, scaled));
    assert_eq!(written, Ok(Scaled { version: 42 }));
    assert_eq!(request.method(), Method::PATCH);
    assert_eq!(
        request.uri(),
        "/apis/apps/v1/namespaces/shop/deployments/f-abc/scale?&fieldManager=rouse-activator"
    );
    assert_eq!(request.headers()["content-type"], "application/merge-patch+json");
    assert_eq!(body, json!({"spec": {"replicas": 3}}));
}

#[tokio::test]
async fn an_answer_is_an_error_that_says_what_to_do() {
    for (code, expected) in [
        (404, ScaleError::Missing),
        (403, ScaleError::Refused("the reason".into())),
        (422, ScaleError::Refused("the reason".into())),
        (
            429,
            ScaleError::Unavailable {
                message: "the reason".into(),
                retry_after: Some(Duration::from_secs(7)),
            },
        ),
    ] {
        let (cluster, mut server) = cluster();
        let target = deployment();
        let (written, _) = tokio::join!(
            cluster.apply_scale(&target, 1),
            answer(&mut server, code, failure(code, 7))
        );
        assert_eq!(written, Err(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_silent_is_given_up() {
    let (cluster, mut server) = cluster();
    let silent = async {
        let (_request, respond) = server.next_request().await.expect("a request");
        std::future::pending::<()>().await;
        drop(respond);
    };
    let target = deployment();
    tokio::select! {
        written = cluster.apply_scale(&target, 1) => {
            assert!(matches!(written, Err(ScaleError::Unavailable { retry_after: None, .. })));
        }
        () = silent => unreachable!(),
    }
}

#[tokio::test]
async fn a_cost_is_an_annotation_and_a_pod_that_is_gone_needs_none() {
    let (cluster, mut server) = cluster();
    let pod = PodRef { namespace: "shop".into(), name: "p".into() };
    let (written, (request, body)) = tokio::join!(
        cluster.apply_deletion_cost(&pod, -100),
        answer(&mut server, 404, failure(404, 0))
    );
    assert_eq!(written, Ok(()));
    assert_eq!(request.uri().path(), "/api/v1/namespaces/shop/pods/p");
    let annotations = json!({"controller.kubernetes.io/pod-deletion-cost": "-100"});
    assert_eq!(body, json!({"metadata": {"annotations": annotations}}));
}

fn pod() -> PodRef {
    PodRef { namespace: "shop".into(), name: "p".into() }
}

/// A pod as its metadata tell of it.
fn found(version: &str, claim: Option<&str>) -> Value {
    let annotations = claim.map(|claim| json!({"rouse.dev/claim": claim}));
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {
        "name": "p", "uid": "pod-1", "resourceVersion": version, "annotations": annotations}})
}

#[tokio::test]
async fn a_claim_is_written_over_the_version_that_was_read_and_tried_again_over_another() {
    let (cluster, mut server) = cluster();
    let target = pod();
    let answers = async {
        let (read, _) = answer(&mut server, 200, found("7", None)).await;
        assert_eq!(read.method(), Method::GET);
        assert_eq!(read.uri(), "/api/v1/namespaces/shop/pods/p", "the store is asked, no cache");
        let (_, first) = answer(&mut server, 409, failure(409, 0)).await;
        answer(&mut server, 200, found("8", None)).await;
        let (request, second) = answer(&mut server, 200, found("9", Some("me/1/1"))).await;
        assert_eq!(request.headers()["content-type"], "application/merge-patch+json");
        [first, second]
    };
    let (claimed, [first, second]) =
        tokio::join!(cluster.apply_claim(&target, "pod-1", "me/1/1"), answers);
    assert_eq!(claimed, Ok(Claimed::Ours));
    assert_eq!(first["metadata"]["resourceVersion"], "7");
    let expected = json!({"metadata": {"uid": "pod-1", "resourceVersion": "8",
        "annotations": {"rouse.dev/claim": "me/1/1"}}});
    assert_eq!(second, expected);
}

#[tokio::test]
async fn a_pod_that_has_a_claim_is_not_claimed_anew() {
    for (standing, expected) in [
        ("me/1/1", Claimed::Ours),
        ("me/1/2", Claimed::Others("me/1/2".into())),
        ("other/1/1", Claimed::Others("other/1/1".into())),
    ] {
        let (cluster, mut server) = cluster();
        let target = pod();
        let (claimed, _) = tokio::join!(
            cluster.apply_claim(&target, "pod-1", "me/1/1"),
            answer(&mut server, 200, found("7", Some(standing)))
        );
        assert_eq!(claimed, Ok(expected));
    }
}

#[tokio::test]
async fn a_pod_of_the_same_name_is_another_pod() {
    let (cluster, mut server) = cluster();
    let target = pod();
    let (claimed, _) = tokio::join!(
        cluster.apply_claim(&target, "pod-0", "me/1/1"),
        answer(&mut server, 200, found("7", None))
    );
    assert_eq!(claimed, Ok(Claimed::Gone));
    let (deleted, (request, body)) = tokio::join!(
        cluster.delete_pod(&target, "pod-0"),
        answer(&mut server, 409, failure(409, 0))
    );
    assert_eq!(deleted, Ok(()));
    assert_eq!(request.method(), Method::DELETE);
    assert_eq!(body["preconditions"], json!({"uid": "pod-0"}));
}

#[tokio::test]
async fn the_membership_is_read_from_the_store() {
    let (cluster, mut server) = cluster();
    let stored = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "m"},
        "data": {"membership.json": "{\"version\": 9, \"members\": []}"}});
    let (read, (request, _)) =
        tokio::join!(cluster.fetch_membership(), answer(&mut server, 200, stored));
    assert_eq!(read.unwrap().version, 9);
    assert_eq!(request.uri(), "/api/v1/namespaces/rouse-system/configmaps/rouse-membership");
}

#[tokio::test]
async fn code_is_read_from_the_record_once() {
    let (cluster, mut server) = cluster();
    let record =
        RecordRef { namespace: "shop".into(), name: "f-abc".into(), function: "uid".into() };
    let source = json!({"runtime": "shell", "files": {"a": "b"}});
    let code = Code::of(&serde_json::from_value(source).unwrap()).unwrap().unwrap();
    let object = |data: Value| {
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1,
            "metadata": {"name": "f-abc"}, "data": data})
    };
    let whole = object(json!({"template": {}, "code": code.to_record()}));
    let mut broken = whole.clone();
    broken["data"]["code"]["bytes"] = json!("AAAA");
    for other in [object(json!({"template": {}})), broken] {
        let (read, (request, _)) =
            tokio::join!(cluster.fetch_code(&record), answer(&mut server, 200, other));
        assert_eq!(read, Err(CallError("it keeps no code".into())));
        let path = "/apis/apps/v1/namespaces/shop/controllerrevisions/f-abc";
        assert_eq!((request.method(), request.uri().path()), (&Method::GET, path));
    }
    let (read, _) = tokio::join!(cluster.fetch_code(&record), answer(&mut server, 200, whole));
    assert_eq!(read.as_deref(), Ok(&code.bytes[..]));
    assert_eq!(cluster.fetch_code(&record).await.as_deref(), Ok(&code.bytes[..]));
}
