//! Resources: the things that URLs name.
//!
//! A request walks down from the root of its [`Site`](super::Site). At each step the resource is
//! asked for the child that the next path segment names, until a [leaf](Resource::is_leaf) is
//! reached or the path ends; the resource found then [renders](Resource::render). What it returns
//! is a [`Rendered`]: the answer itself, a promise of one, or [`NOT_DONE_YET`].

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use deferred_reactor::{Deferred, Failure, Resolver};
use http::{Method, StatusCode};

use super::{BodyPolicy, Html, Request, RequestHead, Response, Tree};

/// Something that a URL names (Twisted's `Resource`).
///
/// A request walks down from the root of its [`Site`](super::Site), one path segment at a time, to
/// the child that the segment names ([`children`](Self::children), then
/// [`get_child`](Self::get_child)), until a [leaf](Self::is_leaf) is reached or the path ends. The
/// resource found then [renders](Self::render).
///
/// Most override one or two of the `render_*` methods, and nothing else:
///
/// ```
/// use prometheus_deferred::web::{Html, Rendered, Request, Resource};
///
/// struct Hello;
///
/// impl Resource for Hello {
///     fn render_get(&self, _request: Request) -> Rendered {
///         Html("<h1>Hello!</h1>").into()
///     }
/// }
/// ```
///
/// A resource that takes other methods than GET and HEAD says so in
/// [`allowed_methods`](Self::allowed_methods), for the `Allow` field of a refusal. A HEAD request
/// goes to `render_get` unless `render_head` is overridden; the body is not sent.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a resource",
    note = "`impl Resource for {Self}` needs one method for each HTTP method that it answers, such as \
            `render_get`; a function becomes a resource as a route of a `Klein` app, and text, bytes and \
            a `Response` are what the methods return, by `.into()`"
)]
pub trait Resource: 'static {
    /// Answers a request for this resource.
    ///
    /// Calls the `render_*` method for the method of the request. Overriding it takes over all
    /// methods, unknown ones included.
    fn render(&self, request: Request) -> Rendered {
        match *request.method() {
            Method::GET => self.render_get(request),
            Method::HEAD => self.render_head(request),
            Method::POST => self.render_post(request),
            Method::PUT => self.render_put(request),
            Method::DELETE => self.render_delete(request),
            Method::PATCH => self.render_patch(request),
            Method::OPTIONS => self.render_options(request),
            Method::TRACE | Method::CONNECT => Rendered::NotAllowed,
            _ => {
                let method = request.method().as_str();
                let message = format!("This server does not know the method {method}.");
                Response::page(StatusCode::NOT_IMPLEMENTED, message).into()
            }
        }
    }

    /// Answers GET, and HEAD unless that has a method of its own.
    fn render_get(&self, request: Request) -> Rendered {
        drop(request);
        Rendered::NotAllowed
    }

    /// Answers HEAD; the body is left out when it is sent.
    fn render_head(&self, request: Request) -> Rendered {
        self.render_get(request)
    }

    /// Answers POST.
    fn render_post(&self, request: Request) -> Rendered {
        drop(request);
        Rendered::NotAllowed
    }

    /// Answers PUT.
    fn render_put(&self, request: Request) -> Rendered {
        drop(request);
        Rendered::NotAllowed
    }

    /// Answers DELETE.
    fn render_delete(&self, request: Request) -> Rendered {
        drop(request);
        Rendered::NotAllowed
    }

    /// Answers PATCH.
    fn render_patch(&self, request: Request) -> Rendered {
        drop(request);
        Rendered::NotAllowed
    }

    /// Answers OPTIONS.
    fn render_options(&self, request: Request) -> Rendered {
        drop(request);
        Rendered::NotAllowed
    }

    /// What becomes of a request's body: asked when a request with a body has come as far as its
    /// head, and this resource was found for it. See [`BodyPolicy`].
    ///
    /// ```
    /// use prometheus_deferred::web::{BodyPolicy, Rendered, Request, RequestHead, Resource, Method};
    ///
    /// struct Upload;
    ///
    /// impl Resource for Upload {
    ///     fn allowed_methods(&self) -> Vec<Method> {
    ///         vec![Method::PUT]
    ///     }
    ///     fn body_policy(&self, head: &RequestHead) -> BodyPolicy {
    ///         match head.header("X-Token") {
    ///             Some(_) => BodyPolicy::stream(10 << 30),
    ///             None => BodyPolicy::Refuse,
    ///         }
    ///     }
    ///     fn render_put(&self, mut request: Request) -> Rendered {
    ///         request.take_body().save("/tmp/upload").map(|size| format!("{size} bytes\n")).into()
    ///     }
    /// }
    /// ```
    fn body_policy(&self, head: &RequestHead) -> BodyPolicy {
        BodyPolicy::Collect {
            max_bytes: head.max_body_bytes(),
        }
    }

    /// The methods that this resource answers, for the `Allow` field when another comes.
    ///
    /// HEAD is added where there is GET. A method that is not listed here and yet has a `render_*` method
    /// is answered all the same, with one exception: once a resource lists more than GET, a client
    /// that asks before it sends a body (`Expect: 100-continue`), or announces one that is too long,
    /// is refused with 405 at once for a method that is not listed.
    fn allowed_methods(&self) -> Vec<Method> {
        vec![Method::GET]
    }

    /// The child that `segment` names, where none was put; `None` is answered with 404.
    ///
    /// The segment is percent-decoded. It stands in the request's
    /// [`prepath`](Request::prepath) by now, and what is left in the
    /// [`postpath`](Request::postpath).
    fn get_child(&self, segment: &str, request: &Request) -> Option<Rc<dyn Resource>> {
        let _ = (segment, request);
        None
    }

    /// The children that were put, for a resource that has both these and a
    /// [`get_child`](Self::get_child).
    fn children(&self) -> Option<&Tree> {
        None
    }

    /// The whole lookup of a child: those that were put first, then
    /// [`get_child`](Self::get_child). Overriding it sees every segment (Twisted's
    /// `getChildWithDefault`).
    fn get_child_with_default(&self, segment: &str, request: &Request) -> Option<Rc<dyn Resource>> {
        match self.children().and_then(|children| children.child(segment)) {
            Some(child) => {
                request.head().walked_to_named_child();
                Some(child)
            }
            None => self.get_child(segment, request),
        }
    }

    /// Whether the walk ends here, whatever is left of the path.
    fn is_leaf(&self) -> bool {
        false
    }

    /// What it is called when it is slow.
    #[doc(hidden)]
    fn type_name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// Whether it finds the route of a request itself, when it renders.
    #[doc(hidden)]
    fn has_routes(&self) -> bool {
        false
    }
}

impl<R: Resource + ?Sized> Resource for Rc<R> {
    fn render(&self, request: Request) -> Rendered {
        (**self).render(request)
    }

    fn render_get(&self, request: Request) -> Rendered {
        (**self).render_get(request)
    }

    fn render_head(&self, request: Request) -> Rendered {
        (**self).render_head(request)
    }

    fn render_post(&self, request: Request) -> Rendered {
        (**self).render_post(request)
    }

    fn render_put(&self, request: Request) -> Rendered {
        (**self).render_put(request)
    }

    fn render_delete(&self, request: Request) -> Rendered {
        (**self).render_delete(request)
    }

    fn render_patch(&self, request: Request) -> Rendered {
        (**self).render_patch(request)
    }

    fn render_options(&self, request: Request) -> Rendered {
        (**self).render_options(request)
    }

    fn body_policy(&self, head: &RequestHead) -> BodyPolicy {
        (**self).body_policy(head)
    }

    fn allowed_methods(&self) -> Vec<Method> {
        (**self).allowed_methods()
    }

    fn get_child(&self, segment: &str, request: &Request) -> Option<Rc<dyn Resource>> {
        (**self).get_child(segment, request)
    }

    fn children(&self) -> Option<&Tree> {
        (**self).children()
    }

    fn get_child_with_default(&self, segment: &str, request: &Request) -> Option<Rc<dyn Resource>> {
        (**self).get_child_with_default(segment, request)
    }

    fn is_leaf(&self) -> bool {
        (**self).is_leaf()
    }

    fn type_name(&self) -> &'static str {
        (**self).type_name()
    }

    fn has_routes(&self) -> bool {
        (**self).has_routes()
    }
}

/// What rendering gives.
///
/// Bodies, [`Response`]s, Deferreds of these, `Result`s of these, and resources convert into it
/// with `into()`. A body is `()`, `&'static str`, `String`, `&'static [u8]`, `Vec<u8>` or
/// [`Bytes`]; a [`StatusCode`] alone is a response without a body.
#[non_exhaustive]
pub enum Rendered {
    /// The answer. If the request was given status or fields of its own, these are kept where the
    /// response does not say otherwise.
    Response(Response),
    /// The answer comes later. A failure is answered with 500. When the client goes away first, it
    /// is cancelled.
    Deferred(Deferred<Response>),
    /// Another resource answers, with what is left of the path.
    Resource(Rc<dyn Resource>),
    /// Another resource will answer, once it is there.
    DeferredResource(Deferred<Rc<dyn Resource>>),
    /// It went wrong: status 500, and the failure is logged.
    Failed(Failure),
    /// The resource does not have the method of the request: status 405.
    NotAllowed,
    /// The request is finished by the code that holds the [`Request`]; see [`NOT_DONE_YET`].
    NotDoneYet,
}

/// The request has been moved somewhere else, and will be
/// [finished](Request::finish) there.
///
/// ```
/// use std::cell::RefCell;
/// use prometheus_deferred::web::{NOT_DONE_YET, Rendered, Request, Resource};
///
/// /// Requests that wait for the next piece of news.
/// #[derive(Default)]
/// struct News { waiting: RefCell<Vec<Request>> }
///
/// impl News {
///     fn tell(&self, news: &str) {
///         for mut request in self.waiting.take() {
///             request.write(news);
///             request.finish(); // does nothing if the client has gone
///         }
///     }
/// }
///
/// impl Resource for News {
///     fn render_get(&self, request: Request) -> Rendered {
///         self.waiting.borrow_mut().push(request);
///         NOT_DONE_YET
///     }
/// }
/// # News::default().tell("nothing");
/// ```
pub const NOT_DONE_YET: Rendered = Rendered::NotDoneYet;

impl Rendered {
    /// The status of an answer that is there.
    pub(super) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Response(response) => Some(response.status()),
            _ => None,
        }
    }
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Response(_) => "Response",
            Self::Deferred(_) => "Deferred",
            Self::Resource(_) => "Resource",
            Self::DeferredResource(_) => "DeferredResource",
            Self::Failed(_) => "Failed",
            Self::NotAllowed => "NotAllowed",
            Self::NotDoneYet => "NotDoneYet",
        })
    }
}

impl From<Response> for Rendered {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}

macro_rules! rendered_from {
    ($($body:ty),*) => {$(
        impl From<$body> for Rendered {
            fn from(body: $body) -> Self {
                Self::Response(body.into())
            }
        }
    )*};
}

rendered_from!(
    (),
    &'static str,
    String,
    &'static [u8],
    Vec<u8>,
    Bytes,
    StatusCode
);

impl<T: Into<Bytes>> From<Html<T>> for Rendered {
    fn from(page: Html<T>) -> Self {
        Self::Response(page.into())
    }
}

impl<R: Resource> From<R> for Rendered {
    fn from(resource: R) -> Self {
        Self::Resource(Rc::new(resource))
    }
}

impl<B: Into<Response> + 'static> From<Deferred<B>> for Rendered {
    #[track_caller]
    fn from(deferred: Deferred<B>) -> Self {
        Self::Deferred(deferred.map(Into::into))
    }
}

impl From<Failure> for Rendered {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<R: Into<Rendered>> From<Result<R, Failure>> for Rendered {
    fn from(result: Result<R, Failure>) -> Self {
        match result {
            Ok(rendered) => rendered.into(),
            Err(failure) => Self::Failed(failure),
        }
    }
}

/// A resource that is not there yet (Twisted's `DeferredResource`).
///
/// A leaf: when its Deferred has fired, the walk goes on in the resource that it gave.
///
/// ```
/// use std::rc::Rc;
/// use prometheus_deferred::Deferred;
/// use prometheus_deferred::web::{DeferredResource, Resource, Tree, pages};
///
/// let (resource, resolver) = Deferred::pending();
/// let root = Tree::new();
/// root.put_child("wiki", DeferredResource::new(resource));
/// resolver.callback(Rc::new(pages::forbidden()) as Rc<dyn Resource>)?;
/// # Ok::<(), prometheus_deferred::Failure>(())
/// ```
pub struct DeferredResource(Rc<RefCell<Arrival>>);

enum Arrival {
    /// Those who have asked meanwhile.
    Awaited(Vec<Resolver<Rc<dyn Resource>>>),
    Here(Rc<dyn Resource>),
    /// What the Deferred failed with.
    Failed(Failure),
}

impl DeferredResource {
    /// A resource that stands in for the one to come.
    #[track_caller]
    pub fn new(resource: Deferred<Rc<dyn Resource>>) -> Self {
        let arrival = Rc::new(RefCell::new(Arrival::Awaited(Vec::new())));
        let state = arrival.clone();
        drop(resource.add_both(move |result| {
            let next = match result {
                Ok(resource) => Arrival::Here(resource),
                Err(failure) => Arrival::Failed(failure),
            };
            let Arrival::Awaited(asked) = state.replace(next) else {
                return Ok(());
            };
            for resolver in asked {
                let answer = match &*state.borrow() {
                    Arrival::Here(resource) => Ok(resource.clone()),
                    Arrival::Failed(failure) => Err(failure.share()),
                    Arrival::Awaited(_) => return Ok(()),
                };
                // A request whose client has gone was cancelled.
                let _ = resolver.fire(answer);
            }
            Ok(())
        }));
        Self(arrival)
    }
}

impl Resource for DeferredResource {
    fn is_leaf(&self) -> bool {
        true
    }

    fn render(&self, _: Request) -> Rendered {
        match &mut *self.0.borrow_mut() {
            Arrival::Here(resource) => Rendered::Resource(resource.clone()),
            Arrival::Failed(failure) => Rendered::Failed(failure.share()),
            Arrival::Awaited(asked) => {
                if asked.len() == asked.capacity() {
                    // Clients that gave up leave nothing behind, however many there are.
                    asked.retain(Resolver::is_pending);
                }
                let (deferred, resolver) = Deferred::pending();
                asked.push(resolver);
                Rendered::DeferredResource(deferred)
            }
        }
    }
}

impl fmt::Debug for DeferredResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredResource").finish_non_exhaustive()
    }
}
