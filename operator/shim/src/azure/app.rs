//! Reads an app from where its code lies, and finds what starts it and where its messages go.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rouse_azure::{App, Function, HOST_SETTING};

use super::nats::Server;

/// What a file of settings may have.
const LONGEST: u64 = 1 << 20;

/// An app that can be started.
#[derive(Debug)]
pub struct Ready {
    /// What it says of itself.
    pub app: App,
    /// The handler: a program and its arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub folder: PathBuf,
    /// Where messages go, by the setting that says so.
    pub servers: BTreeMap<String, Server>,
}

/// Why an app can't be started.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A file is missing or can't be read.
    #[error("reading {0}: {1}")]
    File(String, io::Error),
    /// It can't be run.
    #[error(transparent)]
    App(#[from] rouse_azure::Unfit),
    /// Nobody knows where messages go.
    #[error(
        "{function}/function.json sends messages by the connection {connection:?}: {why}. Set the variable \
         {connection} of the Function to a server of NATS whose streams take them, such as \
         nats://nats.shop:4222"
    )]
    Connection {
        /// The function.
        function: String,
        /// The connection.
        connection: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Ready {
    /// The app that lies in `folder`, with the settings that `variable` knows.
    pub fn read(folder: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Unfit> {
        let host = read(folder, "host.json")?;
        let file = |error| Unfit::File(folder.display().to_string(), error);
        let mut functions = Vec::new();
        for entry in folder.read_dir().map_err(file)? {
            let entry = entry.map_err(file)?;
            if entry.path().join("function.json").is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let text = read(folder, &format!("{name}/function.json"))?;
                functions.push((name, text));
            }
        }
        let app = App::parse(&host, functions)?;
        let program = found(folder, &app.program);
        Ok(Self {
            command: [program].into_iter().chain(app.arguments.iter().cloned()).collect(),
            folder: folder.join(&app.folder),
            servers: servers(&app.functions, variable)?,
            app,
        })
    }
}

/// Where the messages of all functions go.
fn servers(
    functions: &BTreeMap<String, Function>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, Server>, Unfit> {
    let mut servers = BTreeMap::new();
    for (function, output) in
        functions.iter().flat_map(|(name, it)| it.queues.iter().map(move |output| (name, output)))
    {
        let connection = &output.connection;
        let said =
            variable(connection).or_else(|| variable(&format!("{HOST_SETTING}{connection}")));
        let server = said.as_deref().ok_or("there is no such variable").and_then(Server::parse);
        let server = server.map_err(|why| Unfit::Connection {
            function: function.clone(),
            connection: connection.clone(),
            why,
        })?;
        servers.insert(connection.clone(), server);
    }
    Ok(servers)
}

/// A program of the code by its path, any other by its name.
fn found(folder: &Path, program: &str) -> String {
    let own = folder.join(program);
    if own.is_file() { own.to_string_lossy().into_owned() } else { program.to_owned() }
}

fn read(folder: &Path, name: &str) -> Result<Vec<u8>, Unfit> {
    let path = folder.join(name);
    let file = |error| Unfit::File(name.to_owned(), error);
    if path.metadata().map_err(file)?.len() > LONGEST {
        return Err(file(io::Error::other("it is too long")));
    }
    fs::read(path).map_err(file)
}
