//! A publication's message: written straight into its buffer, the same bytes for every subscriber.

use tidegate_core::{Body, Publication};

use super::{push_number, push_string};

/// `{"type":"message","channel":…,"key":…,"offset":…,"id":…,"data":…}`, with only the fields that there are.
pub fn encode_publication(publication: &Publication) -> Vec<u8> {
    // What it is charged for in an outbox covers the envelope; escapes in ids and keys may need a little more.
    let mut out = Vec::with_capacity(publication.cost() + 32);
    out.extend_from_slice(br#"{"type":"message","channel":""#);
    out.extend_from_slice(publication.channel.as_str().as_bytes());
    out.push(b'"');
    push_entry(publication, &mut out);
    out.push(b'}');
    out
}

/// `,"key":…,"offset":…,"id":…,"data":…`, as messages and the entries of a snapshot have them.
pub(super) fn push_entry(publication: &Publication, out: &mut Vec<u8>) {
    if let Some(key) = &publication.key {
        out.extend_from_slice(br#","key":"#);
        push_string(key, out);
    }
    if let Some(position) = publication.position {
        out.extend_from_slice(br#","offset":"#);
        push_number(position.offset, out);
    }
    if let Some(id) = &publication.id {
        out.extend_from_slice(br#","id":"#);
        push_string(id, out);
    }
    match &publication.body {
        Body::Data(data) => {
            out.extend_from_slice(br#","data":"#);
            out.extend_from_slice(data);
        }
        Body::Deleted => out.extend_from_slice(br#","deleted":true"#),
    }
}
