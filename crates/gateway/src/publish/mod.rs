//! `tidegate publish`: lines in, acknowledged messages out; across lost gateways, in order, each once.

mod envelope;
mod exchange;
mod input;
mod progress;
mod window;

use std::time::Duration;

use tokio::time::Instant;

use crate::cli;
use crate::exit::{Exit, Failure};
use crate::http::CallError;
use envelope::Envelope;
use exchange::{Ended, Exchange};
use input::Input;
use progress::Progress;
use window::Window;

/// The first pause before another try, and the longest: a gateway that restarts is found within a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Publishes until the input ends.
pub(crate) fn run(wish: cli::Publish) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let refused = runtime.block_on(publish_all(wish))?;
    // A thread may still wait for standard input; it ends with the process.
    runtime.shutdown_background();
    Ok(if refused == 0 { Exit::Done } else { Exit::Failed })
}

/// How many messages were refused; everything else was acknowledged.
async fn publish_all(wish: cli::Publish) -> Result<u64, Failure> {
    let envelope = Envelope::new(&wish.channel, wish.key.as_deref());
    let mut input = Input::of(wish.data);
    let mut window = Window::default();
    let mut progress = Progress::new();
    let mut lost_since = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let acknowledged = window.acknowledged();
        let error = match Exchange::run(&wish.api, &envelope, &mut input, &mut window, &mut progress).await {
            Ok(Ended::All) => {
                progress.done(&window);
                return Ok(window.refused());
            }
            Ok(Ended::Unavailable(error)) => CallError::Lost(error),
            Err(error) => error,
        };
        if window.acknowledged() > acknowledged {
            (lost_since, pause) = (None, FIRST_PAUSE);
        }
        let since = *lost_since.get_or_insert_with(Instant::now);
        if !error.may_pass() || since.elapsed() + pause > wish.retry {
            progress.done(&window);
            let text = format!("{error}; {} acknowledged, {} not", window.acknowledged(), window.waiting());
            return Err(Failure::Gateway(text));
        }
        progress.lost(&error.to_string(), &window);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
