//! `tidegate drain`: asks a gateway to send its clients away and end.

use crate::cli::Api;
use crate::exit::{self, Exit, Failure};
use crate::http;

/// Asks it.
pub(crate) fn run(api: &Api) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(http::post_empty(api, "/v1/drain")).map_err(|error| Failure::Gateway(error.to_string()))?;
    exit::say("draining\n")?;
    Ok(Exit::Done)
}
