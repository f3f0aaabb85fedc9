//! Builds code of languages that run compiled, by the language's own tool as its user would. What is
//! deployed is the program and what lies beside the sources.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::args::Machine;
use super::folder::{Entry, Tree};
use super::tool::{self, Tool};
use crate::progress::say;

/// The program as the runtime `provided` starts it.
pub const PROGRAM: &str = "bootstrap";
/// Where Cargo builds, in the user's folder.
pub const CARGO_TARGET: &str = "target";

const GO: Tool = Tool {
    name: "go",
    doing: "go builds the program",
    missing: "install Go (https://go.dev/dl), or deploy a folder with the program `bootstrap` in it",
    advice: "see whether `go build .` works in the folder",
};
const CARGO: Tool = Tool {
    name: "cargo",
    doing: "cargo builds the program",
    missing: "install Rust (https://rustup.rs), or deploy a folder with the program `bootstrap` in it",
    advice: "see whether `cargo build --release` works in the folder",
};
const RUSTC: Tool = Tool { name: "rustc", doing: "rustc is asked what it builds for", ..CARGO };

/// What builds code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// Go's.
    Go,
    /// Rust's.
    Cargo,
}

impl Compiler {
    /// What builds the code in `tree`; none where it is built already, or needs not be.
    pub fn of(tree: &Tree) -> Option<Self> {
        if tree.has(PROGRAM) { None } else { Self::of_sources(tree) }
    }

    /// What would build the sources in `tree`, if there are any.
    fn of_sources(tree: &Tree) -> Option<Self> {
        let all = [("go.mod", Self::Go), ("Cargo.toml", Self::Cargo)];
        all.into_iter().find(|(file, _)| tree.has(file)).map(|(_, compiler)| compiler)
    }

    /// What to do where nobody builds it but the user.
    #[cfg(feature = "dev")]
    pub const fn by_hand(self) -> &'static str {
        match self {
            Self::Go => {
                "the code is Go, which runs compiled: build it by `CGO_ENABLED=0 go build -o bootstrap .` \
                 in the folder"
            }
            Self::Cargo => {
                "the code is Rust, which runs compiled: build it by `cargo build --release` and put the \
                 program into the folder as `bootstrap`"
            }
        }
    }

    /// What is said where the program is there beside its sources.
    pub const fn left(self) -> &'static str {
        match self {
            Self::Go => {
                "bootstrap is deployed as it is, and what go.mod belongs to is not built: delete \
                 bootstrap, and `rouse deploy` builds it anew"
            }
            Self::Cargo => {
                "bootstrap is deployed as it is, and what Cargo.toml belongs to is not built: delete \
                 bootstrap, and `rouse deploy` builds it anew"
            }
        }
    }

    /// Whether a file is what the program is built of.
    fn is_source(self, place: &str) -> bool {
        let (folders, files, ending): (&[&str], &[&str], &str) = match self {
            Self::Go => (&["vendor/"], &["go.mod", "go.sum", "go.work", "go.work.sum"], ".go"),
            Self::Cargo => (&["src/", "target/", ".cargo/"], &["Cargo.toml", "Cargo.lock"], ".rs"),
        };
        folders.iter().any(|folder| place.starts_with(folder))
            || files.contains(&place)
            || place.ends_with(ending)
            || place == ".gitignore"
    }
}

/// Leaves the sources of a program out that is built already; says what they are built by, if there are
/// any.
pub fn leave_sources(code: &mut Tree) -> Option<Compiler> {
    let compiler = Compiler::of_sources(code).filter(|_| code.has(PROGRAM))?;
    code.0.retain(|place, _| !compiler.is_source(place));
    Some(compiler)
}

/// Builds the program of `code`, which is that in `folder`, and puts it in the place of its sources.
/// What only this needs lies in `to` then.
pub async fn build(
    (folder, code): (&Path, &mut Tree),
    compiler: Compiler,
    machine: Machine,
    to: &Path,
) -> anyhow::Result<()> {
    let program = match compiler {
        Compiler::Go => go(folder, machine, to).await?,
        Compiler::Cargo => cargo(folder, machine).await?,
    };
    let about = program.metadata();
    let about = about.with_context(|| format!("looking at {}", program.display()))?;
    code.0.retain(|place, _| !compiler.is_source(place));
    let entry = Entry::File { path: program, bytes: about.len(), runs: true };
    code.0.insert(PROGRAM.to_owned(), entry);
    Ok(())
}

async fn go(folder: &Path, machine: Machine, to: &Path) -> anyhow::Result<PathBuf> {
    let program = to.join(PROGRAM);
    let architecture = match machine {
        Machine::Amd64 => "amd64",
        Machine::Arm64 => "arm64",
    };
    let mut go = Command::new("go");
    go.current_dir(folder).args([
        "build",
        "-trimpath",
        "-ldflags=-s -w",
        "-tags=lambda.norpc",
        "-o",
    ]);
    // Needs no library of the image.
    go.env("CGO_ENABLED", "0").env("GOOS", "linux").env("GOARCH", architecture);
    tool::run(go.arg(&program).arg("."), &GO).await?;
    Ok(program)
}

async fn cargo(folder: &Path, machine: Machine) -> anyhow::Result<PathBuf> {
    let target = target(folder, machine).await?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(folder).args([
        "build",
        "--release",
        "--message-format=json-render-diagnostics",
    ]);
    cargo.args(target.map(|target| format!("--target={target}")));
    let said = tool::run(&mut cargo, &CARGO).await?;
    let said = String::from_utf8_lossy(&said);
    program(&said).map(PathBuf::from)
}

/// What Cargo is to build for: a program that needs no library where that can be had, else one for the
/// like of this machine, which is none.
async fn target(folder: &Path, machine: Machine) -> anyhow::Result<Option<String>> {
    let (rust, own) = match machine {
        Machine::Amd64 => ("x86_64", "x86_64"),
        Machine::Arm64 => ("aarch64", "aarch64"),
    };
    let musl = format!("{rust}-unknown-linux-musl");
    let mut rustc = Command::new("rustc");
    // The folder may choose a toolchain of its own.
    rustc.current_dir(folder).args(["--print=target-libdir", &format!("--target={musl}")]);
    let libraries = tool::run(&mut rustc, &RUSTC).await?;
    if Path::new(String::from_utf8_lossy(&libraries).trim()).is_dir() {
        return Ok(Some(musl));
    }
    ensure!(
        std::env::consts::ARCH == own && std::env::consts::OS == "linux",
        "this machine can't build for {rust} as it is: `rustup target add {musl}` mends that"
    );
    say(&format!(
        "it is built for the C library of this machine, which must not be newer than the runtime's: \
         `rustup target add {musl}` makes it need none"
    ));
    Ok(None)
}

/// Where the program is, by what Cargo tells line by line.
fn program(said: &str) -> anyhow::Result<String> {
    let told = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let programs: Vec<(String, String)> = told
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter_map(|message| {
            let name = message.pointer("/target/name")?.as_str()?.to_owned();
            Some((name, message["executable"].as_str()?.to_owned()))
        })
        .collect();
    let bootstrap = programs.iter().find(|(name, _)| name == PROGRAM);
    match (bootstrap, programs.as_slice()) {
        (Some((_, path)), _) | (None, [(_, path)]) => Ok(path.clone()),
        (None, []) => bail!("cargo built no program: the package needs a src/main.rs"),
        (None, many) => {
            let names: Vec<&str> = many.iter().map(|(name, _)| name.as_str()).collect();
            bail!(
                "cargo built several programs ({}): name the one to deploy `{PROGRAM}` ([[bin]] in \
                 Cargo.toml)",
                names.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tree(files: &[&str]) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        for place in files {
            let path = folder.path().join(place);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let tree = Tree::of(folder.path(), &[]).unwrap();
        (folder, tree)
    }

    #[test]
    fn what_is_built_already_needs_no_compiler() {
        let of = |files: &[&str]| Compiler::of(&tree(files).1);
        assert_eq!(of(&["go.mod", "main.go"]), Some(Compiler::Go));
        assert_eq!(of(&["Cargo.toml"]), Some(Compiler::Cargo));
        assert_eq!(of(&["go.mod", "bootstrap"]), None);
        assert_eq!(of(&["app.py"]), None);
    }

    #[test]
    fn a_program_that_is_there_goes_without_its_sources() {
        let (_folder, mut code) = tree(&["go.mod", "main.go", "bootstrap", "page.html"]);
        assert_eq!(leave_sources(&mut code), Some(Compiler::Go));
        assert_eq!(code.top().collect::<Vec<_>>(), ["bootstrap", "page.html"]);
        let (_folder, mut code) = tree(&["go.mod", "main.go"]);
        assert_eq!(leave_sources(&mut code), None);
        assert!(code.has("main.go"), "it is built of it");
    }

    #[test]
    fn sources_stay_behind_and_what_lies_beside_them_goes_along() {
        let go = ["main.go", "lib/x.go", "go.sum", "vendor/a/b.txt"];
        assert!(go.iter().all(|place| Compiler::Go.is_source(place)));
        let cargo = ["src/main.rs", "Cargo.lock", "target/release/x", "build.rs", ".gitignore"];
        assert!(cargo.iter().all(|place| Compiler::Cargo.is_source(place)));
        for kept in ["host.json", "hello/function.json", "pages/src/index.html"] {
            assert!(!Compiler::Go.is_source(kept) && !Compiler::Cargo.is_source(kept), "{kept}");
        }
    }

    #[test]
    fn the_program_is_the_only_one_or_that_of_the_right_name() {
        let artifact = |name: &str, path: Value| {
            json!({"reason": "compiler-artifact", "target": {"name": name}, "executable": path})
                .to_string()
        };
        let library = artifact("axum", Value::Null);
        let [one, other] = ["one", "bootstrap"].map(|name| artifact(name, json!(name)));
        assert_eq!(program(&format!("{library}\n{one}\n")).unwrap(), "one");
        assert_eq!(program(&format!("{one}\n{other}\n")).unwrap(), "bootstrap");
        assert!(program(&library).unwrap_err().to_string().contains("src/main.rs"));
        let two = [one, artifact("two", json!("two"))].join("\n");
        assert!(program(&two).unwrap_err().to_string().contains("one, two"));
    }
}
