//! What `bench` is asked for.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use bench::target::{Publishing, parse_url};
use bench::{Target, Tls};
use clap::{Args, Parser, Subcommand};

/// Measures a WebSocket server from outside. The defaults speak Tidegate's protocol; other servers need the templates.
#[derive(Parser)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Append the figures as a line of JSON to this file.
    #[arg(long, global = true)]
    pub(crate) json: Option<PathBuf>,
    /// Further text in that line, `NAME=VALUE`.
    #[arg(long, global = true, value_parser = named)]
    pub(crate) note: Vec<(String, String)>,
    #[command(subcommand)]
    pub(crate) measure: Measure,
}

#[derive(Args)]
pub(crate) struct Server {
    /// The server's process, for its memory and CPU.
    #[arg(long, global = true, default_value_t = 0)]
    pub(crate) pid: u32,
    /// The WebSocket URL.
    #[arg(long, global = true, default_value = "ws://127.0.0.1:8000/ws")]
    url: String,
    /// The certificate that a server at `wss://` has to show: a PEM file.
    #[arg(long, global = true)]
    certificate: Option<PathBuf>,
    /// Further headers of the upgrade, `Name: value`.
    #[arg(long, global = true)]
    header: Vec<String>,
    /// A message that asks whether the client is there.
    #[arg(long, global = true, requires = "heartbeat_answer")]
    heartbeat: Option<String>,
    /// What answers it.
    #[arg(long, global = true)]
    heartbeat_answer: Option<String>,
    /// A message with which a client asks whether the server is there, for `inbound`.
    #[arg(long, global = true, requires = "ask_answer")]
    ask: Option<String>,
    /// Bytes of what answers it.
    #[arg(long, global = true)]
    ask_answer: Option<String>,
    /// Where messages are published; `nats://HOST:PORT` speaks NATS' own protocol, `pusher://KEY:SECRET@HOST:PORT/apps/ID/events` signs.
    #[arg(long, global = true, default_value = "http://127.0.0.1:8001/v1/publish")]
    api: String,
    /// Further headers of a publish request.
    #[arg(long, global = true)]
    api_header: Vec<String>,
    /// The channel.
    #[arg(long, global = true, default_value = "bench:event:1")]
    channel: String,
    /// Bytes in the first message that say that commands may be sent; empty: at once.
    #[arg(long, global = true)]
    welcome: Option<String>,
    /// The message with which a client introduces itself before it subscribes; empty: none is needed.
    #[arg(long, global = true)]
    connect: Option<String>,
    /// Bytes in what answers it.
    #[arg(long, global = true)]
    connected: Option<String>,
    /// The message that subscribes, with `{channel}` and `{n}`; empty: none is needed.
    #[arg(long, global = true)]
    subscribe: Option<String>,
    /// Bytes in the answer that say that it is subscribed; empty: at once.
    #[arg(long, global = true)]
    ready: Option<String>,
    /// The body that publishes, with `{channel}`, `{t}` behind `"t":`, and `{pad}`.
    #[arg(long, global = true)]
    publish_body: Option<String>,
    /// What precedes the time in what arrives, byte for byte, if not `"t":`.
    #[arg(long, global = true)]
    mark: Option<String>,
    /// Loopback addresses that clients connect from, from 127.0.1.1 on; 0: the kernel's choice.
    #[arg(long, global = true, default_value_t = 100)]
    sources: u8,
    /// Sleep while nothing comes, so that a server's write has to wake us. Otherwise we poll, where a measure has the core for itself.
    #[arg(long, global = true)]
    pub(crate) sleeps: bool,
}

#[derive(Subcommand)]
pub(crate) enum Measure {
    /// A bare loop that writes ready frames to sockets: what the machine can do at all.
    Floor {
        #[arg(long, default_value_t = 1000)]
        sockets: usize,
        /// Frames per write.
        #[arg(long, default_value_t = 1)]
        per_write: usize,
        /// Bytes of a frame; a message of 128 bytes has 132 with its header.
        #[arg(long, default_value_t = 132)]
        frame_bytes: usize,
        /// Begin the next round over all sockets once the reader has all of the last one.
        #[arg(long)]
        in_rounds: bool,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// The core of the process that reads.
        #[arg(long)]
        reader_core: Option<usize>,
    },
    /// The reading side of `floor`, which starts it.
    #[command(hide = true)]
    FloorReader {
        #[arg(long)]
        address: SocketAddr,
        #[arg(long)]
        sockets: usize,
        #[arg(long)]
        round_bytes: usize,
    },
    /// Memory and CPU of connections that only stay.
    Idle {
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
        /// Seconds over which CPU is counted.
        #[arg(long, default_value_t = 60.0)]
        watch: f64,
    },
    /// One channel, many subscribers: at a pace, or as fast as answers come.
    Fanout {
        #[arg(long, default_value_t = 1000)]
        subscribers: usize,
        /// Messages per second; without it as fast as answers come.
        #[arg(long)]
        rate: Option<f64>,
        /// Publishing connections.
        #[arg(long, default_value_t = 1)]
        publishers: usize,
        /// Unanswered requests on each.
        #[arg(long, default_value_t = 1)]
        pipeline: usize,
        /// Messages that have not reached everybody, at most.
        #[arg(long, default_value_t = 32)]
        on_the_way: u64,
        /// Padding bytes; 105 make the message's data 128 bytes.
        #[arg(long, default_value_t = 105)]
        pad: usize,
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
    },
    /// Some subscribers stop reading.
    Stall {
        #[arg(long, default_value_t = 5000)]
        subscribers: usize,
        #[arg(long, default_value_t = 1000)]
        stalled: usize,
        /// Padding bytes; 1001 make the message's data 1,024 bytes.
        #[arg(long, default_value_t = 1001)]
        pad: usize,
        #[arg(long, default_value_t = 20.0)]
        rate: f64,
        #[arg(long, default_value_t = 20.0)]
        seconds: f64,
    },
    /// Connect, be welcomed, close: over and over.
    Handshake {
        #[arg(long, default_value_t = 64)]
        concurrent: usize,
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
    },
    /// Messages from clients, each understood and answered.
    Inbound {
        #[arg(long, default_value_t = 100)]
        connections: usize,
        /// Unanswered messages on each.
        #[arg(long, default_value_t = 1)]
        in_flight: usize,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// Bytes that hide in the kernel from a server whose reader stopped.
    Kernel {
        #[arg(long, default_value_t = 1001)]
        pad: usize,
        #[arg(long, default_value_t = 1000.0)]
        rate: f64,
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
    },
    /// Some subscribers catch up with a long history while others get messages at a pace.
    Replay {
        #[arg(long, default_value_t = 1000)]
        subscribers: usize,
        #[arg(long, default_value_t = 20.0)]
        rate: f64,
        #[arg(long, default_value_t = 100)]
        resumers: usize,
        /// Messages of the history.
        #[arg(long, default_value_t = 100_000)]
        messages: usize,
        /// The channel of the history.
        #[arg(long, default_value = "bench:log:history")]
        history: String,
        #[arg(long, default_value_t = 105)]
        pad: usize,
        /// How long is measured before anybody catches up.
        #[arg(long, default_value_t = 15.0)]
        seconds: f64,
    },
    /// Those who catch up in `replay`, which starts it.
    #[command(hide = true)]
    Resumers {
        #[arg(long)]
        resumers: usize,
        #[arg(long)]
        messages: usize,
    },
    /// Very many are cut at once: what the others notice.
    Leave {
        #[arg(long, default_value_t = 10_000)]
        leaving: usize,
        #[arg(long, default_value_t = 100)]
        staying: usize,
        /// How often.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// Seconds before, each time.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// The WebSocket URL of another server of the same kind, which is left instead: what the machine alone makes of it.
        #[arg(long)]
        elsewhere: Option<String>,
    },
    /// The same deliveries through one channel or through many.
    Channels {
        #[arg(long, default_value_t = 10_000)]
        subscribers: usize,
        #[arg(long, default_value_t = 1)]
        channels: usize,
        #[arg(long, default_value_t = 105)]
        pad: usize,
        #[arg(long, default_value_t = 4.0)]
        seconds: f64,
    },
    /// Latency on a small channel while messages go out on a huge one.
    Beside {
        /// Subscribers of the huge channel.
        #[arg(long, default_value_t = 19_000)]
        crowd: usize,
        /// Its messages per second.
        #[arg(long, default_value_t = 2.0)]
        crowd_rate: f64,
        /// Subscribers of the small one.
        #[arg(long, default_value_t = 10)]
        subscribers: usize,
        /// Its messages per second.
        #[arg(long, default_value_t = 200.0)]
        rate: f64,
        #[arg(long, default_value_t = 8.0)]
        seconds: f64,
    },
    /// The many of `leave` and `beside`, which start it.
    #[command(hide = true)]
    Crowd {
        #[arg(long)]
        connections: usize,
    },
    /// SIGTERM, with some clients that don't answer. Ends the server.
    Drain {
        #[arg(long, default_value_t = 1000)]
        connections: usize,
        #[arg(long, default_value_t = 10)]
        unresponsive: usize,
        /// Longest time to wait for its end.
        #[arg(long, default_value_t = 90.0)]
        seconds: f64,
        /// The process that gets the signal and has to end, if it is another than the one that is measured.
        #[arg(long)]
        signalled: Option<u32>,
    },
}

/// `NAME=VALUE` apart.
fn named(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Measure {
    /// Whether nobody else of the load is on its core: whoever polls there would only keep the others from it.
    pub(crate) const fn has_a_core(&self) -> bool {
        !matches!(self, Self::Replay { .. } | Self::Resumers { .. } | Self::Leave { .. } | Self::Beside { .. } | Self::Crowd { .. })
    }
}

impl Server {
    /// What is measured.
    pub(crate) fn target(&self) -> io::Result<Target> {
        let (address, path) = parse_url(&self.url)?;
        let (publishing, api, publish_path) = Publishing::parse_url(&self.api)?;
        let lines = |headers: &[String]| headers.iter().map(|header| format!("{header}\r\n")).collect::<String>();
        let mut target = Target::tidegate(address, api, &self.channel);
        target.path = path;
        target.tls = self.tls()?;
        (target.publishing, target.publish_path) = (publishing, publish_path);
        target.headers = lines(&self.header);
        target.publish_headers += &lines(&self.api_header);
        target.sources = self.sources;
        let replace = |template: &mut String, given: &Option<String>| {
            if let Some(given) = given {
                template.clone_from(given);
            }
        };
        replace(&mut target.welcome, &self.welcome);
        replace(&mut target.connect, &self.connect);
        replace(&mut target.connected, &self.connected);
        replace(&mut target.subscribe, &self.subscribe);
        replace(&mut target.ready, &self.ready);
        replace(&mut target.publish_body, &self.publish_body);
        replace(&mut target.heartbeat.0, &self.heartbeat);
        replace(&mut target.heartbeat.1, &self.heartbeat_answer);
        replace(&mut target.ask.0, &self.ask);
        replace(&mut target.ask.1, &self.ask_answer);
        replace(&mut target.mark, &self.mark);
        Ok(target)
    }

    fn tls(&self) -> io::Result<Option<Tls>> {
        match (&self.certificate, self.url.starts_with("wss://")) {
            (Some(certificate), true) => Tls::trusting(certificate).map(Some),
            (None, false) => Ok(None),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "--certificate and --url wss://… belong together")),
        }
    }
}
