//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tidegate_client::Since;

/// Tidegate, a WebSocket gateway for live data that behaves on the bad day.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Try it:
  tidegate dev                                      a gateway on this machine, and a page that shows it
  make 2>&1 | tidegate publish build:42             a build log, live
  tidegate subscribe build:42 --since earliest      from its first line, whenever you come

Exit status: 0 done, 1 failed, 2 bad usage, 3 drained at the deadline with connections cut.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a gateway on loopback with an embedded log, demo channels and the live page
    #[command(after_help = "\
Needs no configuration: channels demo:event:**, demo:log:**, demo:state:**, build:* (log) and orders:* (state) are there, anonymous \
sessions may use them, and data is kept in ./tidegate-data. Any key of the configuration can be set by the environment:
  TIDEGATE__PUBLIC__LISTEN=127.0.0.1:9000 tidegate dev")]
    Dev,
    /// Runs a gateway from a configuration
    #[command(after_help = "\
SIGTERM drains: clients are sent away evenly and the process ends with 0, or with 3 if some had to be cut at the deadline. A second \
SIGTERM skips to the end. SIGHUP, or a changed file, reloads what can be reloaded.
  tidegate serve --config /etc/tidegate/tidegate.toml")]
    Serve(Configuration),
    /// Says what a configuration means and what is risky in it
    #[command(after_help = "\
Exit status 1 if it is refused. The environment counts as it does for `serve`.
  tidegate check --config tidegate.toml")]
    Check(Configuration),
    /// Publishes one message, or one per line of standard input
    #[command(after_help = "\
Lines that are not JSON become JSON strings. Order is kept, every message has an id, and what a lost gateway left unacknowledged is \
repeated with the same id: nothing is lost, nothing comes twice. Exit status 0 only if everything was acknowledged.
  tidegate publish chat:1 --data '{\"text\":\"hello\"}'
  tidegate publish orders:42 --key o-17 --data '{\"state\":\"paid\"}'
  make 2>&1 | tidegate publish build:42")]
    Publish(Publish),
    /// Prints what arrives on channels; reconnects and resumes
    #[command(after_help = "\
Prints each message's data on a line, strings without their quotes; gaps go to standard error. With --json, whole frames.
  tidegate subscribe build:42 --since earliest
  tidegate subscribe orders:1 orders:2 --json
  tidegate subscribe build:42 --since last:100 | grep --line-buffered error")]
    Subscribe(Subscribe),
    /// Sends a gateway's clients away and ends it
    #[command(after_help = "  tidegate drain --api http://127.0.0.1:8001")]
    Drain(Api),
    /// Writes the configuration reference
    #[command(hide = true)]
    ConfigReference,
}

/// Which configuration.
#[derive(Debug, Args)]
pub(crate) struct Configuration {
    /// The file
    #[arg(long, short, default_value = "tidegate.toml", value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Where the HTTP API is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Api {
    /// Address of the internal listener
    #[arg(long, env = "TIDEGATE_API", default_value = "http://127.0.0.1:8001", value_name = "URL", value_parser = http_url)]
    pub(crate) api: url::Url,
    /// The key of the API. Better in the environment than on a command line that others can see
    #[arg(long, env = "TIDEGATE_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) api_key: Option<ApiKey>,
}

/// A key that is not shown.
#[derive(Clone)]
pub(crate) struct ApiKey(pub(crate) String);

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("ApiKey(…)")
    }
}

impl std::str::FromStr for ApiKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_header = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_header { Ok(Self(text.to_owned())) } else { Err("a key is printable ASCII without spaces") }
    }
}

/// `tidegate publish`.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The channel, as build:42
    #[arg(value_parser = channel)]
    pub(crate) channel: String,
    /// The entry of a state channel that it replaces
    #[arg(long, value_name = "K")]
    pub(crate) key: Option<String>,
    /// The message as JSON; without it, every line of standard input is one
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub(crate) data: Option<String>,
    /// How long to repeat what a lost gateway left unacknowledged
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) retry: Duration,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// `tidegate subscribe`.
#[derive(Debug, Args)]
pub(crate) struct Subscribe {
    /// Channels, as build:42
    #[arg(required = true, value_parser = channel, value_name = "CHANNEL")]
    pub(crate) channels: Vec<String>,
    /// From where: earliest, EPOCH:OFFSET or last:N. Without it, what is published from now on (and the state of state channels)
    #[arg(long, value_parser = since, value_name = "WHERE")]
    pub(crate) since: Option<Since>,
    /// Print whole frames instead of data
    #[arg(long)]
    pub(crate) json: bool,
    /// Where clients connect
    #[arg(long, env = "TIDEGATE_URL", default_value = "ws://127.0.0.1:8000/ws", value_name = "URL", value_parser = ws_url)]
    pub(crate) url: url::Url,
}

fn channel(text: &str) -> Result<String, String> {
    tidegate::ChannelName::new(text).map(|name| name.as_str().to_owned()).map_err(|error| error.to_string())
}

fn json(text: &str) -> Result<String, String> {
    let value: &serde_json::value::RawValue = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    Ok(value.get().to_owned())
}

fn since(text: &str) -> Result<Since, String> {
    const SHAPE: &str = "is earliest, EPOCH:OFFSET or last:N";
    match text.split_once(':') {
        None if text == "earliest" => Ok(Since::Earliest),
        Some(("last", count)) => count.parse().map(Since::Last).map_err(|_| SHAPE.to_owned()),
        Some((epoch, offset)) if !epoch.is_empty() => offset
            .parse()
            .map(|offset| Since::Position(tidegate_client::Cursor { epoch: epoch.into(), offset }))
            .map_err(|_| SHAPE.to_owned()),
        _ => Err(SHAPE.to_owned()),
    }
}

fn http_url(text: &str) -> Result<url::Url, String> {
    url_of(text, &["http"])
}

fn ws_url(text: &str) -> Result<url::Url, String> {
    url_of(text, &["ws", "wss"])
}

fn url_of(text: &str, schemes: &[&str]) -> Result<url::Url, String> {
    let url = url::Url::parse(text).map_err(|error| error.to_string())?;
    let good = schemes.contains(&url.scheme()) && url.host().is_some();
    if good { Ok(url) } else { Err(format!("has to be an address that begins with {}://", schemes.join(":// or "))) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_page_has_every_command_with_its_options_and_no_other() {
        let page = include_str!("../../../docs/reference/cli.md");
        let option = |row: &'static str| row.strip_prefix("| `--")?.split(['`', ' ']).next();
        let section = |section: &'static str| {
            let name = section.split(['`', ' ']).next().unwrap_or_default();
            (name.to_owned(), section.lines().filter_map(option).map(str::to_owned).collect::<BTreeSet<_>>())
        };
        let page: BTreeSet<_> = page.split("\n## `tidegate ").skip(1).map(section).collect();
        let command = Cli::command();
        let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
        let ours = shown.map(|command| {
            let options = command.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned));
            (command.get_name().to_owned(), options.collect::<BTreeSet<_>>())
        });
        assert_eq!(page, ours.collect());
    }
}
