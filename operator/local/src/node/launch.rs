//! What is started for a container, and what can't be. It looks at the machine's programs and starts
//! none.

use std::collections::BTreeMap;
use std::env::split_paths;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use rouse_core::function::names::{ANNOTATION_CODE, LABEL_FUNCTION};
use rouse_core::resident::{LABEL_COMPONENT, Resident};

use super::expand::expand;
use super::memory;
use super::variables::Variables;

/// Annotation with what is run for an image on a machine without containers, as JSON or as a line of
/// words: on a Function, and from there on its pods.
pub const ANNOTATION_COMMAND: &str = "rouse.dev/dev-command";
/// Annotation with the folder in which that is run, on pods.
pub const ANNOTATION_FOLDER: &str = "rouse.dev/dev-folder";
/// Annotation with where npm has installed what the code needs, on pods.
pub const ANNOTATION_PACKAGES: &str = "rouse.dev/dev-packages";
/// Programs that run images, the first that is there.
const RUNNERS: [&str; 2] = ["podman", "docker"];
/// The exit code of those where it is they who failed, and not what they ran.
const RUNNER_FAILED: i32 = 125;

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where it runs; none for a folder of its own.
    pub folder: Option<PathBuf>,
    /// Whether it is code for a shim, which starts the command itself once the code is there.
    pub shim: bool,
    /// Program and arguments that take away what it may leave behind beside processes.
    pub cleanup: Vec<String>,
    /// What it is told by its environment.
    pub variables: Variables,
    /// What is told to a container by a file.
    pub file: Option<EnvFile>,
}

/// Variables of a container. Anybody can read the arguments of who runs it, and its environment is
/// another: there, a `PATH` of the container's would hide programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFile {
    /// Where the file is to be.
    pub file: PathBuf,
    /// What is in it.
    pub text: String,
}

impl Launch {
    /// Whether it is a container of podman or docker.
    pub const fn is_container(&self) -> bool {
        !self.cleanup.is_empty()
    }

    /// What can be done where it ended with this code, if that is known.
    pub fn advice(&self, code: Option<i32>) -> Option<String> {
        let runner = self.cleanup.first().filter(|_| code == Some(RUNNER_FAILED))?;
        Some(format!(
            "{runner} did not run the image: see whether `{runner} info` works and the image is \
             there, or say what `rouse dev` shall run instead by the Function's annotation \
             {ANNOTATION_COMMAND}"
        ))
    }
}

/// Why nothing can be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such program.
    #[error("the program {program:?} is not on this machine: {advice}")]
    Program {
        /// Its name.
        program: String,
        /// How to get it.
        advice: String,
    },
    /// An image can't be run.
    #[error(
        "images need containers, and this machine has neither podman nor docker: install one of \
         them, or say what `rouse dev` shall run instead by the Function's annotation \
         {ANNOTATION_COMMAND}, such as [\"python3\", \"app.py\"]; it listens on $PORT"
    )]
    Containers,
    /// The annotation is no command.
    #[error(
        "the annotation {ANNOTATION_COMMAND} is {0:?}, which is no command: write a JSON list such \
         as [\"python3\", \"app.py\"], or words with spaces between"
    )]
    Command(String),
    /// There is no such folder.
    #[error("there is no folder {0} to run it in")]
    Folder(String),
}

/// The machine, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The path on which programs are looked for.
    pub path: OsString,
    /// This program itself.
    pub rouse: PathBuf,
}

impl Machine {
    /// Where a program is; one with a slash in its name is not looked for.
    fn find(&self, program: &str) -> Option<PathBuf> {
        let runs = |path: &PathBuf| {
            path.metadata()
                .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
        };
        split_paths(&self.path).map(|folder| folder.join(program)).find(runs)
    }

    /// What runs images, if there is anything.
    pub fn runner(&self) -> Option<&'static str> {
        RUNNERS.into_iter().find(|runner| self.find(runner).is_some())
    }

    fn check(&self, program: &str) -> Result<(), Refused> {
        if program.contains('/') || self.find(program).is_some() {
            return Ok(());
        }
        Err(Refused::Program { program: program.to_owned(), advice: advice(program) })
    }
}

/// How to get a program.
fn advice(program: &str) -> String {
    let package = match program.split('.').next().unwrap_or(program) {
        "python3" | "python" => Some(("python3", "python")),
        "node" => Some(("nodejs", "node")),
        "java" => Some(("default-jre-headless", "openjdk")),
        "bash" => Some(("bash", "bash")),
        _ => None,
    };
    match package {
        Some((debian, brew)) => {
            format!("install it (`apt install {debian}`, `brew install {brew}`), then call again")
        }
        None => "install it, or mend the PATH of `rouse dev`".to_owned(),
    }
}

/// Whether `pod` has source, which a shim runs.
pub fn has_code(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(ANNOTATION_CODE))
}

/// What is started for the container `own` of `pod`, which has these variables and the folder `room`.
pub fn decide(
    pod: &Pod,
    own: &Container,
    variables: Variables,
    machine: &Machine,
    room: &Path,
) -> Result<Launch, Refused> {
    let meta = &pod.metadata;
    let annotation = |name: &str| meta.annotations.as_ref()?.get(name).map(String::as_str);
    let label = |name: &str| meta.labels.as_ref()?.get(name).map(String::as_str);
    let kept = |command, variables| Launch {
        command,
        folder: None,
        shim: false,
        cleanup: Vec::new(),
        variables,
        file: None,
    };
    let component = label(LABEL_COMPONENT).filter(|_| label(LABEL_FUNCTION).is_none());
    if Resident::ALL.into_iter().any(|resident| component == Some(resident.component())) {
        let rouse = machine.rouse.to_string_lossy().into_owned();
        let words = own.args.iter().flatten().cloned();
        return Ok(kept(std::iter::once(rouse).chain(words).collect(), variables));
    }
    if has_code(pod) {
        let command = expand_all(own.args.as_deref().unwrap_or_default(), &variables);
        if let Some(program) = command.first() {
            machine.check(program)?;
        }
        return Ok(Launch { shim: true, ..kept(command, variables) });
    }
    let Some(text) = annotation(ANNOTATION_COMMAND) else {
        return run_image(pod, own, variables, machine, room);
    };
    let command = parse_command(text).ok_or_else(|| Refused::Command(text.to_owned()))?;
    let command = expand_all(&command, &variables);
    if let Some(program) = command.first() {
        machine.check(program)?;
    }
    let folder = annotation(ANNOTATION_FOLDER).map(PathBuf::from);
    if let Some(missing) = folder.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(Refused::Folder(missing.display().to_string()));
    }
    Ok(Launch { folder, ..kept(command, variables) })
}

/// A JSON list, or words with spaces between.
fn parse_command(text: &str) -> Option<Vec<String>> {
    let words = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).ok()?
    } else {
        text.split_whitespace().map(str::to_owned).collect::<Vec<String>>()
    };
    (!words.is_empty()).then_some(words)
}

/// A container of podman or docker, whose port is that of this machine.
fn run_image(
    pod: &Pod,
    own: &Container,
    variables: Variables,
    machine: &Machine,
    room: &Path,
) -> Result<Launch, Refused> {
    let runner = machine.runner().ok_or(Refused::Containers)?;
    let name = format!("rouse-dev-{}", pod.metadata.uid.as_deref().unwrap_or_default());
    let word = |word: &str| word.to_owned();
    let mut command = vec![word(runner), word("run"), word("--rm"), word("--name"), name.clone()];
    for port in own.ports.iter().flatten() {
        let port = port.container_port;
        command.extend([word("--publish"), format!("127.0.0.1:{port}:{port}")]);
    }
    command.extend([word("--memory"), memory::limit(own).to_string()]);
    let expanded =
        |words: &Option<Vec<String>>| expand_all(words.as_deref().unwrap_or_default(), &variables);
    let (mut words, arguments) = (expanded(&own.command).into_iter(), expanded(&own.args));
    // Of two with one name the later counts.
    let told: BTreeMap<String, String> = variables.into_iter().collect();
    let (lines, others): (Vec<_>, Vec<_>) = told.into_iter().partition(fits_a_line);
    let mut text = String::new();
    for (name, value) in lines {
        text.extend([&name, "=", &value, "\n"]);
    }
    let file = room.join("variables");
    command.extend([word("--env-file"), file.display().to_string()]);
    for (name, _) in &others {
        // Its value is in the environment of who runs it.
        command.extend([word("--env"), name.clone()]);
    }
    if let Some(entrypoint) = words.next() {
        command.extend([word("--entrypoint"), entrypoint]);
    }
    command.push(own.image.clone().unwrap_or_default());
    command.extend(words);
    command.extend(arguments);
    let cleanup = vec![word(runner), word("rm"), word("--force"), name];
    let file = Some(EnvFile { file, text });
    Ok(Launch { command, folder: None, shim: false, cleanup, variables: others, file })
}

/// Whether podman and docker read a variable as it is from a line of a file: one has no way to write a
/// line's end, and they read lines of 64 KiB.
fn fits_a_line((name, value): &(String, String)) -> bool {
    const MOST: usize = 32 << 10;
    let odd = |letter: char| letter.is_whitespace() || letter == '#';
    !name.contains(odd) && !value.contains(['\n', '\r']) && value.len() <= MOST
}

fn expand_all(words: &[String], variables: &Variables) -> Vec<String> {
    let value = |name: &str| {
        let mut last = variables.iter().rev();
        last.find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    };
    words.iter().map(|word| expand(word, value)).collect()
}

/// Variables of this process that its children see too: those by which programs are found and
/// speak, and none that may hold a secret.
const PASSED: [&str; 21] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "VIRTUAL_ENV",
    "JAVA_HOME",
    "NODE_PATH",
    "PYTHONPATH",
    // Where what stands in for an interpreter finds the one that was chosen.
    "PYENV_ROOT",
    "PYENV_VERSION",
    "NODENV_ROOT",
    "NODENV_VERSION",
    "ASDF_DIR",
    "ASDF_DATA_DIR",
    "VOLTA_HOME",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// How the world is reached where that takes a proxy, and what is reached without.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// Functions and their own clients call each other here.
const HERE: &str = "localhost,127.0.0.1";
/// How podman and docker find what they are to work with.
const OF_RUNNERS: [&str; 12] = [
    "CONTAINER_CONNECTION",
    "CONTAINER_HOST",
    "CONTAINER_SSHKEY",
    "CONTAINERS_CONF",
    "DBUS_SESSION_BUS_ADDRESS",
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
];

/// The variables that are passed on; more to who runs containers.
pub fn passed(to_runner: bool) -> Vec<(&'static str, OsString)> {
    pass(|name| std::env::var_os(name), to_runner)
}

fn pass(
    value_of: impl Fn(&str) -> Option<OsString>,
    to_runner: bool,
) -> Vec<(&'static str, OsString)> {
    let found = |name: &'static str| Some((name, value_of(name)?));
    let runners = OF_RUNNERS.into_iter().filter(|_| to_runner);
    let mut all: Vec<_> = PASSED.into_iter().chain(runners).filter_map(found).collect();
    let proxies: Vec<_> = PROXIES.into_iter().filter_map(found).collect();
    if !proxies.is_empty() {
        all.extend(NO_PROXY.map(|name| {
            let mut value = value_of(name).unwrap_or_default();
            value.push(if value.is_empty() { "" } else { "," });
            value.push(HERE);
            (name, value)
        }));
    }
    all.extend(proxies);
    all
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::node::place::own_container;

    /// A machine with these programs and no others.
    fn machine_with(programs: &[&str]) -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().unwrap();
        for program in programs {
            let path = folder.path().join(program);
            std::fs::write(&path, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = folder.path().as_os_str().to_owned();
        (folder, Machine { path, rouse: "/opt/rouse".into() })
    }

    fn launch(annotations: &Value, programs: &[&str]) -> Result<Launch, Refused> {
        let (_folder, machine) = machine_with(programs);
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u", "annotations": annotations},
            "spec": {"containers": [{"name": "function", "image": "shop/x:1",
                "args": ["python3", "$(ROUSE_HANDLER)"],
                "ports": [{"containerPort": 21000}],
                "resources": {"limits": {"memory": "64Mi"}}}]},
        }))
        .unwrap();
        let variables = vec![
            ("PORT".to_owned(), "21000".to_owned()),
            ("ROUSE_HANDLER".to_owned(), "app.py".to_owned()),
            ("KEY".to_owned(), "two\nlines".to_owned()),
        ];
        decide(&pod, own_container(&pod).unwrap(), variables, &machine, Path::new("/room"))
    }

    #[test]
    fn code_is_run_by_the_machines_own_program_or_it_is_said_how_to_get_it() {
        let code = json!({ANNOTATION_CODE: "pushed"});
        let found = launch(&code, &["python3"]).unwrap();
        assert_eq!((&*found.command.join(" "), found.shim), ("python3 app.py", true));
        let said = launch(&code, &["node"]).unwrap_err().to_string();
        assert!(said.contains("\"python3\"") && said.contains("apt install python3"), "{said}");
    }

    #[test]
    fn an_image_is_run_by_its_annotation_or_in_a_container_or_not_at_all() {
        for text in ["[\"serve\", \"--at\", \"$(PORT)\"]", "serve --at  $(PORT)"] {
            let found = launch(&json!({ANNOTATION_COMMAND: text}), &["serve", "podman"]).unwrap();
            assert_eq!((&*found.command.join(" "), found.shim), ("serve --at 21000", false));
        }
        for text in ["", "[]", "[1]", "[\"serve\""] {
            let refused = launch(&json!({ANNOTATION_COMMAND: text}), &["serve"]).unwrap_err();
            assert!(matches!(refused, Refused::Command(_)), "{refused}");
        }
        let found = launch(&json!({}), &["docker"]).unwrap();
        let line = found.command.join(" ");
        assert!(
            line.starts_with("docker run --rm --name rouse-dev-u --publish 127.0.0.1:21000:21000")
        );
        let told = "--env-file /room/variables --env KEY shop/x:1 python3 app.py";
        assert!(line.ends_with(told), "{line}");
        // Anybody can read the line.
        assert!(!line.contains("lines"), "{line}");
        assert_eq!(found.variables, [("KEY".to_owned(), "two\nlines".to_owned())]);
        assert_eq!(found.file.as_ref().unwrap().text, "PORT=21000\nROUSE_HANDLER=app.py\n");
        assert!(line.contains("--memory 67108864"), "{line}");
        assert_eq!(found.advice(Some(1)), None);
        let advice = found.advice(Some(RUNNER_FAILED)).unwrap();
        assert!(advice.contains("docker info"), "{advice}");
        let said = launch(&json!({}), &[]).unwrap_err().to_string();
        assert!(said.contains(ANNOTATION_COMMAND), "{said}");
    }

    #[test]
    fn of_the_environment_only_what_finds_and_speaks_is_passed_on() {
        let there = [("PATH", "/bin"), ("PASSWORD", "x"), ("DOCKER_HOST", "d"), ("no_proxy", "a")];
        let value_of = |more: &[(&str, &str)], name: &str| {
            let mut all = there.iter().chain(more);
            all.find(|(other, _)| *other == name).map(|(_, value)| OsString::from(*value))
        };
        let told = |to_runner, more: &[(&'static str, &'static str)]| {
            let all = pass(|name| value_of(more, name), to_runner);
            let text = |(name, value): &(&str, OsString)| format!("{name}={}", value.display());
            all.iter().map(text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told(false, &[]), "PATH=/bin");
        assert_eq!(told(true, &[]), "PATH=/bin DOCKER_HOST=d");
        let expected = "PATH=/bin NO_PROXY=localhost,127.0.0.1 no_proxy=a,localhost,127.0.0.1 \
                        http_proxy=p";
        assert_eq!(told(false, &[("http_proxy", "p")]), expected);
    }
}
