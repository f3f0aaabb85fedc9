//! Everything that `rouse init` begins with is deployed as it is, called, and answers.

use anyhow::{Context, ensure};
use rouse_e2e::scope::Scope;
use serde_json::json;

use crate::flow::Objects;

/// Where Cargo builds those in Rust: once what they have in common.
const TARGET: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/templates");

/// What a template of that contract is called with, and what comes of it.
fn call(scope: &Scope, name: &str, contract: &str, hello: &str) -> anyhow::Result<()> {
    let invoke = |more: &[&str]| {
        let said = scope.rouse(&[&["invoke", name], more].concat())?.ends_with(0)?;
        anyhow::Ok(said.out)
    };
    if contract == "cloudevents" {
        let said = invoke(&["--event-type", "shop.ordered", "--data", r#"{"total": 7}"#])?;
        ensure!(said.starts_with("took ") && said.len() > "took \n".len(), "{said:?}");
        return Ok(());
    }
    let path = if contract == "azure" { "/api/hello" } else { "/" };
    let said = invoke(&[path])?;
    ensure!(said == hello, "{said:?} instead of {hello:?}");
    if contract == "lambda" {
        let event = json!({"key": "value", "number": 7});
        let said = invoke(&["--lambda", "--data", &event.to_string()])?;
        let answer: serde_json::Value = serde_json::from_str(&said).context(said)?;
        ensure!(answer == event, "{answer}");
    } else {
        let said = invoke(&[path, "--data", "a text"])?;
        ensure!(said == "a text", "{said:?}");
    }
    Ok(())
}

async fn begin(language: &'static str, contract: &'static str, hello: &'static str) {
    // Their names tell programs apart that Cargo builds side by side.
    let name = format!("{language}-{contract}");
    Scope::run(&name, async |scope| {
        let above = tempfile::tempdir()?;
        let folder = above.path().join(&name);
        let folder = folder.to_str().context("a path is text")?;
        let mut init = scope.program()?;
        init.args(["init", folder, "--language", language, "--contract", contract]);
        ensure!(init.status()?.success(), "rouse init");
        if language == "go" {
            // Its programs are larger than an object may be.
            let (endpoint, keys) = Objects::start(&scope).await?.publish().await?;
            let bucket = ["--bucket", "s3://pictures/code", "--endpoint", &endpoint];
            scope.deploy(&name, folder, &bucket, &keys)?;
        } else {
            scope.deploy(&name, folder, &[], &[("CARGO_TARGET_DIR", TARGET)])?;
        }
        call(&scope, &name, contract, hello)
    })
    .await;
}

macro_rules! templates {
    ($($name:ident: $language:literal $contract:literal $hello:literal;)*) => {$(
        #[tokio::test]
        #[ignore = "needs a cluster: cargo xtask test"]
        async fn $name() {
            begin($language, $contract, $hello).await;
        }
    )*};
}

templates! {
    begun_in_python_for_http: "python" "http" "Hello from Python\n";
    begun_in_python_for_lambda: "python" "lambda" "Hello from Python\n";
    begun_in_python_for_functions_framework: "python" "functions-framework" "Hello from Python\n";
    begun_in_python_for_cloudevents: "python" "cloudevents" "";
    begun_in_python_for_azure: "python" "azure" "Hello from Python\n";
    begun_in_node_for_http: "node" "http" "Hello from Node.js\n";
    begun_in_node_for_lambda: "node" "lambda" "Hello from Node.js\n";
    begun_in_node_for_functions_framework: "node" "functions-framework" "Hello from Node.js\n";
    begun_in_node_for_cloudevents: "node" "cloudevents" "";
    begun_in_node_for_azure: "node" "azure" "Hello from Node.js\n";
    begun_in_bash_for_lambda: "bash" "lambda" "Hello from Bash\n";
    begun_in_go_for_http: "go" "http" "Hello from Go\n";
    begun_in_go_for_lambda: "go" "lambda" "Hello from Go\n";
    begun_in_go_for_functions_framework: "go" "functions-framework" "Hello from Go\n";
    begun_in_go_for_cloudevents: "go" "cloudevents" "";
    begun_in_go_for_azure: "go" "azure" "Hello from Go\n";
    begun_in_rust_for_http: "rust" "http" "Hello from Rust\n";
    begun_in_rust_for_lambda: "rust" "lambda" "Hello from Rust\n";
    begun_in_rust_for_cloudevents: "rust" "cloudevents" "";
    begun_in_rust_for_azure: "rust" "azure" "Hello from Rust\n";
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn every_template_is_tested() {
    Scope::run("templates", async |scope| {
        let mut list = scope.program()?;
        let listed = list.args(["init", "--list", "-o", "name"]).output()?;
        let listed = String::from_utf8(listed.stdout)?;
        let this = include_str!("templates.rs");
        for template in listed.lines() {
            let (language, contract) = template.split_once('-').context("a template")?;
            let tested = format!("\"{language}\" \"{contract}\"");
            ensure!(this.contains(&tested), "{template} is not tested here");
        }
        ensure!(listed.lines().count() >= 20, "{listed}");
        Ok(())
    })
    .await;
}
