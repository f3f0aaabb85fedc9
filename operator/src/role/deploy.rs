//! `rouse deploy`: a folder of code becomes a Function. What is in the folder is read and never
//! changed.

pub mod args;
mod azure;
mod build;
mod detect;
mod folder;
mod pack;
mod secrets;
mod submit;
mod tool;
mod upload;
mod vendor;

use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use rouse_core::function::code::Code;
use rouse_crds::v1alpha1::MOST_INLINE;
use serde_json::{Map, Value, json};

use self::args::{CodeArgs, DeployArgs};
use self::build::Compiler;
use self::detect::{Found, Language};
use self::folder::Tree;
use self::upload::Store;
use super::init;
use super::settle::{self, Settled};
use crate::cluster::Cluster;
use crate::output::{self, Form};
use crate::progress::say;

pub use self::folder::MANIFEST;
#[cfg(feature = "dev")]
pub use self::folder::{IGNORED, PACKAGES};
pub use self::submit::MANAGER;

/// Deploys what is in a folder, and tells on standard output where it is called.
pub async fn run(args: &DeployArgs) -> anyhow::Result<()> {
    let manifest = Manifest::of(&args.folder)?;
    let name = manifest.name(args.name.as_deref(), &args.folder)?;
    init::check(&name)?;
    let mut code = Tree::of(&args.folder, left_out(&args.folder))?;
    let found = detect::detect(&code, &manifest.given(&args.code)?)?;
    let handler = found.handler.as_deref().unwrap_or("what the runtime calls");
    say(&format!("{}, contract {}, {handler}", found.runtime, found.contract.as_str()));
    // Before much is got and built that no cluster is there for.
    let place = if args.dry_run { None } else { Some(look(args, &manifest, &name).await?) };
    let secrets = secrets::of(&code);
    secrets::tell(&secrets);
    // What is got lies here until it is packed.
    let got = tempfile::tempdir().context("making a folder for dependencies")?;
    complete(args, &found, &mut code, got.path()).await?;
    code.check()?;
    let source = source(args, &found, &code, &secrets).await?;
    let mut function = manifest.with_source(&source)?;
    function["metadata"]["name"] = json!(name);
    let triggers = match found.contract {
        args::Contract::Azure => {
            let plan = azure::plan(&code, &function, &name)?;
            plan.said.iter().for_each(|line| say(line));
            Some(plan.triggers)
        }
        _ => None,
    };
    if let Some(place) = place {
        return submit((args, place), &name, function, triggers).await;
    }
    let all: Vec<&Value> = [&function].into_iter().chain(triggers.iter().flatten()).collect();
    output::print(&show(&all, args.output)?)
}

/// Where it shall run, and whether the Function is there already.
async fn look(
    args: &DeployArgs,
    manifest: &Manifest,
    name: &str,
) -> anyhow::Result<(Cluster, bool)> {
    let mut cluster = Cluster::of(&args.cluster).await?;
    let written = manifest.0.pointer("/metadata/namespace").and_then(Value::as_str);
    let is_said = args.cluster.namespace.as_deref().is_some_and(|said| !said.is_empty());
    if let Some(written) = written.filter(|_| !is_said) {
        written.clone_into(&mut cluster.namespace);
    }
    let is_there = cluster.find(name).await?.is_some();
    Ok((cluster, is_there))
}

/// Builds the code that has to be built, or gets what it depends on.
async fn complete(
    args: &DeployArgs,
    found: &Found,
    code: &mut Tree,
    got: &Path,
) -> anyhow::Result<()> {
    let language = Language::of_runtime(&found.runtime);
    if let Some(compiler) = leave_sources(code, found) {
        say(compiler.left());
    }
    let compiler = compiler(code, found);
    let own = (args.folder.as_path(), code);
    match compiler {
        Some(compiler) => build::build(own, compiler, args.code.arch, got).await,
        None if args.code.no_vendor => Ok(()),
        None => vendor::vendor(own, language, args.code.arch, got).await,
    }
}

/// What would be applied, as a text.
fn show(objects: &[&Value], form: Form) -> anyhow::Result<String> {
    let name = |object: &&Value| {
        let kind = object["kind"].as_str().unwrap_or_default().to_ascii_lowercase();
        format!("{kind}.rouse.dev/{}\n", object["metadata"]["name"].as_str().unwrap_or_default())
    };
    match form {
        Form::Name => Ok(objects.iter().map(name).collect()),
        Form::Json => {
            // As `kubectl` has several.
            let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
            let whole = if let [object] = objects { *object } else { &list };
            Ok(serde_json::to_string_pretty(whole).context("writing it as JSON")? + "\n")
        }
        Form::Table | Form::Wide | Form::Yaml | Form::Csv => {
            let texts = objects.iter().map(serde_saphyr::to_string).collect::<Result<Vec<_>, _>>();
            Ok(texts.context("writing the Function as YAML")?.join("---\n"))
        }
    }
}

/// Leaves sources out beside a program that is built of them; says what that would be done by.
fn leave_sources(code: &mut Tree, found: &Found) -> Option<Compiler> {
    let runs_compiled = Language::of_runtime(&found.runtime) == Some(Language::Provided);
    if runs_compiled { build::leave_sources(code) } else { None }
}

/// What builds the code, if it has to be.
fn compiler(code: &Tree, found: &Found) -> Option<Compiler> {
    let runs_compiled = Language::of_runtime(&found.runtime) == Some(Language::Provided);
    Compiler::of(code).filter(|_| runs_compiled)
}

/// What of `folder` is no code, beside what never is.
fn left_out(folder: &Path) -> &'static [&'static str] {
    // There may be thousands of files where Cargo builds.
    let is_rust = folder.join("Cargo.toml").is_file();
    if is_rust { &[MANIFEST, build::CARGO_TARGET] } else { &[MANIFEST] }
}

/// What of `folder` is no code for who runs it where it was written: what npm installed is found there.
#[cfg(feature = "dev")]
fn left_out_here(folder: &Path) -> Vec<&'static str> {
    [left_out(folder), &[folder::PACKAGES]].concat()
}

/// Goes through all that [`read_folder`] reads of a folder but its manifest.
#[cfg(feature = "dev")]
pub fn walk_code(folder: &Path) -> ignore::Walk {
    folder::walk(folder, &left_out_here(folder))
}

/// The Function of a folder with its code as it stands there, and the Triggers that its code tells of, for
/// who runs it on this machine: what it depends on is the machine's.
#[cfg(feature = "dev")]
pub fn read_folder(folder: &Path) -> anyhow::Result<Vec<Value>> {
    let manifest = Manifest::of(folder)?;
    let mut code = Tree::of(folder, &left_out_here(folder))?;
    let found = detect::detect(&code, &manifest.given(&CodeArgs::default())?)?;
    leave_sources(&mut code, &found);
    if let Some(compiler) = compiler(&code, &found) {
        anyhow::bail!("{}", compiler.by_hand());
    }
    code.check()?;
    let (source, large) = carry(&found, &code)?;
    if let Some(archive) = large {
        anyhow::bail!(
            "the code is {} KiB packed, and {} KiB fit into the object: leave out by a file \
             .rouseignore what is not needed. {}",
            kibibytes(&archive),
            MOST_INLINE >> 10,
            code.largest()
        );
    }
    let mut function = manifest.with_source(&source)?;
    let name = manifest.name(None, folder)?;
    function["metadata"]["name"] = json!(name);
    let mut objects = Vec::new();
    if found.contract == args::Contract::Azure {
        objects.extend(azure::plan(&code, &function, &name)?.triggers);
    }
    objects.push(function);
    Ok(objects)
}

async fn submit(
    (args, (cluster, is_there)): (&DeployArgs, (Cluster, bool)),
    name: &str,
    mut function: Value,
    triggers: Option<Vec<Value>>,
) -> anyhow::Result<()> {
    let namespace = cluster.namespace.clone();
    function["metadata"]["namespace"] = json!(namespace);
    let target = (cluster.objects(), "Function", name);
    let applied = submit::apply(&cluster, target, &function, args.force).await?;
    say(&format!("Function {name} in namespace {namespace} is applied"));
    // What was an app has Triggers that nothing delivers to any more.
    if let Some(triggers) = triggers.or_else(|| is_there.then(Vec::new)) {
        submit::apply_triggers(&cluster, &applied, &triggers, args.force).await?;
    }
    let generation = applied.metadata.generation.unwrap_or_default();
    if args.timeout.is_zero() {
        let is_told = args.output.is_for_people();
        let print = || Settled::unseen(&applied).print(args.output, "is applied");
        return if is_told { Ok(()) } else { print() };
    }
    let settled = settle::wait(&cluster, (name, generation), None, args.timeout).await?;
    settled.print(args.output, "is ready")
}

/// What becomes `spec.source`.
async fn source(
    args: &DeployArgs,
    found: &Found,
    code: &Tree,
    secrets: &[String],
) -> anyhow::Result<Value> {
    let (mut source, large) = carry(found, code)?;
    if let Some(files) = source["files"].as_object() {
        say(&format!("files that go into the object as they are: {}", files.len()));
    }
    let Some(archive) = large else { return Ok(source) };
    let kibibytes = kibibytes(&archive);
    say(&format!("{} files are {kibibytes} KiB packed", code.0.len()));
    let bucket = args.bucket.bucket.as_deref().with_context(|| {
        format!(
            "the code is {kibibytes} KiB packed, and {} KiB fit into the object: name a bucket \
             for it by --bucket s3://BUCKET/PREFIX, with --endpoint unless it is at AWS. {}",
            MOST_INLINE >> 10,
            code.largest()
        )
    })?;
    secrets::check(secrets, args.force)?;
    let store = Store::of(&args.bucket, bucket)?;
    let url = if args.dry_run {
        "https://dry.run/nothing-is-uploaded".to_owned()
    } else {
        store.put(&archive).await?
    };
    source["archive"] = json!({"url": url, "sha256": archive.digest});
    Ok(source)
}

/// What becomes `spec.source`, and the archive that does not fit into it.
fn carry(found: &Found, code: &Tree) -> anyhow::Result<(Value, Option<Code>)> {
    let mut source = json!({"runtime": found.runtime, "contract": found.contract.as_str()});
    if let Some(handler) = &found.handler {
        source["handler"] = json!(handler);
    }
    if found.contract == args::Contract::FunctionsFramework {
        source["signature"] = json!(found.signature.as_str());
    }
    if let Some(texts) = pack::texts(code) {
        source["files"] = json!(texts);
        return Ok((source, None));
    }
    let archive = pack::archive(code)?;
    if archive.bytes.len() > MOST_INLINE {
        return Ok((source, Some(archive)));
    }
    source["archive"] =
        json!({"inline": STANDARD.encode(&archive.bytes), "sha256": archive.digest});
    Ok((source, None))
}

const fn kibibytes(archive: &Code) -> usize {
    archive.bytes.len().div_ceil(1024)
}

/// The Function as its folder has it: all but its code.
#[derive(Debug)]
struct Manifest(Value);

impl Manifest {
    fn of(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(MANIFEST);
        let mut function = json!({});
        if path.is_file() {
            let reading = || format!("reading {}", path.display());
            let text = std::fs::read_to_string(&path).with_context(reading)?;
            function = serde_saphyr::from_str(&text).with_context(reading)?;
            ensure!(
                function["kind"] == "Function" && function["spec"].is_object(),
                "{} is no Function with a spec: it has to be the one that gets the code",
                path.display()
            );
        }
        function["apiVersion"] = json!("rouse.dev/v1alpha1");
        function["kind"] = json!("Function");
        Ok(Self(function))
    }

    /// The name that the user said, that of the manifest, or the folder's.
    fn name(&self, said: Option<&str>, folder: &Path) -> anyhow::Result<String> {
        let written = self.0.pointer("/metadata/name").and_then(Value::as_str);
        if let Some(name) = said.or(written) {
            return Ok(name.to_owned());
        }
        let whole = folder.canonicalize();
        let folder = whole.with_context(|| format!("there is no folder {}", folder.display()))?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let name = name.trim_matches('-').to_owned();
        ensure!(!name.is_empty(), "the folder has no name that a Function can have: say --name");
        Ok(name)
    }

    /// What the user said of the code, and what the manifest says where he didn't.
    fn given(&self, said: &CodeArgs) -> anyhow::Result<CodeArgs> {
        let written = |name: &str| {
            let value = self.0.pointer(&format!("/spec/source/{name}"))?;
            value.as_str().map(ToOwned::to_owned)
        };
        let mut given = said.clone();
        given.runtime = given.runtime.or_else(|| written("runtime"));
        given.handler = given.handler.or_else(|| written("handler"));
        given.contract = choose(given.contract, "contract", written("contract"))?;
        given.signature = choose(given.signature, "signature", written("signature"))?;
        Ok(given)
    }

    fn with_source(&self, source: &Value) -> anyhow::Result<Value> {
        let mut function = self.0.clone();
        let spec = function.as_object_mut().context("a Function is an object")?;
        let spec = spec.entry("spec").or_insert_with(|| Value::Object(Map::new()));
        ensure!(
            spec.get("image").is_none(),
            "{MANIFEST} names an image, and the code would be run in a runtime: take spec.image out"
        );
        if let Some(written) = spec.get_mut("source").and_then(Value::as_object_mut) {
            // What else stands there can't be told by looking, such as `processes`.
            written.retain(|name, _| name != "files" && name != "archive");
        }
        for (name, value) in source.as_object().into_iter().flatten() {
            spec["source"][name] = value.clone();
        }
        Ok(function)
    }
}

/// What was said, or else what is written.
fn choose<T: ValueEnum>(
    said: Option<T>,
    name: &str,
    written: Option<String>,
) -> anyhow::Result<Option<T>> {
    match (said, written) {
        (None, Some(text)) => T::from_str(&text, false)
            .map(Some)
            .map_err(|error| anyhow!("spec.source.{name} of {MANIFEST} is {text:?}: {error}")),
        (said, _) => Ok(said),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Role};

    fn args(line: &[&str]) -> DeployArgs {
        let line = ["rouse", "deploy"].iter().chain(line);
        let Role::Deploy(args) = Cli::parse_from(line).role else { panic!("another role") };
        *args
    }

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let path = folder.path().to_str().unwrap().to_owned();
        (folder, path)
    }

    #[tokio::test]
    async fn a_folder_becomes_the_source_of_its_function() {
        let manifest = "kind: Function\nmetadata: {name: hello, namespace: shop}\nspec:\n  \
                        concurrency: {limit: 2}\n  source: {processes: 2, runtime: mine, files: {a: b}}\n";
        let files = [("app.py", "def handler(event, context):\n"), (MANIFEST, manifest)];
        let (_folder, path) = folder(&files);
        let args = args(&[&path, "--dry-run", "--contract", "lambda", "--handler", "app.handler"]);
        let manifest = Manifest::of(&args.folder).unwrap();
        assert_eq!(manifest.name(None, &args.folder).unwrap(), "hello");
        let code = Tree::of(&args.folder, &[MANIFEST]).unwrap();
        let found = detect::detect(&code, &manifest.given(&args.code).unwrap());
        let source = source(&args, &found.unwrap(), &code, &[]).await.unwrap();
        let spec = &manifest.with_source(&source).unwrap()["spec"];
        let expected = json!({"concurrency": {"limit": 2}, "source": {
            "runtime": "mine", "contract": "Lambda", "handler": "app.handler",
            "files": {"app.py": "def handler(event, context):\n"}, "processes": 2,
        }});
        assert_eq!(*spec, expected);
    }

    #[test]
    fn what_would_be_applied_is_shown_in_the_form_that_was_asked_for() {
        let object = |kind: &str| json!({"kind": kind, "metadata": {"name": "hello"}});
        let (function, trigger) = (object("Function"), object("Trigger"));
        let both = [&function, &trigger];
        let name = show(&both, Form::Name).unwrap();
        assert_eq!(name, "function.rouse.dev/hello\ntrigger.rouse.dev/hello\n");
        let read = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        assert_eq!(read(show(&both[..1], Form::Json).unwrap()), function);
        assert_eq!(read(show(&both, Form::Json).unwrap())["items"], json!(both));
        let yaml = show(&both, Form::Table).unwrap();
        assert!(yaml.starts_with("kind: Function\n") && yaml.contains("---\n"), "{yaml}");
    }

    #[tokio::test]
    async fn code_that_is_too_large_needs_a_bucket() {
        let (folder, path) = folder(&[("bootstrap", "")]);
        let mut dice = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = std::iter::repeat_with(|| dice.u8(..)).take(800 << 10).collect();
        std::fs::write(folder.path().join("bootstrap"), noise).unwrap();
        let args = args(&[&path]);
        let code = Tree::of(&args.folder, &[]).unwrap();
        let found = detect::detect(&code, &args.code).unwrap();
        let error = source(&args, &found, &code, &[]).await.unwrap_err().to_string();
        assert!(error.contains("--bucket") && error.contains("bootstrap (800 KiB)"), "{error}");
    }

    #[test]
    fn the_folder_gives_the_name_and_an_image_is_no_code() {
        let (folder, _) = folder(&[]);
        let path = folder.path().join("My_Shop.fn");
        std::fs::create_dir(&path).unwrap();
        assert_eq!(Manifest::of(&path).unwrap().name(None, &path).unwrap(), "my-shop-fn");
        std::fs::write(path.join(MANIFEST), "kind: Function\nspec: {image: x}\n").unwrap();
        let error = Manifest::of(&path).unwrap().with_source(&json!({})).unwrap_err().to_string();
        assert!(error.contains("spec.image"), "{error}");
        std::fs::write(path.join(MANIFEST), "kind: Pod\n").unwrap();
        assert!(Manifest::of(&path).is_err());
    }
}
