//! A resource tree served over HTTP/1.1, and routes.

mod channel;
mod http1;
mod klein;
pub mod pages;
mod request;
mod resource;
mod response;
mod routes;
mod site;
mod tree;

pub use http::header;
pub use http::{Method, StatusCode};

pub use klein::Klein;
pub use request::{ClientGoneError, Finished, Request};
pub use resource::{DeferredResource, NOT_DONE_YET, Rendered, Resource};
pub use response::Response;
pub use routes::{FromParam, ParamValue, Params, PatternError};
pub use site::Site;
pub use tree::Tree;
