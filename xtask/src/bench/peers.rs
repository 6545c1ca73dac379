//! Who is compared: how each server is started, and how the load client has to talk to it.

use std::fs;
use std::path::Path;

/// Runs of a measure whose median counts.
const RUNS: usize = 3;

/// One server.
pub(super) struct Peer {
    /// Its name on the command line, and of its folder in `bench/peers`.
    pub(super) name: &'static str,
    /// Its name in the report.
    pub(super) title: &'static str,
    /// The command that starts it, from the ports it may use, where it is installed and a folder of its own.
    pub(super) start: fn(Place<'_>) -> Result<Vec<String>, String>,
    /// How it wants to be talked to, if it does not speak Tidegate's protocol.
    pub(super) speech: Option<Speech>,
    /// Its only child process is what works, and what is measured.
    pub(super) is_child_measured: bool,
    /// How often it runs each measure whose median counts: often enough for those that are held against each other closely.
    pub(super) runs: usize,
}

/// Where a server may be.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) root: &'a Path,
    pub(super) installed: &'a Path,
    pub(super) folder: &'a Path,
    pub(super) public: u16,
    pub(super) internal: u16,
    /// What it shows to clients, if they come over TLS.
    pub(super) certificate: Option<&'a Certificate>,
}

/// A certificate and its key, both PEM files: ECDSA P-256, the same for everybody.
pub(super) struct Certificate {
    pub(super) chain: String,
    pub(super) key: String,
}

impl Certificate {
    pub(super) fn find(root: &Path) -> Self {
        let file = |name| root.join("crates/tidegate/tests/fixtures").join(name).display().to_string();
        Self { chain: file("first.pem"), key: file("first.key") }
    }
}

/// How a server wants to be talked to.
pub(super) struct Speech {
    /// Where clients connect; `WS` and `API` stand for ports.
    url: &'static str,
    /// Where messages are published.
    api: &'static str,
    /// Bytes of its first message; empty: it says nothing first.
    welcome: &'static str,
    /// The message with which a client introduces itself, and bytes of its answer; empty: it needs none.
    connect: (&'static str, &'static str),
    /// The message that subscribes, and bytes of its answer; empty: connecting subscribes.
    subscribe: &'static str,
    ready: &'static str,
    /// The message that asks whether the client is there, and its answer; empty: it asks with pings of the protocol.
    heartbeat: (&'static str, &'static str),
    /// The message with which a client asks whether the server is there, and bytes of its answer.
    ask: (&'static str, &'static str),
    /// What publishes a message.
    body: &'static str,
    /// What precedes the time in what arrives.
    mark: &'static str,
}

/// What it sends is what was published; whoever says anything but the question is a subscriber.
const BARE: Speech = Speech {
    url: "ws://127.0.0.1:WS/ws",
    api: "http://127.0.0.1:WS/publish",
    welcome: "",
    connect: ("", ""),
    subscribe: "sub",
    ready: "live",
    heartbeat: ("", ""),
    ask: ("ping?", "pong!"),
    body: r#"{"t":{t},"p":"{pad}"}"#,
    mark: r#""t":"#,
};

impl Speech {
    fn arguments(&self) -> Vec<&'static str> {
        let Self {
            url,
            api,
            welcome,
            connect: (connect, connected),
            subscribe,
            ready,
            heartbeat: (asked, answer),
            ask: (ask, ask_answer),
            body,
            mark,
        } = *self;
        vec![
            "--url",
            url,
            "--api",
            api,
            "--channel",
            "topic",
            "--welcome",
            welcome,
            "--connect",
            connect,
            "--connected",
            connected,
            "--subscribe",
            subscribe,
            "--ready",
            ready,
            "--publish-body",
            body,
            "--mark",
            mark,
            "--heartbeat",
            asked,
            "--heartbeat-answer",
            answer,
            "--ask",
            ask,
            "--ask-answer",
            ask_answer,
        ]
    }
}

/// All, in the order in which they are measured and shown.
pub(super) const PEERS: [Peer; 8] = [
    Peer {
        name: "floor",
        title: "floor (bare writes)",
        start: |_| Err("the floor is no server".to_owned()),
        speech: None,
        is_child_measured: false,
        runs: RUNS,
    },
    Peer { name: "tidegate", title: "Tidegate", start: tidegate, speech: None, is_child_measured: false, runs: RUNS },
    Peer {
        name: "uwebsockets",
        title: "uWebSockets (C++)",
        start: |place| {
            let program = if place.certificate.is_some() { "fanout-tls" } else { "fanout" };
            Ok(with_port_and_certificate(place, vec![installed(place, program)]))
        },
        speech: Some(BARE),
        is_child_measured: false,
        runs: RUNS,
    },
    Peer {
        name: "node-ws",
        title: "ws (Node)",
        start: |place| Ok(with_port_and_certificate(place, vec!["node".to_owned(), installed(place, "fanout.mjs")])),
        speech: Some(BARE),
        is_child_measured: false,
        runs: 1,
    },
    Peer {
        name: "centrifuge",
        title: "centrifuge (Go)",
        start: |place| Ok(with_port_and_certificate(place, vec![installed(place, "fanout")])),
        speech: Some(Speech {
            connect: (r#"{"id":1,"connect":{}}"#, r#""connect":{"#),
            subscribe: r#"{"id":2,"subscribe":{"channel":"topic"}}"#,
            ready: r#""subscribe":{"#,
            heartbeat: ("{}", "{}"),
            ask: (r#"{"id":3,"rpc":{"method":"ping"}}"#, r#""rpc":{"#),
            ..BARE
        }),
        is_child_measured: false,
        runs: 1,
    },
    Peer {
        name: "nats",
        title: "NATS over WebSocket",
        start: |place| {
            let tls = |own: &Certificate| format!("tls {{ cert_file: {:?}, key_file: {:?} }}", own.chain, own.key);
            let tls = place.certificate.map_or("no_tls: true".to_owned(), tls);
            let values = [("WS_PORT", place.public.to_string()), ("PORT", place.internal.to_string()), ("TLS", tls)];
            let config = fill(place, "server.conf", &values)?;
            Ok(vec!["nats-server".to_owned(), "-c".to_owned(), config])
        },
        speech: Some(Speech {
            url: "ws://127.0.0.1:WS/",
            api: "nats://127.0.0.1:API/",
            welcome: "INFO",
            connect: ("CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n", "PONG"),
            subscribe: "SUB topic 1\r\nPING\r\n",
            ready: "PONG",
            heartbeat: ("PING\r\n", "PONG\r\n"),
            ask: ("PING\r\n", "PONG"),
            ..BARE
        }),
        is_child_measured: false,
        runs: 1,
    },
    Peer {
        name: "nchan",
        title: "nchan (nginx)",
        start: |place| {
            let files = |own: &Certificate| {
                // One ticket a handshake, as Tidegate sends; OpenSSL's default is two.
                let more = "ssl_protocols TLSv1.3; ssl_conf_command NumTickets 1;";
                format!("ssl_certificate {}; ssl_certificate_key {}; {more}", own.chain, own.key)
            };
            let values = [
                ("PORT", place.public.to_string()),
                ("FOLDER", place.folder.display().to_string()),
                ("SSL", if place.certificate.is_some() { "ssl".to_owned() } else { String::new() }),
                ("CERTIFICATE", place.certificate.map_or_else(String::new, files)),
            ];
            let config = fill(place, "nginx.conf", &values)?;
            Ok(vec!["nginx".to_owned(), "-c".to_owned(), config, "-p".to_owned(), place.folder.display().to_string()])
        },
        speech: Some(Speech { subscribe: "", ready: "", ..BARE }),
        is_child_measured: true,
        runs: 1,
    },
    Peer {
        name: "sockudo",
        title: "Sockudo (Rust)",
        start: |place| {
            let files = |own: &Certificate| format!("{{ enabled = true, cert_path = {:?}, key_path = {:?} }}", own.chain, own.key);
            let tls = place.certificate.map_or("{ enabled = false }".to_owned(), files);
            let config = fill(place, "sockudo.toml", &[("PORT", place.public.to_string()), ("TLS", tls)])?;
            // By default it logs every connection.
            let words = ["env", "RUST_LOG=warn", &installed(place, "bin/sockudo"), "--config", &config];
            Ok(words.map(str::to_owned).to_vec())
        },
        speech: Some(Speech {
            url: "ws://127.0.0.1:WS/app/bench?protocol=7",
            api: "pusher://bench:secret@127.0.0.1:WS/apps/bench/events",
            welcome: "pusher:connection_established",
            connect: ("", ""),
            subscribe: r#"{"event":"pusher:subscribe","data":{"channel":"topic"}}"#,
            ready: "pusher_internal:subscription_succeeded",
            heartbeat: (r#"{"event":"pusher:ping"}"#, r#"{"event":"pusher:pong","data":{}}"#),
            ask: (r#"{"event":"pusher:ping","data":{}}"#, "pusher:pong"),
            // Data is text in this protocol: the same JSON, but within a string.
            body: r#"{"name":"message","channel":"topic","data":"{\"t\":{t},\"p\":\"{pad}\"}"}"#,
            mark: r#"\"t\":"#,
        }),
        is_child_measured: false,
        runs: 1,
    },
];

impl Peer {
    /// What the load client is told; `WS` and `API` stand for ports. Tidegate's way is its default.
    pub(super) fn load_arguments(&self) -> Vec<&'static str> {
        let own = || vec!["--url", "ws://127.0.0.1:WS/ws", "--api", "http://127.0.0.1:API/v1/publish"];
        self.speech.as_ref().map_or_else(own, Speech::arguments)
    }
}

fn installed(place: Place<'_>, name: &str) -> String {
    place.installed.join(name).display().to_string()
}

/// What our own programs take on the command line.
fn with_port_and_certificate(place: Place<'_>, mut words: Vec<String>) -> Vec<String> {
    words.push(place.public.to_string());
    words.extend(place.certificate.into_iter().flat_map(|own| [own.chain.clone(), own.key.clone()]));
    words
}

/// A configuration with its words replaced, in the server's folder.
fn fill(place: Place<'_>, name: &str, values: &[(&str, String)]) -> Result<String, String> {
    let from = place.installed.join(name);
    let template = fs::read_to_string(&from).map_err(|e| format!("{}: {e}", from.display()))?;
    let text = values.iter().fold(template, |text, (word, value)| text.replace(word, value));
    write(place, name, &text)
}

fn write(place: Place<'_>, name: &str, text: &str) -> Result<String, String> {
    let path = place.folder.join(name);
    fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path.display().to_string())
}

/// The release binary with the defaults of production but for the limits per address, per user and of what a client may say, since the load is
/// thousands of connections without a user from a hundred addresses; and it logs warnings only.
fn tidegate(place: Place<'_>) -> Result<Vec<String>, String> {
    let tls = |own: &Certificate| format!("tls = {{ cert = \"file:{}\", key = \"file:{}\" }}", own.chain, own.key);
    let config = format!(
        r#"
[public]
listen = "127.0.0.1:{}"
{}
[internal]
listen = "127.0.0.1:{}"
[auth]
anonymous = {{ subscribe = ["bench:**"], publish = [] }}
[limits]
per_address = 100000
per_user = 100000
rate = {{ per_second = 1000000, burst = 1000000 }}
[log]
level = "warn"
[broker]
kind = "embedded"
path = "{}/data"
[[channel]]
match = "bench:event:**"
kind = "event"
[[channel]]
match = "bench:log:**"
kind = "log"
retention = {{ messages = 200000, age = "24h", bytes = "1GiB" }}
"#,
        place.public,
        place.certificate.map_or_else(String::new, tls),
        place.internal,
        place.folder.display()
    );
    let binary = place.root.join("target/release/tidegate").display().to_string();
    Ok(vec![binary, "serve".to_owned(), "--config".to_owned(), write(place, "tidegate.toml", &config)?])
}
