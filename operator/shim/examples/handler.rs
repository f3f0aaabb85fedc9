//! A language process for the tests, in nothing but the standard library: it listens on `$PORT`, or
//! asks the Runtime API where that is named. What it is to do comes in the request's query, or in the
//! event's `do`: `hang`, `exit`, `shut`, `print=BYTES`, `unended`, `large=BYTES`, `odd`, `fork`, `leak`,
//! `stream`, `sleep=MILLIS`, `cut`, `fail`; nothing is an echo. As a custom handler of Azure it gives
//! back the call that it gets.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::zombie_processes, missing_docs)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

fn main() {
    if let Ok(words) = std::env::var("HANDLER_INIT_FAILS") {
        eprintln!("{words}");
        std::process::exit(3);
    }
    match std::env::var("AWS_LAMBDA_RUNTIME_API") {
        Ok(api) => lambda(&api),
        Err(_) => http(&std::env::var("PORT").unwrap()),
    }
}

/// What a request or an event asks for.
struct Deed<'a>(&'a str);

impl Deed<'_> {
    fn number(&self, name: &str) -> Option<usize> {
        self.0.strip_prefix(name)?.strip_prefix('=')?.parse().ok()
    }

    /// Does what is the same for everybody.
    fn act(&self) {
        match self.0 {
            "hang" => loop {
                std::thread::park();
            },
            "exit" => std::process::exit(7),
            // The process is there for a while yet, and its port is not.
            "shut" => drop(Command::new("sleep").arg("0.5").exec()),
            // It leaves its parent's group, and outlives it.
            "fork" => {
                let child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
                println!("forked {}", child.id());
            }
            "leak" => {
                let mut files = Vec::new();
                while let Ok(file) = File::open("/dev/null") {
                    files.push(file);
                }
                std::mem::forget(files);
            }
            _ => {}
        }
        if let Some(millis) = self.number("sleep") {
            std::thread::sleep(Duration::from_millis(millis as u64));
        }
        if let Some(bytes) = self.number("print") {
            let line = "x".repeat(99) + "\n";
            for _ in 0..bytes / 100 {
                print!("{line}");
            }
        }
        match self.0 {
            "" => {}
            "unended" => {
                print!("did unended");
                std::io::stdout().flush().unwrap();
            }
            deed => println!("did {deed}"),
        }
    }
}

/// A message of HTTP: its first line, its headers, and its body.
struct Message {
    first: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    fn read(stream: &mut BufReader<TcpStream>) -> Option<Self> {
        let mut line = || {
            let mut line = String::new();
            (stream.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
        };
        let first = line()?;
        let mut headers = Vec::new();
        loop {
            let header = line()?;
            let Some((name, value)) = header.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut message = Self { first, headers, body: Vec::new() };
        let length = message.header("content-length").and_then(|text| text.parse().ok());
        message.body.resize(length.unwrap_or(0), 0);
        stream.read_exact(&mut message.body).ok()?;
        if message.header("transfer-encoding").is_some() {
            loop {
                let mut size = String::new();
                stream.read_line(&mut size).ok()?;
                let size = usize::from_str_radix(size.trim(), 16).ok()?;
                let mut chunk = vec![0; size + 2];
                stream.read_exact(&mut chunk).ok()?;
                if size == 0 {
                    break;
                }
                message.body.extend_from_slice(&chunk[..size]);
            }
        }
        Some(message)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

fn http(port: &str) {
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        std::thread::spawn(move || while serve(&stream).is_some() {});
    }
}

fn serve(stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut request = Message::read(&mut reader)?;
    let mut writer = stream;
    let first = request.first.clone();
    let target = first.split(' ').nth(1)?;
    let deed = Deed(target.split_once('?').map_or("", |(_, query)| query));
    if request.header("upgrade").is_some() {
        write!(
            writer,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
        )
        .ok()?;
        let mut buffer = [0; 1024];
        loop {
            let count = reader.read(&mut buffer).ok()?;
            writer.write_all(buffer.get(..count).filter(|read| !read.is_empty())?).ok()?;
        }
    }
    deed.act();
    if std::env::var_os("FUNCTIONS_CUSTOMHANDLER_PORT").is_some()
        && request.body.starts_with(b"{\"Data\"")
    {
        let call = String::from_utf8_lossy(&request.body);
        let output =
            format!("{{\"statusCode\":201,\"headers\":{{\"x-path\":{target:?}}},\"body\":{call}}}");
        // Where there is a binding of that name, two messages go out.
        let sent = "[\"one\",{\"two\":2}]";
        request.body =
            format!("{{\"Outputs\":{{\"res\":{output},\"sent\":{sent}}},\"Logs\":[\"a line\"]}}")
                .into_bytes();
    }
    match (deed.0, deed.number("large")) {
        ("stream", _) => {
            write!(writer, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").ok()?;
            for _ in 0..3 {
                write!(writer, "5\r\npiece\r\n").ok()?;
                writer.flush().ok()?;
                std::thread::sleep(Duration::from_millis(50));
            }
            write!(writer, "0\r\n\r\n").ok()
        }
        ("cut", _) => {
            write!(writer, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").ok()?;
            None
        }
        ("odd", _) => {
            writer.write_all(b"this is no HTTP\r\n\r\n").ok()?;
            None
        }
        (_, large) => {
            let body = large.map_or(request.body, |bytes| vec![b'x'; bytes]);
            let id = std::process::id();
            let length = body.len();
            write!(writer, "HTTP/1.1 200 OK\r\nx-pid: {id}\r\ncontent-length: {length}\r\n\r\n")
                .ok()?;
            writer.write_all(&body).ok()
        }
    }
}

fn lambda(api: &str) {
    if let Ok(words) = std::env::var("HANDLER_INIT_ERROR") {
        let body =
            format!("{{\"errorType\":\"Runtime.ImportModuleError\",\"errorMessage\":{words:?}}}");
        ask(api, "POST", "/2018-06-01/runtime/init/error", &body);
        std::process::exit(1);
    }
    loop {
        let next = ask(api, "GET", "/2018-06-01/runtime/invocation/next", "");
        let id = next.header("lambda-runtime-aws-request-id").unwrap().to_owned();
        let event = String::from_utf8(next.body).unwrap();
        let deed = event.split_once("\"do\":\"").and_then(|(_, rest)| rest.split('"').next());
        let deed = Deed(deed.unwrap_or_default());
        deed.act();
        let path = |what| format!("/2018-06-01/runtime/invocation/{id}/{what}");
        match (deed.0, deed.number("large")) {
            ("stream", _) => stream(api, &path("response")),
            ("silent", _) => {}
            ("odd", _) => drop(ask(api, "POST", &path("response"), "{\"a\":")),
            ("fail", _) => {
                let body = "{\"errorType\":\"ValueError\",\"errorMessage\":\"on purpose\"}";
                drop(ask(api, "POST", &path("error"), body));
            }
            ("leak", _) => {
                let body = "{\"errorType\":\"OSError\",\"errorMessage\":\"too many open files\"}";
                drop(ask(api, "POST", &path("error"), body));
            }
            (_, Some(bytes)) => {
                let body = format!("\"{}\"", "x".repeat(bytes - 2));
                drop(ask(api, "POST", &path("response"), &body));
            }
            ("pid", _) => {
                let body = std::process::id().to_string();
                drop(ask(api, "POST", &path("response"), &body));
            }
            _ => drop(ask(api, "POST", &path("response"), &event)),
        }
    }
}

thread_local! {
    /// Kept, since one that has no file left can't open another connection.
    static CONNECTION: std::cell::RefCell<Option<BufReader<TcpStream>>> = const { std::cell::RefCell::new(None) };
}

fn ask(api: &str, method: &str, path: &str, body: &str) -> Message {
    CONNECTION.with_borrow_mut(|connection| {
        let stream =
            connection.get_or_insert_with(|| BufReader::new(TcpStream::connect(api).unwrap()));
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {api}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        Message::read(stream).unwrap()
    })
}

fn stream(api: &str, path: &str) {
    let mut stream = TcpStream::connect(api).unwrap();
    let head = "POST PATH HTTP/1.1\r\nhost: h\r\nlambda-runtime-function-response-mode: streaming\r\n\
        content-type: application/vnd.awslambda.http-integration-response\r\n\
        transfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.replace("PATH", path).as_bytes()).unwrap();
    let mut prelude =
        b"{\"statusCode\":201,\"headers\":{\"x-a\":\"1\"},\"cookies\":[\"c=1\"]}".to_vec();
    prelude.extend_from_slice(&[0; 8]);
    for piece in [&prelude[..], b"one,", b"two,", b"three"] {
        write!(stream, "{:x}\r\n", piece.len()).unwrap();
        stream.write_all(piece).unwrap();
        stream.write_all(b"\r\n").unwrap();
        stream.flush().unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    drop(Message::read(&mut BufReader::new(stream)));
}
