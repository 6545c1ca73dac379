//! `tidegate subscribe`: prints what arrives on channels, across reconnects.

use std::io::{self, Write};

use futures_util::stream::{SelectAll, select_all};
use futures_util::{FutureExt, StreamExt};
use serde::Serialize;
use tidegate_client::{Client, Event, Gap, Message, Snapshot, Subscription};

use crate::cli;
use crate::config::Environment;
use crate::exit::{Exit, Failure};
use crate::logging;

/// Events that are printed before standard output is flushed, if they are there already.
const TOGETHER: usize = 256;

/// Prints until every channel has ended, or nobody reads any more.
pub(crate) fn run(wish: cli::Subscribe, environment: &Environment) -> Result<Exit, Failure> {
    logging::start(environment.get(logging::VARIABLE).unwrap_or("warn"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let printed = runtime.block_on(print_all(wish));
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(error) => Err(error.into()),
        // A subscription never ends by itself: it was refused.
        Ok(()) => Ok(Exit::Failed),
    }
}

async fn print_all(wish: cli::Subscribe) -> io::Result<()> {
    let client = Client::builder(wish.url).build();
    let mut events = select_all(wish.channels.iter().map(|channel| {
        let mut builder = client.channel(channel.as_str());
        if let Some(since) = &wish.since {
            builder = builder.since(since.clone());
        }
        Named { channel: channel.clone(), events: builder.subscribe() }
    }));
    let mut printer = Printer { json: wish.json, out: io::BufWriter::new(io::stdout().lock()) };
    while let Some((channel, event)) = events.next().await {
        printer.print(&channel, event)?;
        printer.print_ready(&mut events)?;
        printer.out.flush()?;
    }
    Ok(())
}

/// A subscription that says which channel it is of.
struct Named {
    channel: String,
    events: Subscription,
}

impl futures_util::Stream for Named {
    type Item = (String, Event);

    fn poll_next(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<Self::Item>> {
        let channel = self.channel.clone();
        self.events.poll_next_unpin(context).map(|event| Some((channel, event?)))
    }
}

struct Printer<W> {
    json: bool,
    out: W,
}

/// A frame as it is on the wire.
#[derive(Serialize)]
struct Frame<'a, T> {
    r#type: &'static str,
    #[serde(flatten)]
    of: &'a T,
}

impl<W: Write> Printer<W> {
    fn print_ready(&mut self, events: &mut SelectAll<Named>) -> io::Result<()> {
        for _ in 1..TOGETHER {
            let Some(Some((channel, event))) = events.next().now_or_never() else { break };
            self.print(&channel, event)?;
        }
        Ok(())
    }

    fn print(&mut self, channel: &str, event: Event) -> io::Result<()> {
        match event {
            Event::Message(message) => self.message(&message),
            Event::Snapshot(snapshot) => self.snapshot(&snapshot),
            Event::Gap(gap) if self.json => self.frame("gap", &gap),
            Event::Gap(gap) => writeln!(io::stderr(), "tidegate: {}", describe(&gap)),
            Event::Stopped(stop) => writeln!(io::stderr(), "tidegate: {channel}: {stop}"),
            _ => Ok(()),
        }
    }

    fn message(&mut self, message: &Message) -> io::Result<()> {
        if self.json {
            return self.frame("message", message);
        }
        // A deletion has no data.
        if message.deleted { Ok(()) } else { self.data(message.data.get()) }
    }

    fn snapshot(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        if self.json {
            return self.frame("snapshot", snapshot);
        }
        snapshot.entries.iter().try_for_each(|entry| self.data(entry.data.get()))
    }

    fn frame(&mut self, kind: &'static str, of: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, &Frame { r#type: kind, of })?;
        self.out.write_all(b"\n")
    }

    /// JSON on a line; a string without its quotes.
    fn data(&mut self, json: &str) -> io::Result<()> {
        match serde_json::from_str::<std::borrow::Cow<'_, str>>(json) {
            Ok(text) => self.out.write_all(text.as_bytes())?,
            // JSON may have line ends between its parts; a line of output has none.
            Err(_) => json.split(['\n', '\r']).try_for_each(|part| self.out.write_all(part.as_bytes()))?,
        }
        self.out.write_all(b"\n")
    }
}

fn describe(gap: &Gap) -> String {
    let missed = match gap.missed {
        None => "messages are".to_owned(),
        Some(1) => "1 message is".to_owned(),
        Some(missed) => format!("{missed} messages are"),
    };
    let range = match (gap.from, gap.to) {
        (Some(from), Some(to)) => format!(" ({from} to {to})"),
        _ => String::new(),
    };
    format!("gap on {}: {missed} missing{range}: {}", gap.channel, gap.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_printed_as_one_line() {
        let mut printer = Printer { json: false, out: Vec::new() };
        for json in [r#""a \"quoted\" line""#, "{\n  \"a\": 1\n}", "1.50", "null", r#""\u001b[31mred""#] {
            printer.data(json).unwrap();
        }
        assert_eq!(String::from_utf8(printer.out).unwrap(), "a \"quoted\" line\n{  \"a\": 1}\n1.50\nnull\n\u{1b}[31mred\n");
    }

    #[test]
    fn gaps_are_told_in_words() {
        let gap = |missed, from, to| Gap { channel: "a".into(), missed, from, to, reason: "slow".into() };
        assert_eq!(describe(&gap(Some(8), Some(1), Some(8))), "gap on a: 8 messages are missing (1 to 8): slow");
        assert_eq!(describe(&gap(Some(1), None, None)), "gap on a: 1 message is missing: slow");
        assert_eq!(describe(&gap(None, None, None)), "gap on a: messages are missing: slow");
    }
}
