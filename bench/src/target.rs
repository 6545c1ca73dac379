//! How a server wants to be talked to: where it listens, how to subscribe, how to publish.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::nats;
use crate::pusher::App;
use crate::wire::Tls;

/// How messages are published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Publishing {
    /// HTTP POST.
    #[default]
    Http,
    /// NATS' own protocol, on a plain TCP connection.
    Nats,
    /// HTTP POST, signed as the Pusher API wants it.
    Pusher(App),
}

impl Publishing {
    /// `http://…`, `nats://…` or `pusher://KEY:SECRET@…` as the way, the address and the path.
    ///
    /// # Errors
    /// When it is not such a URL, or its host has no address.
    pub fn parse_url(url: &str) -> io::Result<(Self, SocketAddr, String)> {
        let Some(rest) = url.strip_prefix("pusher://") else {
            let (address, path) = parse_url(url)?;
            return Ok((if url.starts_with("nats://") { Self::Nats } else { Self::Http }, address, path));
        };
        let parts = rest.split_once('@').and_then(|(app, rest)| Some((app.split_once(':')?, rest)));
        let Some(((key, secret), rest)) = parts else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: expected pusher://KEY:SECRET@HOST:PORT/PATH")));
        };
        let (address, path) = parse_url(&format!("http://{rest}"))?;
        Ok((Self::Pusher(App { key: key.to_owned(), secret: secret.to_owned() }), address, path))
    }
}

/// What times in messages count from, in microseconds: they have ten digits for two hours and a half, so that messages are equally long.
pub const TIME_BASE: u64 = 1_000_000_000;

/// A server under load. Templates replace `{channel}`, `{n}` (the subscriber's number), `{t}` (time) and `{pad}`.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where the WebSocket listener is.
    pub address: SocketAddr,
    /// How TLS is spoken, if it is.
    pub tls: Option<Tls>,
    /// What follows it in the URL, query included.
    pub path: String,
    /// Further request headers, each ending in CRLF.
    pub headers: String,
    /// Bytes in the first message that say that commands may be sent; empty: at once after the upgrade.
    pub welcome: String,
    /// The message with which a client introduces itself before anything else; empty: it needs none.
    pub connect: String,
    /// Bytes in the message that says that it is let in.
    pub connected: String,
    /// The message that subscribes; empty: the upgrade subscribes.
    pub subscribe: String,
    /// Bytes in the message that says that the subscription is there; empty: at once after `subscribe`.
    pub ready: String,
    /// A message that asks whether the client is there, and what answers it; empty: it asks with pings of the protocol only.
    pub heartbeat: (String, String),
    /// A message with which a client asks whether the server is there, and bytes of what answers it.
    pub ask: (String, String),
    /// Where messages are published.
    pub api: SocketAddr,
    /// How.
    pub publishing: Publishing,
    /// The path of the publish request.
    pub publish_path: String,
    /// Its further headers, each ending in CRLF.
    pub publish_headers: String,
    /// Its body.
    pub publish_body: String,
    /// What precedes the time in what arrives, byte for byte: where the data is JSON within a string, its quotes are escaped.
    pub mark: String,
    /// The channel.
    pub channel: String,
    /// Over so many channels subscribers are spread; with more than one, its number follows the channel's name.
    pub channels: usize,
    /// Client addresses to spread over, 127.0.1.1 and up; 0 leaves the choice to the kernel (28,000 connections at most).
    pub sources: u8,
    /// The client asks again and again what has come and never sleeps, which takes a core: no write has to wake it.
    pub polls: bool,
}

impl Target {
    /// Tidegate with its public listener at `address` and its internal one at `api`.
    pub fn tidegate(address: SocketAddr, api: SocketAddr, channel: &str) -> Self {
        Self {
            address,
            tls: None,
            path: "/ws".to_owned(),
            headers: String::new(),
            welcome: r#""type":"welcome""#.to_owned(),
            connect: String::new(),
            connected: String::new(),
            subscribe: r#"{"type":"subscribe","id":1,"channel":"{channel}"}"#.to_owned(),
            ready: r#""type":"live""#.to_owned(),
            heartbeat: (r#"{"type":"ping"}"#.to_owned(), r#"{"type":"pong"}"#.to_owned()),
            ask: (r#"{"type":"ping"}"#.to_owned(), r#""type":"pong""#.to_owned()),
            api,
            publishing: Publishing::Http,
            publish_path: "/v1/publish".to_owned(),
            publish_headers: "Content-Type: application/json\r\n".to_owned(),
            publish_body: r#"{"channel":"{channel}","data":{"t":{t},"p":"{pad}"}}"#.to_owned(),
            mark: r#""t":"#.to_owned(),
            channel: channel.to_owned(),
            channels: 1,
            sources: 100,
            polls: false,
        }
    }

    /// The same at another WebSocket URL.
    ///
    /// # Errors
    /// When it is none.
    pub fn at(&self, url: &str) -> io::Result<Self> {
        let (address, path) = parse_url(url)?;
        Ok(Self { address, path, ..self.clone() })
    }

    /// The request that opens subscriber `n`.
    pub fn upgrade(&self, n: usize) -> String {
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{}\r\n",
            self.fill(&self.path, n),
            self.address,
            self.fill(&self.headers, n),
        )
    }

    /// The message that subscribes subscriber `n`.
    pub fn subscription(&self, n: usize) -> String {
        self.fill(&self.subscribe, n)
    }

    /// The request that publishes one message that carries the time `t` and `pad` bytes of padding.
    pub fn publication(&self, t: u64, pad: usize) -> String {
        let (body, path) = (self.body(0, t, pad), self.fill(&self.publish_path, 0));
        match &self.publishing {
            Publishing::Http => self.post(&path, &self.publish_headers, &body),
            Publishing::Nats => nats::publication(&self.channel, &body),
            Publishing::Pusher(app) => {
                let query = app.query(&path, &body, unix_seconds());
                self.post(&format!("{path}?{query}"), &self.publish_headers, &body)
            }
        }
    }

    /// The request that publishes such a message on every channel, as NDJSON.
    pub fn round(&self, t: u64, pad: usize) -> String {
        let lines: String = (0..self.channels).map(|channel| self.body(channel, t, pad) + "\n").collect();
        self.post(&self.fill(&self.publish_path, 0), "Content-Type: application/x-ndjson\r\n", &lines)
    }

    fn body(&self, n: usize, t: u64, pad: usize) -> String {
        self.fill(&self.publish_body, n).replace("{t}", &(TIME_BASE + t).to_string()).replace("{pad}", &"x".repeat(pad))
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> String {
        let (api, length) = (self.api, body.len());
        format!("POST {path} HTTP/1.1\r\nHost: {api}\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
    }

    /// The command line that makes another `bench` subscribe as this one does.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = [
            ("--url", &format!("ws://{}{}", self.address, self.path)),
            ("--channel", &self.channel),
            ("--welcome", &self.welcome),
            ("--connect", &self.connect),
            ("--connected", &self.connected),
            ("--subscribe", &self.subscribe),
            ("--ready", &self.ready),
            ("--heartbeat", &self.heartbeat.0),
            ("--heartbeat-answer", &self.heartbeat.1),
            ("--sources", &self.sources.to_string()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value.clone()])
        .collect();
        arguments.extend(self.headers.lines().flat_map(|header| ["--header".to_owned(), header.to_owned()]));
        arguments
    }

    /// The address that subscriber `n` connects from.
    pub fn source(&self, n: usize) -> Option<SocketAddr> {
        (self.sources > 0).then(|| SocketAddr::from(([127, 0, 1, 1 + (n % usize::from(self.sources)) as u8], 0)))
    }

    fn fill(&self, template: &str, n: usize) -> String {
        let of_many = if self.channels > 1 { format!(":{}", n % self.channels) } else { String::new() };
        template.replace("{channel}", &format!("{}{of_many}", self.channel)).replace("{n}", &n.to_string())
    }
}

/// `ws://127.0.0.1:8000/ws`, `wss://…` or `http://…` as an address and a path.
///
/// # Errors
/// When it is not such a URL, or its host has no address.
pub fn parse_url(url: &str) -> io::Result<(SocketAddr, String)> {
    let refused = || io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: expected ws://HOST:PORT/PATH or http://HOST:PORT/PATH"));
    let rest = ["ws://", "wss://", "http://", "nats://"].iter().find_map(|scheme| url.strip_prefix(scheme)).ok_or_else(refused)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = authority.to_socket_addrs()?.find(SocketAddr::is_ipv4).ok_or_else(refused)?;
    Ok((address, format!("/{path}")))
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_templates() {
        let (address, path) = parse_url("ws://127.0.0.1:9000/a?b=c").unwrap();
        assert_eq!((address.port(), path.as_str()), (9000, "/a?b=c"));
        assert!(parse_url("127.0.0.1:9000").is_err());
        let mut target = Target::tidegate(address, address, "bench:1");
        target.subscribe = "S {channel} {n}".to_owned();
        assert_eq!(target.subscription(7), "S bench:1 7");
        let request = target.publication(5, 3);
        assert!(request.ends_with("\r\n\r\n{\"channel\":\"bench:1\",\"data\":{\"t\":1000000005,\"p\":\"xxx\"}}"), "{request}");
        assert!(request.contains("Content-Length: 55\r\n"), "{request}");
        assert_ne!(target.source(0), target.source(1));
        target.channels = 2;
        assert_eq!(target.subscription(7), "S bench:1:1 7");
        let line = |n: u8| format!("{{\"channel\":\"bench:1:{n}\",\"data\":{{\"t\":1000000005,\"p\":\"x\"}}}}\n");
        let lines = format!("\r\n\r\n{}{}", line(0), line(1));
        assert!(target.round(5, 1).ends_with(&lines), "{}", target.round(5, 1));
    }

    #[test]
    fn the_data_of_a_message_has_the_bytes_that_it_is_said_to_have() {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let target = Target { publish_body: r#"{"t":{t},"p":"{pad}"}"#.to_owned(), ..Target::tidegate(nowhere, nowhere, "topic") };
        for t in [0, 9_999_999, 7_200_000_000] {
            assert_eq!((target.body(0, t, 105).len(), target.body(0, t, 1001).len()), (128, 1024));
        }
    }

    #[test]
    fn the_url_of_the_api_says_how_is_published() {
        let (publishing, address, path) = Publishing::parse_url("pusher://key:secret@127.0.0.1:9000/apps/a/events").unwrap();
        assert_eq!(publishing, Publishing::Pusher(App { key: "key".to_owned(), secret: "secret".to_owned() }));
        assert_eq!(Publishing::parse_url("nats://127.0.0.1:1/").unwrap().0, Publishing::Nats);
        assert!(Publishing::parse_url("pusher://127.0.0.1:9000/apps/a/events").is_err());
        let mut target = Target::tidegate(address, address, "topic");
        (target.publishing, target.publish_path) = (publishing, path);
        let request = target.publication(5, 3);
        assert!(request.starts_with("POST /apps/a/events?auth_key=key&auth_timestamp="), "{request}");
    }
}
