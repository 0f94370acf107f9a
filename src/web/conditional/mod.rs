//! Conditional requests and ranges: what a client gets that has a copy already, or wants a part.
//!
//! [`evaluate::evaluate`] decides, in the order of RFC 9110, 13.2.2, from what the request says
//! ([`evaluate::Conditions`]) and what is known of the body ([`evaluate::Representation`]):
//!
//! | asked in this order                                     | if not so                          |
//! |---------------------------------------------------------|------------------------------------|
//! | `If-Match` names the tag, strongly                      | 412                                |
//! | without that: unmodified by `If-Unmodified-Since`       | 412                                |
//! | `If-None-Match` does not name the tag, weakly           | 304 for GET and HEAD, 412 for others |
//! | without that: modified after `If-Modified-Since`        | 304; asked for GET and HEAD only   |
//! | `Range`, if `If-Range` is not there or still holds      | the whole; asked for GET only      |
//!
//! [`apply`] does so to a response that was given validators, just before it is sent. Parts are cut out
//! of bytes, and out of files as they are read; any other source is sent as a whole.

mod apply;
pub(super) mod evaluate;

pub(super) use apply::{Validators, apply, set_and_decide};
