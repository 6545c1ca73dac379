//! One WebSocket: a task that connects, then reads and writes until either side is done.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use crate::address::Address;
use crate::machine::Input;

/// How long a server may take to answer our close before the connection is cut.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// How long a connection may take to be there; the machine gives up on it too, this ends the task.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// A socket's task, as the driver holds it. Dropped, the task ends the connection.
#[derive(Debug)]
pub(crate) struct Socket(mpsc::UnboundedSender<Out>);

#[derive(Debug)]
enum Out {
    Text(String),
    Close(u16, &'static str),
}

impl Socket {
    /// Writes a text. The machine bounds what is under way by the server's `in_flight`.
    pub(crate) fn send(&self, text: String) {
        drop(self.0.send(Out::Text(text)));
    }

    pub(crate) fn close(self, code: u16, reason: &'static str) {
        drop(self.0.send(Out::Close(code, reason)));
    }
}

/// Opens a connection; what happens to it is told as inputs with this attempt number.
pub(crate) fn open(attempt: u64, address: Address, authenticates: bool, inputs: mpsc::Sender<Input>) -> Socket {
    let (out, orders) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (code, reason) = serve(attempt, address, authenticates, &inputs, orders).await;
        drop(inputs.send(Input::Closed { attempt, code, reason }).await);
    });
    Socket(out)
}

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Works until the connection is over; the close code and reason.
async fn serve(
    attempt: u64,
    address: Address,
    authenticates: bool,
    inputs: &mpsc::Sender<Input>,
    mut orders: mpsc::UnboundedReceiver<Out>,
) -> (u16, Box<str>) {
    let connected = tokio::select! {
        connected = tokio::time::timeout(CONNECT_WITHIN, connect(address)) => connected,
        () = given_up(&mut orders) => return (1006, "given up".into()),
    };
    let mut stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return refused(&error, authenticates),
        Err(_) => return (1006, "no connection in time".into()),
    };
    if inputs.send(Input::Opened { attempt }).await.is_err() {
        return (1006, "given up".into());
    }
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Out::Text(text)) => if let Err(error) = stream.send(Message::text(text)).await {
                    return (1006, error.to_string().into());
                },
                Some(Out::Close(code, reason)) => return close(stream, code, reason).await,
                None => return close(stream, 1000, "closed").await,
            },
            // Nothing is read that nobody takes.
            (permit, message) = read(&mut stream, inputs) => match message {
                Some(Ok(Message::Text(text))) => permit.send(Input::Received { attempt, text: text.as_str().into() }),
                Some(Ok(Message::Close(frame))) => {
                    // The answer to the close frame goes out with the next read.
                    drop(tokio::time::timeout(CLOSE_WITHIN, stream.next()).await);
                    return frame.map_or((1005, "".into()), |frame| (frame.code.into(), frame.reason.as_str().into()));
                }
                Some(Ok(Message::Binary(_))) => return close(stream, 1003, "binary").await,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return (1006, error.to_string().into()),
                None => return (1006, "".into()),
            },
        }
    }
}

async fn given_up(orders: &mut mpsc::UnboundedReceiver<Out>) {
    while let Some(Out::Text(_)) = orders.recv().await {}
}

async fn read<'a>(stream: &mut Stream, inputs: &'a mpsc::Sender<Input>) -> (mpsc::Permit<'a, Input>, Option<Result<Message, Error>>) {
    match inputs.reserve().await {
        Ok(permit) => (permit, stream.next().await),
        // The driver has ended, and with it whoever would end this task: its order is on its way.
        Err(_) => std::future::pending().await,
    }
}

async fn connect(address: Address) -> Result<Stream, Error> {
    let mut request = address.url.as_str().into_client_request()?;
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("tidegate.v1.json"));
    let config = WebSocketConfig::default().read_buffer_size(16 * 1024);
    let tls = address.tls.map(Connector::Rustls);
    connect_async_tls_with_config(request, Some(config), true, tls).await.map(|(stream, _)| stream)
}

async fn close(mut stream: Stream, code: u16, reason: &'static str) -> (u16, Box<str>) {
    let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
    let closing = async {
        stream.close(Some(frame)).await?;
        while let Some(message) = stream.next().await {
            message?;
        }
        Ok::<(), Error>(())
    };
    drop(tokio::time::timeout(CLOSE_WITHIN, closing).await);
    (1006, reason.into())
}

/// What a refusal before the 101 means: HTTP says more than the 1006 that browsers see.
fn refused(error: &Error, authenticates: bool) -> (u16, Box<str>) {
    let Error::Http(response) = error else { return (1006, error.to_string().into()) };
    let status = response.status();
    let said = response.body().as_ref().map(|body| String::from_utf8_lossy(body).into_owned()).unwrap_or_default();
    let message = serde_json::from_str::<serde_json::Value>(&said).ok().and_then(|body| body["message"].as_str().map(str::to_owned));
    let text = format!("the server refuses: HTTP {status}: {}", message.unwrap_or_default().replace(';', ","));
    let retry = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let text = retry.map_or_else(|| text.clone(), |seconds| format!("{text};retry_ms={}", seconds.saturating_mul(1000).min(999_999_999)));
    let code = match status {
        StatusCode::UNAUTHORIZED if authenticates => 4201,
        StatusCode::UNAUTHORIZED => 4401,
        StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST | StatusCode::UPGRADE_REQUIRED => 4403,
        _ => 1006,
    };
    (code, text.into())
}
