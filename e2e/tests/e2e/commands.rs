//! The command line against a cluster, a process for each line, with what it says and how it ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams, PostParams};
use rouse_crds::v1alpha1::Function;
use rouse_e2e::cluster::NAMESPACE;
use rouse_e2e::scope::{PATIENCE, Said, Scope, hello};
use serde_json::{Value, json};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn functions_are_listed_looked_at_and_called() {
    Scope::run("list", async |scope| {
        let none = scope.rouse(&["list"])?.ends_with(0)?;
        assert!(none.out.starts_with("There are no Functions in namespace "), "{none:?}");
        scope.apply_function("hello", hello(&json!({}))).await?;
        scope
            .apply_trigger("daily", json!({"function": "hello", "schedule": {"cron": "@daily"}}))
            .await?;
        scope.asleep("hello", PATIENCE).await?;

        let names = scope.rouse(&["list", "-o", "name"])?.ends_with(0)?;
        assert_eq!(names.out, "function.rouse.dev/hello\n");
        let table = scope.rouse(&["list"])?.ends_with(0)?;
        let words: Vec<&str> =
            table.out.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        assert_eq!(words[..3], ["hello", "Asleep", "0/0"], "{table:?}");
        assert!(!table.out.contains('\x1b'), "no colours without a terminal");
        let listed = scope.rouse(&["list", "-o", "json"])?.json()?;
        assert_eq!((&listed[0]["state"], &listed[0]["triggers"]), (&json!("Asleep"), &json!(1)));
        let mut everywhere = scope.program()?;
        let everywhere = Said::of(everywhere.args(["list", "-A", "-o", "yaml"]))?.ends_with(0)?;
        assert!(everywhere.out.contains(&format!("namespace: {}", scope.namespace)));

        let cold = scope.rouse(&["invoke", "hello", "/?name=you"])?.ends_with(0)?;
        assert_eq!(cold.out.trim_end(), "Hello, you!", "{cold:?}");
        for said in
            ["hello sleeps: this call wakes it", "200 OK, ", "program listens", "answer begins"]
        {
            assert!(cold.err.contains(said), "{said:?} is not in {cold:?}");
        }
        let echo = scope.rouse(&["invoke", "hello", "/echo", "--data", "{}", "-o", "json"])?;
        let echo = echo.ends_with(0)?.json()?;
        assert_eq!((&echo["status"], &echo["body"]), (&json!(200), &json!("{}")), "{echo}");
        let status = scope.rouse(&["status", "hello"])?.ends_with(0)?;
        for said in ["Function hello in namespace", "serves", "schedule @daily", "Running"] {
            assert!(status.out.contains(said), "{said:?} is not in {status:?}");
        }
        let status = scope.rouse(&["status", "hello", "-o", "json"])?.json()?;
        assert_eq!(status["grade"], "good", "{status}");
        assert_eq!(status["pods"].as_array().map(Vec::len), Some(1), "{status}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_exit_code_tells_what_came_of_a_call() {
    Scope::run("codes", async |scope| {
        scope.apply_function("hello", hello(&json!({}))).await?;
        scope.asleep("hello", PATIENCE).await?;
        let address = format!("http://{}", scope.cluster.activator);
        for (path, code) in [("/status/204", 0), ("/status/404", 8), ("/status/503", 9)] {
            for more in [&[][..], &["--address", &address]] {
                let said = scope.rouse(&[&["invoke", "hello", path], more].concat())?;
                said.ends_with(code)?;
            }
        }
        let slow = scope.rouse(&["invoke", "hello", "/?sleep=20000", "--timeout", "500ms"])?;
        ensure!(slow.ends_with(6)?.err.contains("--timeout"), "it says what to do");
        let nobody = scope.rouse(&["invoke", "hello", "--address", "127.0.0.1:1"])?.ends_with(5)?;
        assert!(nobody.err.contains("nobody answers at http://127.0.0.1:1"), "{nobody:?}");
        let event = tempfile::NamedTempFile::new()?;
        let text = json!({"specversion": "1.0", "id": "7", "source": "/s", "type": "t", "data": 1});
        std::fs::write(event.path(), text.to_string())?;
        let event = event.path().to_str().context("a path is text")?;
        scope.rouse(&["invoke", "hello", "--event", event])?.ends_with(0)?;
        let events = scope.rouse(&["invoke", "hello", "/events"])?.ends_with(0)?;
        assert!(events.out.starts_with("7 "), "{events:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn errors_say_what_to_do() {
    Scope::run("errors", async |scope| {
        // No other test has one of this name, which may be told of instead.
        scope.apply_function("greeter", hello(&json!({}))).await?;
        for line in [
            &["status", "greter"][..],
            &["why", "greter"],
            &["logs", "greter"],
            &["invoke", "greter"],
            &["rollback", "greter"],
        ] {
            let said = scope.rouse(line)?.ends_with(3)?;
            assert!(said.err.contains("did you mean greeter?"), "{said:?}");
        }
        let mut elsewhere = scope.program()?;
        let elsewhere = Said::of(elsewhere.args(["status", "greeter", "-n", "kube-public"]))?;
        let hint = format!("-n {}", scope.namespace);
        assert!(elsewhere.ends_with(3)?.err.contains(&hint));
        let wrong = scope.rouse(&["list", "--context", "nowhere"])?.ends_with(5)?;
        assert!(wrong.err.contains("no context \"nowhere\""), "{wrong:?}");
        let mut none = scope.program()?;
        let none = Said::of(none.arg("list").env("KUBECONFIG", "/nowhere/config"))?.ends_with(5)?;
        assert!(none.err.contains("/nowhere/config") && none.err.contains("rouse dev"), "{none:?}");
        scope.rouse(&["list", "--no-such-option"])?.ends_with(2)?;
        Ok(())
    })
    .await;
}

/// A kubeconfig of somebody else: a ServiceAccount of the namespace.
fn kubeconfig_of(scope: &Scope, account: &str, file: &Path) -> anyhow::Result<()> {
    let own = std::env::var_os("ROUSE_E2E_KUBECONFIG").context("a kubeconfig")?;
    let mut config: Value = serde_saphyr::from_str(&std::fs::read_to_string(own)?)?;
    for user in config["users"].as_array_mut().into_iter().flatten() {
        user["user"]["as"] = json!(format!("system:serviceaccount:{}:{account}", scope.namespace));
    }
    std::fs::write(file, config.to_string()).context("writing a kubeconfig")
}

async fn bind(
    scope: &Scope,
    (kind, role): (&str, &str),
    namespace: &str,
) -> anyhow::Result<String> {
    let name = format!("{}-{role}", scope.namespace);
    let binding = json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "user", "namespace": scope.namespace}],
    });
    let api: Api<RoleBinding> = Api::namespaced(scope.cluster.client.clone(), namespace);
    api.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
    Ok(name)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn who_may_not_is_told_which_right_is_missing() {
    Scope::run("user", async |scope| {
        scope.apply_function("hello", hello(&json!({}))).await?;
        scope.asleep("hello", PATIENCE).await?;
        let account = serde_json::from_value(json!({"metadata": {"name": "user"}}))?;
        scope.api::<ServiceAccount>().create(&PostParams::default(), &account).await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("config");
        kubeconfig_of(&scope, "user", &file)?;
        let ask = |words: &[&str]| {
            let mut program = scope.program()?;
            Said::of(program.env("KUBECONFIG", &file).args(words).args(["-n", &scope.namespace]))
        };
        let stranger = ask(&["list"])?.ends_with(4)?;
        assert!(stranger.err.contains("you may not list functions"), "{stranger:?}");
        bind(&scope, ("ClusterRole", "view"), &scope.namespace).await?;
        ask(&["list"])?.ends_with(0)?;
        ask(&["status", "hello"])?.ends_with(0)?;
        let called = ask(&["invoke", "hello"])?.ends_with(4)?;
        assert!(called.err.contains("Role `rouse-invoke`"), "{called:?}");
        let name = bind(&scope, ("Role", "rouse-invoke"), NAMESPACE).await?;
        let called = ask(&["invoke", "hello"]).and_then(|said| said.ends_with(0));
        let bindings: Api<RoleBinding> = Api::namespaced(scope.cluster.client.clone(), NAMESPACE);
        bindings.delete(&name, &DeleteParams::default()).await?;
        called.map(drop)
    })
    .await;
}

/// Puts a Python function into `folder` that answers with `text`.
fn write(folder: &Path, text: &str) -> anyhow::Result<()> {
    let answer = format!("{{'statusCode': 200, 'body': '{text}'}}");
    let code = format!("def handler(event, context):\n    return {answer}\n");
    std::fs::write(folder.join("app.py"), code).context("writing code")
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_function_goes_back_to_what_it_was() {
    Scope::run("rollback", async |scope| {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_str().context("a path is text")?;
        let deploy = || scope.rouse(&["deploy", path, "--name", "app", "-o", "json"]);
        let body = || anyhow::Ok(scope.rouse(&["invoke", "app"])?.ends_with(0)?.out);
        write(folder.path(), "one")?;
        let one = deploy()?.ends_with(0)?.json()?["revision"].clone();
        assert_eq!(body()?, "one");
        let first = scope.rouse(&["rollback", "app"])?.ends_with(3)?;
        assert!(first.err.contains("no revision before"), "{first:?}");

        write(folder.path(), "two")?;
        let two = deploy()?.ends_with(0)?.json()?["revision"].clone();
        assert_eq!(body()?, "two");
        let tried = scope.rouse(&["rollback", "app", "--dry-run", "-o", "json"])?.ends_with(0)?;
        assert_eq!(tried.json()?["changes"][0]["field"], "source.files[app.py]", "{tried:?}");
        assert_eq!(body()?, "two", "nothing was changed");
        let back = scope.rouse(&["rollback", "app"])?.ends_with(0)?;
        assert!(back.err.contains("source.files[app.py]"), "{back:?}");
        assert_eq!(body()?, "one");
        let to = two.as_str().context("a revision")?;
        let forth = scope.rouse(&["rollback", "app", "--to", to, "-o", "json"])?.ends_with(0)?;
        assert_eq!((&forth.json()?["from"], &forth.json()?["revision"]), (&one, &two));
        assert_eq!(body()?, "two");
        scope.rouse(&["rollback", "app", "--to", "nonesuch"])?.ends_with(3)?;

        // What a rollback wrote is no reason to refuse the next deployment; but that fails by itself.
        std::fs::write(folder.path().join("broken.py"), "import nothing_of_that_name\n")?;
        let code = "import broken\ndef handler(event, context):\n    return 'three'\n";
        std::fs::write(folder.path().join("app.py"), code)?;
        let broken = deploy()?.ends_with(7)?;
        assert!(broken.err.contains("can't become ready"), "{broken:?}");
        let status = scope.rouse(&["status", "app"])?.ends_with(7)?;
        assert!(status.out.contains("What to do") && status.out.contains("rouse rollback app"));
        assert_eq!(body()?, "two", "the former revision goes on");
        scope.rouse(&["rollback", "app"])?.ends_with(0)?;
        scope.rouse(&["status", "app"])?.ends_with(0)?;
        assert_eq!(body()?, "two");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_a_rollback_brought_back_goes_with_the_next_deployment() {
    Scope::run("redeploy", async |scope| {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_str().context("a path is text")?;
        let deploy = || scope.rouse(&["deploy", path, "--name", "app", "-o", "json"])?.ends_with(0);
        let source = async || {
            let function = scope.api::<Function>().get("app").await?;
            anyhow::Ok(serde_json::to_value(function.spec.source)?)
        };
        write(folder.path(), "one")?;
        std::fs::write(folder.path().join("b.py"), "")?;
        deploy()?;
        // A file that came back goes again.
        std::fs::remove_file(folder.path().join("b.py"))?;
        write(folder.path(), "two")?;
        deploy()?;
        scope.rouse(&["rollback", "app"])?.ends_with(0)?;
        assert!(source().await?["files"]["b.py"].is_string());
        deploy()?;
        assert!(source().await?["files"]["b.py"].is_null(), "its folder has none");

        // So does an archive, beside which there can be no files.
        std::fs::write(folder.path().join("picture"), [0xff; 64])?;
        deploy()?;
        assert!(source().await?["archive"].is_object());
        std::fs::remove_file(folder.path().join("picture"))?;
        write(folder.path(), "three")?;
        deploy()?;
        scope.rouse(&["rollback", "app"])?.ends_with(0)?;
        assert!(source().await?["archive"].is_object());
        deploy()?;
        assert!(source().await?["archive"].is_null());
        assert_eq!(scope.rouse(&["invoke", "app"])?.ends_with(0)?.out, "three");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn lines_come_as_they_are_printed_until_nobody_reads() {
    Scope::run("follow", async |scope| {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_str().context("a path is text")?;
        let code = "def handler(event, context):\n    print('I was called')\n    return 'yes'\n";
        std::fs::write(folder.path().join("app.py"), code)?;
        scope.rouse(&["deploy", path, "--name", "app"])?.ends_with(0)?;
        let mut program = scope.program()?;
        program.args(["logs", "app", "-f", "-n", &scope.namespace]).stdout(Stdio::piped());
        let mut following = program.spawn()?;
        let mut lines = BufReader::new(following.stdout.take().context("a pipe")?).lines();
        scope.rouse(&["invoke", "app"])?.ends_with(0)?;
        while !lines.next().context("it ended")??.contains("I was called") {}
        drop(lines);
        scope.rouse(&["invoke", "app"])?.ends_with(0)?;
        let ended = following.wait()?;
        assert!(ended.success(), "{ended}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_shell_completes_the_command_line() {
    Scope::run("completion", async |scope| {
        let mut program = scope.program()?;
        let script = Said::of(program.args(["completion", "bash"]))?.ends_with(0)?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("rouse");
        std::fs::write(&file, script.out)?;
        // As Bash does it when somebody types `rouse roll` and the key.
        let typed = "source \"$1\"; COMP_WORDS=(rouse roll); COMP_CWORD=1; _rouse rouse roll rouse; \
                     echo \"${COMPREPLY[@]}\"";
        let said = Said::of(Command::new("bash").args(["-c", typed, "-"]).arg(&file))?;
        assert_eq!(said.ends_with(0)?.out, "rollback\n");
        Ok(())
    })
    .await;
}
