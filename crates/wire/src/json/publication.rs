//! A publication as its `message` frame: the same bytes for every subscriber, made once, in a buffer of the exact size.

use bytes::Bytes;
use tidegate_core::{Body, Publication};

use super::write::{Object, decimal_len, quoted_len};

/// A publication's payload, in one allocation of its exact size.
pub fn encode_publication(publication: &Publication) -> Bytes {
    let mut out = Vec::new();
    encode_publication_into(publication, &mut out);
    out.into()
}

/// Appends a publication's payload. `data` goes out byte for byte as it came in.
pub fn encode_publication_into(publication: &Publication, out: &mut Vec<u8>) {
    out.reserve_exact(publication_len(publication));
    let object = Object::new(out)
        .kind("message")
        .plain("channel", publication.channel.as_str())
        .optional(publication.key.as_deref(), |object, key| object.text("key", key))
        .optional(publication.position, |object, position| object.number("offset", position.offset))
        .optional(publication.id.as_deref(), |object, id| object.text("id", id));
    body(object, &publication.body).end();
}

/// `data`, or that there is none any more.
pub(super) fn body<'a>(object: Object<'a>, body: &Body) -> Object<'a> {
    match body {
        Body::Data(data) => object.raw("data", data),
        Body::Deleted => object.flag("deleted", true),
    }
}

/// The bytes of a publication's payload, for whoever has to say them before it.
pub fn publication_len(publication: &Publication) -> usize {
    const ENVELOPE: usize = r#"{"type":"message","channel":""}"#.len();
    let text = |name: &str, text: Option<&str>| text.map_or(0, |text| name.len() + quoted_len(text));
    let offset = publication.position.map_or(0, |position| r#","offset":"#.len() + decimal_len(position.offset));
    let body = match &publication.body {
        Body::Data(data) => r#","data":"#.len() + data.len(),
        Body::Deleted => r#","deleted":true"#.len(),
    };
    ENVELOPE
        + publication.channel.as_str().len()
        + text(r#","key":"#, publication.key.as_deref())
        + offset
        + text(r#","id":"#, publication.id.as_deref())
        + body
}
