//! Handlers that run compiled, built by their languages' own tools and deployed as their users would:
//! what those in other languages do (`handlers`), these do too.

use anyhow::Context;
use rouse_e2e::scope::Scope;

use crate::flow::Objects;
use crate::handlers::Code;

/// A handler that was built.
struct Built {
    /// Its language, by whose name `cargo xtask test` tells where it is.
    language: &'static str,
    folder: &'static str,
    /// What can't be told by looking at it.
    more: Vec<&'static str>,
    /// Whether it is too large to stand in its Function.
    is_large: bool,
}

impl Built {
    /// A program, which has in it all that it needs.
    fn program(language: &'static str, folder: &'static str) -> Self {
        Self { language, folder, more: Vec::new(), is_large: true }
    }

    fn java(folder: &'static str, handler: &'static str) -> Self {
        let more = ["--runtime", "java17", "--contract", "Lambda", "--handler", handler];
        Self { language: "JAVA", folder, more: more.to_vec(), is_large: false }
    }

    /// Runs `test` in a namespace with the code, for which there is a bucket if it takes one.
    async fn run(self, test: impl AsyncFnOnce(&Scope, Code<'_>) -> anyhow::Result<()>) {
        Scope::run(&self.folder.replace('/', "-"), async |scope| {
            let variable = format!("ROUSE_E2E_HANDLERS_{}", self.language);
            let built = std::env::var(&variable)
                .with_context(|| format!("{variable}: `cargo xtask test` sets it"))?;
            let folder = format!("{built}/{}/out", self.folder);
            let mut code = Code { folder, more: self.more, variables: Vec::new() };
            if !self.is_large {
                return test(&scope, code).await;
            }
            let (endpoint, keys) = Objects::start(&scope).await?.publish().await?;
            code.more.extend(["--bucket", "s3://pictures/code", "--endpoint", &endpoint]);
            code.variables.extend(keys);
            test(&scope, code).await
        })
        .await;
    }
}

macro_rules! hellos {
    ($($name:ident: $built:expr, $said:literal;)*) => {$(
        #[tokio::test]
        #[ignore = "needs a cluster: cargo xtask test"]
        async fn $name() {
            $built.run(async |scope, code| code.says(scope, "/", $said).await).await;
        }
    )*};
}

hellos! {
    hello_of_lambda_in_go: Built::program("GO", "hello/lambda-go"), "hello from Go";
    hello_of_functions_in_go: functions_in_go(), "hello from Go";
    hello_of_lambda_in_rust: Built::program("RUST", "hello/lambda-rust"), "hello from Rust";
    hello_of_lambda_in_java:
        Built::java("hello/lambda-java", "hello.Hello::handleRequest"), "hello from Java";
}

/// In Go the framework is compiled in, so a program does not show it.
fn functions_in_go() -> Built {
    let more = vec!["--contract", "FunctionsFramework", "--handler", "hello"];
    Built { more, ..Built::program("GO", "hello/functions-go") }
}

macro_rules! labels {
    ($($name:ident: $built:expr;)*) => {$(
        #[tokio::test]
        #[ignore = "needs a cluster: cargo xtask test"]
        async fn $name() {
            $built.run(async |scope, code| code.draws_labels(scope).await).await;
        }
    )*};
}

labels! {
    labels_of_lambda_in_go: Built::program("GO", "labels/lambda-go");
    labels_of_lambda_in_rust: Built::program("RUST", "labels/lambda-rust");
    labels_of_lambda_in_java:
        Built { is_large: true, ..Built::java("labels/lambda-java", "shop.Draw::handleRequest") };
}
