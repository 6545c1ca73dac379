//! Refusals as the API says them: a status, and `{"code","message","retry_after_ms"}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidegate::{ErrorCode, PublishError};

/// After so long what is unavailable is worth another try.
const RETRY_MS: u64 = 1000;

/// A refusal.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    #[serde(serialize_with = "name")]
    code: ErrorCode,
    message: Box<str>,
    retry_after_ms: Option<u64>,
    #[serde(skip)]
    status: StatusCode,
}

fn name<S: serde::Serializer>(code: &ErrorCode, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(code.name())
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<Box<str>>) -> Self {
        let retry_after_ms = (code == ErrorCode::Unavailable).then_some(RETRY_MS);
        Self { code, message: message.into(), retry_after_ms, status: status(code) }
    }

    /// Whether the same request may be taken later.
    pub(super) const fn may_pass(&self) -> bool {
        self.retry_after_ms.is_some()
    }

    /// With another status than its code's.
    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        if status != StatusCode::SERVICE_UNAVAILABLE {
            self.retry_after_ms = None;
        }
        self
    }

    /// A field of the request is missing or wrong.
    pub(super) fn field(name: &str, problem: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::BadRequest, format!("{name}: {problem}"))
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, retry_after_ms) = (self.status, self.retry_after_ms);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        if let Some(ms) = retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

const fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest | ErrorCode::UnknownType | ErrorCode::AlreadySubscribed | ErrorCode::NotSubscribed => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden | ErrorCode::Revoked => StatusCode::FORBIDDEN,
        ErrorCode::UnknownChannel => StatusCode::NOT_FOUND,
        ErrorCode::LimitExceeded => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
