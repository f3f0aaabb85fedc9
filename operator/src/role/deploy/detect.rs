//! What a folder of code is: its runtime, its contract, and what in it is called. Reads files, and
//! guesses nothing that the user said.

use std::path::Path;

use anyhow::{Context, bail};
use regex::Regex;

use super::args::{CodeArgs, Contract, Signature};
use super::build::{Compiler, PROGRAM};
use super::folder::Tree;

/// What is known of the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Key of the runtime.
    pub runtime: String,
    /// What it speaks.
    pub contract: Contract,
    /// What is called.
    pub handler: Option<String>,
    /// What it takes, of a functions framework.
    pub signature: Signature,
}

/// A language, by the files that tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Python.
    Python,
    /// JavaScript.
    Node,
    /// A program that is brought along.
    Provided,
    /// Bash.
    Shell,
    /// Java.
    Java,
}

impl Language {
    /// That of a runtime that Rouse has; another one has its own.
    pub fn of_runtime(runtime: &str) -> Option<Self> {
        [
            ("python", Self::Python),
            ("node", Self::Node),
            ("provided", Self::Provided),
            ("shell", Self::Shell),
            ("java", Self::Java),
        ]
        .into_iter()
        .find(|(start, _)| runtime.starts_with(start))
        .map(|(_, language)| language)
    }

    const fn runtime(self) -> &'static str {
        match self {
            Self::Python => "python3.11",
            Self::Node => "node18",
            Self::Provided => "provided",
            Self::Shell => "shell",
            Self::Java => "java17",
        }
    }
}

/// A handler that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Handler {
    contract: Contract,
    name: Option<String>,
    signature: Signature,
}

impl Handler {
    fn new(contract: Contract, name: impl Into<String>) -> Self {
        Self { contract, name: Some(name.into()), signature: Signature::Http }
    }
}

/// What `tree` is, where `given` does not say.
pub fn detect(tree: &Tree, given: &CodeArgs) -> anyhow::Result<Found> {
    if given.contract.is_none() && runs_in_its_host(tree) {
        return Err(rouse_azure::Unfit::Handler.into());
    }
    let runtime = match &given.runtime {
        Some(runtime) => runtime.clone(),
        None => language(tree)?.runtime().to_owned(),
    };
    let fits =
        |handler: &Handler| given.contract.is_none_or(|contract| contract == handler.contract);
    let handlers = Language::of_runtime(&runtime).map(|it| handlers(tree, it)).unwrap_or_default();
    let found = handlers.into_iter().find(fits);
    let contract = given.contract.or(found.as_ref().map(|found| found.contract));
    let contract = contract.with_context(|| {
        format!(
            "what the code in the folder speaks can't be told: no handler was found that the runtime \
             {runtime} looks for. Say it by --contract (Http, Lambda, FunctionsFramework, \
             CloudEvents, Azure), and what is called by --handler"
        )
    })?;
    let signature = given.signature.or(found.as_ref().map(|found| found.signature));
    let handler = given.handler.clone().or(found.and_then(|found| found.name));
    Ok(Found { runtime, contract, handler, signature: signature.unwrap_or(Signature::Http) })
}

/// The language by the files that no other has, then by endings.
fn language(tree: &Tree) -> anyhow::Result<Language> {
    if tree.has("bootstrap") {
        return Ok(Language::Provided);
    }
    if let Some(program) = custom_handler(tree) {
        return Ok(match program.rsplit('/').next() {
            Some("node") => Language::Node,
            Some("python" | "python3") => Language::Python,
            Some("bash" | "sh") => Language::Shell,
            Some("java") => Language::Java,
            _ => Language::Provided,
        });
    }
    let told = [
        ("requirements.txt", Language::Python),
        ("pyproject.toml", Language::Python),
        ("package.json", Language::Node),
    ];
    let told = told.into_iter().filter(|(file, _)| tree.has(file)).map(|(_, language)| language);
    let told: Vec<Language> = told.collect();
    if told.is_empty() && Compiler::of(tree).is_some() {
        return Ok(Language::Provided);
    }
    let by_ending = |file: &str| match file.rsplit_once('.')?.1 {
        "py" => Some(Language::Python),
        "js" | "mjs" | "cjs" => Some(Language::Node),
        "sh" => Some(Language::Shell),
        "jar" => Some(Language::Java),
        _ => None,
    };
    for mut languages in [told, tree.top().filter_map(by_ending).collect()] {
        languages.dedup();
        match languages.as_slice() {
            [] => {}
            [only] => return Ok(*only),
            [one, other, ..] => bail!(
                "the folder has files of {} and of {}: choose by --runtime",
                one.runtime(),
                other.runtime()
            ),
        }
    }
    bail!(unbuilt(tree))
}

/// What is said of a folder of no language.
fn unbuilt(tree: &Tree) -> &'static str {
    if tree.has("pom.xml") || tree.has("build.gradle") || tree.has("build.gradle.kts") {
        "the folder has Java in it, which runs compiled: deploy a folder with its classes, and in \
         `lib` the jars that it needs, by --runtime java17 --handler package.Type::method"
    } else {
        "what runs the code in the folder can't be told by its files: choose by --runtime \
         (python3.11, node18, provided, shell, java17)"
    }
}

/// The program of a custom handler of Azure Functions.
fn custom_handler(tree: &Tree) -> Option<String> {
    let host: serde_json::Value = serde_json::from_str(&tree.text("host.json")?).ok()?;
    let program = host.pointer("/customHandler/description/defaultExecutablePath")?;
    program.as_str().map(ToOwned::to_owned)
}

/// Whether it is an app of Azure Functions whose functions run in the host itself.
fn runs_in_its_host(tree: &Tree) -> bool {
    let mut files = tree.0.keys();
    let is_function = |file: &String| file.ends_with("/function.json") || file == "function_app.py";
    tree.has("host.json") && custom_handler(tree).is_none() && files.any(is_function)
}

/// What can be called in the code, the likeliest first.
fn handlers(tree: &Tree, language: Language) -> Vec<Handler> {
    if custom_handler(tree).is_some() {
        let azure = Handler { contract: Contract::Azure, name: None, signature: Signature::Http };
        return vec![azure];
    }
    match language {
        Language::Python => python(tree),
        Language::Node => node(tree),
        Language::Provided => match Compiler::of(tree) {
            Some(compiler) => vec![compiled(tree, compiler)],
            None => {
                vec![Handler::new(Contract::Lambda, PROGRAM), Handler::new(Contract::Http, PROGRAM)]
            }
        },
        Language::Shell => {
            let pattern = r"(?m)^(?:function\s+)?(handler)\s*\(\)";
            exported(tree, &["handler", "function", "main"], &["sh"], pattern)
        }
        Language::Java => Vec::new(),
    }
}

/// What a program speaks that is to be built, by what it depends on.
fn compiled(tree: &Tree, compiler: Compiler) -> Handler {
    let text = |place: &str| tree.text(place).unwrap_or_default();
    let (depends, lambda) = match compiler {
        Compiler::Go => (text("go.mod"), &["github.com/aws/aws-lambda-go"][..]),
        Compiler::Cargo => (text("Cargo.toml"), &["lambda_runtime", "lambda_http"][..]),
    };
    if lambda.iter().any(|client| depends.contains(client)) {
        return Handler::new(Contract::Lambda, PROGRAM);
    }
    if depends.contains("functions-framework-go") {
        let registered = r#"functions\.(HTTP|CloudEvent)\(\s*"([\w-]+)""#;
        let mut sources =
            tree.top().filter(|place| Path::new(place).extension() == Some("go".as_ref()));
        if let Some(found) = sources.find_map(|place| framework(registered, &text(place))) {
            return found;
        }
    }
    Handler::new(Contract::Http, PROGRAM)
}

fn python(tree: &Tree) -> Vec<Handler> {
    let main = tree.text("main.py").unwrap_or_default();
    let decorated =
        r"(?m)^@functions_framework\.(http|cloud_event)\b.*\n(?:@.*\n)*(?:async )?def (\w+)";
    let mut all = Vec::from_iter(framework(decorated, &main));
    let first = ["lambda_function", "app", "main", "handler", "index"];
    let defined = r"(?m)^(?:async )?def (lambda_handler|handler)\s*\(";
    all.extend(exported(tree, &first, &["py"], defined));
    all.extend(programs(tree, &["main.py", "app.py", "server.py"]));
    all
}

fn node(tree: &Tree) -> Vec<Handler> {
    let package: serde_json::Value = tree
        .text("package.json")
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let main = package.get("main").and_then(serde_json::Value::as_str).unwrap_or("index.js");
    let main = main.trim_start_matches("./");
    let mut all = Vec::new();
    let text = tree.text(main).unwrap_or_default();
    let registered = r#"\.(http|cloudEvent)\(\s*['"`]([\w-]+)['"`]"#;
    if text.contains("@google-cloud/functions-framework") {
        all.extend(framework(registered, &text));
    }
    let stem = main.rsplit_once('.').map_or(main, |(stem, _)| stem);
    let first = [stem, "index", "app", "main", "handler", "lambda"];
    let handler =
        r"(?m)\bexports\.(handler)\s*=|^export\s+(?:const|(?:async\s+)?function)\s+(handler)\b";
    all.extend(exported(tree, &first, &["js", "mjs", "cjs"], handler));
    all.extend(programs(tree, &[main, "server.js", "index.js", "app.js", "main.js"]));
    all
}

/// The handlers of Lambda `FILE.FUNCTION` in files in no folder, the function being what `pattern`
/// captures: first those of the names in `first`.
fn exported(tree: &Tree, first: &[&str], endings: &[&str], pattern: &str) -> Vec<Handler> {
    let mut files: Vec<(usize, &str, &str)> = tree
        .top()
        .filter_map(|file| {
            let (stem, ending) = file.rsplit_once('.')?;
            let rank = first.iter().position(|name| *name == stem).unwrap_or(first.len());
            endings.contains(&ending).then_some((rank, stem, file))
        })
        .collect();
    files.sort_unstable();
    let handler = |(_, stem, file): (usize, &str, &str)| {
        let function = captured(pattern, &tree.text(file)?)?;
        Some(Handler::new(Contract::Lambda, format!("{stem}.{function}")))
    };
    files.into_iter().filter_map(handler).collect()
}

/// Files that are run and listen themselves.
fn programs(tree: &Tree, names: &[&str]) -> Vec<Handler> {
    let there = names.iter().filter(|name| tree.has(name));
    there.map(|name| Handler::new(Contract::Http, *name)).collect()
}

fn captured(pattern: &str, text: &str) -> Option<String> {
    let captures = Regex::new(pattern).ok()?.captures(text)?;
    captures.iter().skip(1).flatten().next().map(|found| found.as_str().to_owned())
}

/// A function of a functions framework: `pattern` captures what it takes, and its name.
fn framework(pattern: &str, text: &str) -> Option<Handler> {
    let captures = Regex::new(pattern).ok()?.captures(text)?;
    let is_http = captures.get(1)?.as_str().eq_ignore_ascii_case("http");
    let signature = if is_http { Signature::Http } else { Signature::CloudEvent };
    let name = captures.get(2)?.as_str();
    Some(Handler { signature, ..Handler::new(Contract::FunctionsFramework, name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)], given: &CodeArgs) -> anyhow::Result<Found> {
        let folder = tempfile::tempdir().unwrap();
        for (place, text) in files {
            std::fs::write(folder.path().join(place), text).unwrap();
        }
        detect(&Tree::of(folder.path(), &[]).unwrap(), given)
    }

    fn given() -> CodeArgs {
        CodeArgs {
            runtime: None,
            handler: None,
            contract: None,
            signature: None,
            arch: super::super::args::Machine::Amd64,
            no_vendor: false,
        }
    }

    fn told(files: &[(&str, &str)]) -> (String, &'static str, String, &'static str) {
        let Found { runtime, contract, handler, signature } = found(files, &given()).unwrap();
        (runtime, contract.as_str(), handler.unwrap_or_default(), signature.as_str())
    }

    /// Whether a folder is taken for `RUNTIME CONTRACT HANDLER SIGNATURE`.
    fn is_taken_for(files: &[(&str, &str)], expected: &str) {
        let (runtime, contract, handler, signature) = told(files);
        assert_eq!(format!("{runtime} {contract} {handler} {signature}"), expected, "{files:?}");
    }

    #[test]
    fn handlers_in_python_are_found() {
        let app = [("app.py", "import x\n\ndef handler(event, context):\n"), ("words.py", "")];
        is_taken_for(&app, "python3.11 Lambda app.handler Http");
        let usual = ("lambda_function.py", "def lambda_handler(e, c):");
        let first = [("a.py", "def handler(e, c):"), usual];
        is_taken_for(&first, "python3.11 Lambda lambda_function.lambda_handler Http");
        let event = [("main.py", "@functions_framework.cloud_event\ndef take(event):\n")];
        is_taken_for(&event, "python3.11 FunctionsFramework take CloudEvent");
        let server = [("requirements.txt", ""), ("server.py", "")];
        is_taken_for(&server, "python3.11 Http server.py Http");
    }

    #[test]
    fn handlers_in_javascript_are_found() {
        let package = ("package.json", r#"{"main": "./app.mjs"}"#);
        let app = [package, ("app.mjs", "export const handler =")];
        is_taken_for(&app, "node18 Lambda app.handler Http");
        let text =
            "const f = require('@google-cloud/functions-framework');\nf.http('hello', (q) =>";
        is_taken_for(&[("index.js", text)], "node18 FunctionsFramework hello Http");
        is_taken_for(&[("server.js", "")], "node18 Http server.js Http");
    }

    #[test]
    fn programs_and_custom_handlers_are_found() {
        is_taken_for(&[("bootstrap", ""), ("x.py", "")], "provided Lambda bootstrap Http");
        is_taken_for(&[("hello.sh", "handler() {")], "shell Lambda hello.handler Http");
        let go = ("go.mod", "require github.com/aws/aws-lambda-go v1.55.1");
        is_taken_for(&[go, ("main.go", "")], "provided Lambda bootstrap Http");
        let framework =
            ("go.mod", "require github.com/GoogleCloudPlatform/functions-framework-go v1");
        let main = ("main.go", "\tfunctions.HTTP(\"hello\", hello)");
        is_taken_for(&[framework, main], "provided FunctionsFramework hello Http");
        is_taken_for(&[("Cargo.toml", "")], "provided Http bootstrap Http");
        let extension = [("Cargo.toml", ""), ("pyproject.toml", ""), ("main.py", "")];
        is_taken_for(&extension, "python3.11 Http main.py Http");
        let host = r#"{"customHandler": {"description": {"defaultExecutablePath": "node"}}}"#;
        is_taken_for(&[("host.json", host)], "node18 Azure  Http");
    }

    #[test]
    fn what_the_user_says_is_not_guessed() {
        let files = [("app.py", "def handler(event, context):\n")];
        let runtime = CodeArgs { runtime: Some("cobol".into()), ..given() };
        let error = found(&files, &runtime).unwrap_err().to_string();
        assert!(error.contains("--contract"), "{error}");
        let all = CodeArgs { contract: Some(Contract::Http), handler: Some("x".into()), ..runtime };
        let found = found(&files, &all).unwrap();
        assert_eq!((&*found.runtime, found.handler.as_deref()), ("cobol", Some("x")));
    }

    #[test]
    fn what_can_t_be_told_is_asked_for() {
        for (files, said) in [
            (&[("app.py", ""), ("index.js", "")][..], "python3.11 and of node18"),
            (&[("README.md", "")], "--runtime"),
            (&[("x.jar", "")], "--handler"),
            (&[("host.json", "{}"), ("function_app.py", "")], "custom handlers can"),
        ] {
            let error = found(files, &given()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
