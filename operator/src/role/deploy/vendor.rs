//! Gets what code depends on, by its language's own tool, into a folder beside it. What is in the
//! user's folder is not touched.

use std::path::Path;

use anyhow::{Context, anyhow};
use tokio::process::Command;

use super::args::Machine;
use super::detect::Language;
use super::folder::Tree;
use super::tool::{self, Tool};

const PIP: Tool = Tool {
    name: "pip",
    doing: "pip gets what requirements.txt names",
    missing: "install Python and pip, or get what the code depends on into the folder yourself and use \
              --no-vendor",
    advice: "a requirement without a wheel for Python 3.11 has to be built: install it into the folder \
             yourself (`pip install --target . NAME`, in the image of the runtime), take it out of \
             requirements.txt or use --no-vendor",
};
const NPM: Tool = Tool {
    name: "npm",
    doing: "npm gets what package.json names",
    missing: "install Node.js and npm, or get what the code depends on into the folder yourself and use \
              --no-vendor",
    advice: "see whether `npm install` works in the folder; dependencies that are in it already are \
             taken by --no-vendor",
};

/// Where npm reads how it gets into a registry.
const NPMRC: &str = ".npmrc";
/// What Python says where it has no pip.
const NO_PIP: &str = "No module named pip";

/// Adds to `code`, which is that in `folder`, what it says that it depends on. That lies in `to` then.
pub async fn vendor(
    (folder, code): (&Path, &mut Tree),
    language: Option<Language>,
    machine: Machine,
    to: &Path,
) -> anyhow::Result<()> {
    match language {
        Some(Language::Python) if code.has("requirements.txt") => {
            pip(folder, to, machine).await?;
            // Programs that begin with the path of this machine's Python.
            let mut tree = Tree::of(to, &["bin"])?;
            // They hold the digests of those.
            tree.0.retain(|place, _| !place.ends_with(".dist-info/RECORD"));
            code.add(tree);
        }
        Some(Language::Node) if code.has("package.json") => {
            npm(folder, code, to, machine).await?;
            let mut tree = Tree::of(to, &["package.json", "package-lock.json"])?;
            // What npm notes of where it was.
            tree.0.remove("node_modules/.package-lock.json");
            // It was got anew, and what lay there may be for this machine.
            code.0.retain(|place, _| !place.starts_with("node_modules/"));
            code.add(tree);
        }
        _ => {}
    }
    Ok(())
}

async fn pip(folder: &Path, to: &Path, machine: Machine) -> anyhow::Result<()> {
    let machine = match machine {
        Machine::Amd64 => "x86_64",
        Machine::Arm64 => "aarch64",
    };
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
    // For the runtime's Python, whatever this machine's is: nothing is compiled here.
    pip.args(["--no-compile", "--only-binary=:all:", "--implementation=cp"]);
    pip.args(["--python-version=3.11", "--abi=cp311", "--abi=abi3", "--abi=none"]);
    for tag in ["manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34"] {
        pip.arg(format!("--platform={tag}_{machine}"));
    }
    pip.arg("--target").arg(to).args(["--requirement", "requirements.txt"]);
    tool::run(pip.current_dir(folder), &PIP).await.map(drop).map_err(mend_pip)
}

/// The right advice where it is not a requirement that is wrong.
fn mend_pip(error: anyhow::Error) -> anyhow::Error {
    if !error.to_string().contains(NO_PIP) {
        return error;
    }
    anyhow!(
        "python3 has no pip: install it (`python3 -m ensurepip`, or the package python3-pip of your \
         system), or get what the code depends on into the folder yourself and use --no-vendor"
    )
}

async fn npm(folder: &Path, code: &Tree, to: &Path, machine: Machine) -> anyhow::Result<()> {
    let locked = code.has("package-lock.json");
    let files = ["package.json", "package-lock.json"];
    // What lets one into a private registry is no code, and stays here.
    let own = folder.join(NPMRC).is_file().then_some(NPMRC);
    for file in files.into_iter().filter(|file| code.has(file)).chain(own) {
        std::fs::copy(folder.join(file), to.join(file))
            .with_context(|| format!("copying {file}"))?;
    }
    let cpu = match machine {
        Machine::Amd64 => "x64",
        Machine::Arm64 => "arm64",
    };
    let doing = if locked {
        "npm gets what package-lock.json names"
    } else {
        "npm gets what package.json names"
    };
    let mut npm = Command::new("npm");
    npm.arg(if locked { "ci" } else { "install" });
    npm.args(["--omit=dev", "--no-audit", "--no-fund", "--loglevel=error", "--os=linux"]);
    npm.arg(format!("--cpu={cpu}"));
    tool::run(npm.current_dir(to), &Tool { doing, ..NPM }).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_no_dependencies_needs_no_tool() {
        let folder = tempfile::tempdir().unwrap();
        let to = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("node_modules")).unwrap();
        std::fs::write(folder.path().join("node_modules/own.js"), "").unwrap();
        for language in [Language::Python, Language::Node] {
            let mut code = Tree::of(folder.path(), &[]).unwrap();
            let own = (folder.path(), &mut code);
            vendor(own, Some(language), Machine::Amd64, to.path()).await.unwrap();
            // Nothing says that it can be got anew.
            assert!(code.has("node_modules/own.js") && code.0.len() == 1);
        }
    }

    #[test]
    fn a_python_without_pip_is_told_as_such() {
        let none = anyhow!("pip failed (exit status: 1):\n  /usr/bin/python3: {NO_PIP}\nadvice");
        assert!(mend_pip(none).to_string().contains("ensurepip"));
        assert_eq!(mend_pip(anyhow!("no wheel")).to_string(), "no wheel");
    }
}
