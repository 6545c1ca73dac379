//! Publishing by the Pusher HTTP API: a POST whose query is signed with the app's secret.

use aws_lc_rs::hmac;
use md5::{Digest, Md5};

/// What an app of a Pusher server publishes with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Its public name.
    pub key: String,
    /// What requests are signed with.
    pub secret: String,
}

impl App {
    /// The query of a POST of `body` to `path`, signed at `unix_seconds`: servers refuse one that is more than ten minutes off.
    pub(crate) fn query(&self, path: &str, body: &str, unix_seconds: u64) -> String {
        let Self { key, secret } = self;
        let body_md5 = hex(&Md5::digest(body));
        // The signature wants the parameters in the order of their names.
        let query = format!("auth_key={key}&auth_timestamp={unix_seconds}&auth_version=1.0&body_md5={body_md5}");
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = hex(hmac::sign(&secret, format!("POST\n{path}\n{query}").as_bytes()).as_ref());
        format!("{query}&auth_signature={signature}")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of <https://pusher.com/docs/channels/library_auth_reference/rest-api/>.
    #[test]
    fn a_request_is_signed_as_in_pushers_example() {
        let app = App { key: "278d425bdf160c739803".to_owned(), secret: "7ad3773142a6692b25b8".to_owned() };
        let body = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        assert_eq!(
            app.query("/apps/3/events", body, 1_353_088_179),
            "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0&body_md5=ec365a775a4cd0599faeb73354201b6f\
             &auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
        );
    }
}
