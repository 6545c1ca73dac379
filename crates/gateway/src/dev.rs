//! `tidegate dev`: a gateway that needs no configuration, and says what to open and what to type.

use std::net::SocketAddr;

use crate::config::{self, Environment, LoadError, Loaded};

/// Its configuration, overridden by the environment. Risks are not told: on loopback they are the point.
pub(crate) fn configuration(environment: &Environment) -> Result<Loaded, LoadError> {
    Ok(config::read(include_str!("dev.toml"), environment)?)
}

/// What to open and what to type.
pub(crate) fn welcome(public: SocketAddr, internal: SocketAddr, path: &str, data: &str) -> String {
    let url = format!("ws://{public}{path}");
    let with_url = if url == "ws://127.0.0.1:8000/ws" { String::new() } else { format!(" --url {url}") };
    let api = format!("http://{internal}");
    let with_api = if api == "http://127.0.0.1:8001" { String::new() } else { format!(" --api {api}") };
    format!(
        "\
Tidegate is running. Open

    http://{public}/

and type in other terminals

    make 2>&1 | tidegate publish build:demo{with_api}
    tidegate subscribe build:demo --since earliest{with_url}
    tidegate publish orders:demo --key A-1 --data '{{\"drink\":\"Cortado\",\"status\":\"ordered\"}}'{with_api}

Clients connect to {url}, backends publish at {api}/v1/publish, data is kept in {data}.
Channels: demo:event:**, demo:log:**, demo:state:**, build:* (log), orders:* (state). Ctrl-C ends it.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_needs_nothing() {
        let loaded = configuration(&Environment::default()).unwrap();
        assert_eq!(loaded.config.channel.len(), 5);
        assert!(loaded.config.public.listen.ip().is_loopback());
    }

    #[test]
    fn the_environment_counts() {
        let environment = Environment([("TIDEGATE__PUBLIC__LISTEN".to_owned(), "127.0.0.1:9000".to_owned())].into());
        assert_eq!(configuration(&environment).unwrap().config.public.listen.port(), 9000);
    }
}
