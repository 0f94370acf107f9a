//! Routes instead of a tree, as in Klein.

#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod params;
mod pattern;
mod table;

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;

use deferred_reactor::Failure;
use deferred_reactor::health::{Callback, CallbackKind, Place, watch};
use http::{Method, StatusCode};

use self::pattern::Pattern;
use self::table::{Lookup, RouteTable};
use super::response::allow_value;
use super::{BodyPolicy, Rendered, Request, RequestHead, Resource, Response, pages};

pub use self::params::{FromParam, ParamValue, Params};
pub use self::pattern::PatternError;

/// Handlers by the paths that they answer.
///
/// A handler takes the [`Request`] and returns whatever converts into a [`Rendered`]: a body, a
/// [`Response`](super::Response), a `Deferred` or a `Result` of either, a resource, nothing, or
/// [`NOT_DONE_YET`](super::NOT_DONE_YET).
///
/// ```
/// use prometheus_deferred::web::{Html, Klein, Method, Request, Site};
///
/// let mut app = Klein::new();
/// app.route("/", |_request| Html("<h1>Welcome!</h1>"));
/// app.route("/user/<int:id>", |request: Request| {
///     let id: u64 = request.param("id").unwrap_or_default();
///     format!("user number {id}")
/// });
/// app.route("/user/<int:id>", |_request| ()).methods([Method::DELETE]);
///
/// let site = Site::new(app.resource());
/// # let _ = site;
/// ```
///
/// A handler may fail with `?`, which is answered with 500, and an `async` block is an answer once
/// it is spawned. Each handler owns what it uses, so a reactor goes in as a clone:
///
/// ```
/// use std::time::Duration;
/// use prometheus_deferred::web::{Klein, Request};
/// use prometheus_deferred::{Failure, Reactor, sleep};
///
/// let reactor = Reactor::new()?;
/// let mut app = Klein::new();
/// app.route("/sum", |request: Request| {
///     let text = std::str::from_utf8(request.body())?;
///     let numbers: Result<Vec<i64>, _> = text.split_whitespace().map(str::parse).collect();
///     Ok(format!("{}\n", numbers?.iter().sum::<i64>()))
/// });
/// let clock = reactor.clone();
/// app.route("/nap", move |_request| {
///     let again = clock.clone();
///     clock.spawn(async move {
///         sleep(&again, Duration::from_secs(1)).await?;
///         Ok("good morning\n")
///     })
/// });
/// # Ok::<(), Failure>(())
/// ```
///
/// | in a pattern                     | takes                                   | `param` gives       |
/// |----------------------------------|-----------------------------------------|---------------------|
/// | `<name>`, `<string:name>`        | one segment, not empty                  | `&str`, `String`    |
/// | `<string(minlength=1,maxlength=8):name>` | the same, of so many characters | `&str`, `String`    |
/// | `<int:n>`                        | digits                                  | any integer type    |
/// | `<float:x>`                      | digits with a decimal point             | `f64`               |
/// | `<path:p>`                       | one or more segments, slashes included  | `&str`, `String`    |
///
/// The most specific route wins, whatever the order in which they were added: fixed text before
/// int, float, string, and path last. Of equals, the first wins. A path that no route matches is
/// answered with 404, and a method that none of the matching ones takes with 405.
#[derive(Default)]
pub struct Klein {
    routes: Vec<Route>,
}

type Handler = Rc<dyn Fn(Request) -> Rendered>;

/// The handler of a route and its settings.
#[derive(Clone)]
struct Entry {
    handler: Handler,
    /// The pattern as it was written.
    template: Rc<str>,
    streams: bool,
    max_body_bytes: Option<u64>,
}

const ROUTE: CallbackKind = CallbackKind::Other("handler of a route");

/// A route that was just added.
pub struct Route {
    pattern: Pattern,
    methods: Option<Vec<Method>>,
    entry: Entry,
}

impl Klein {
    /// No routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route, which takes any method unless [`methods`](Route::methods) says otherwise.
    ///
    /// # Panics
    ///
    /// If the pattern is malformed; [`try_route`](Self::try_route) is for patterns that are not
    /// written in the program.
    #[track_caller]
    pub fn route<R: Into<Rendered>>(
        &mut self,
        pattern: &str,
        handler: impl Fn(Request) -> R + 'static,
    ) -> &mut Route {
        match self.try_route(pattern, handler) {
            Ok(route) => route,
            Err(error) => panic!("route {pattern:?}: {error}"),
        }
    }

    /// Adds a route, unless its pattern is malformed.
    ///
    /// # Errors
    ///
    /// An error that says what is wrong with the pattern.
    #[track_caller]
    pub fn try_route<R: Into<Rendered>>(
        &mut self,
        pattern: &str,
        handler: impl Fn(Request) -> R + 'static,
    ) -> Result<&mut Route, PatternError> {
        let template = pattern.into();
        let pattern = Pattern::parse(pattern)?;
        let line = Location::caller();
        let name = Callback::new(ROUTE, Place::Line(line));
        self.routes.push(Route {
            pattern,
            methods: None,
            entry: Entry {
                // Named by its line when it is slow, and when it panics.
                handler: Rc::new(move |request| {
                    let call = || watch(|| name, || handler(request).into());
                    // What the handler shares with others is theirs to mind.
                    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
                        Rendered::Failed(Failure::from_panic_at(payload, line))
                    })
                }),
                template,
                streams: false,
                max_body_bytes: None,
            },
        });
        Ok(self.routes.last_mut().expect("one was just added"))
    }

    /// The resource that answers with the routes added so far; it may be the root of a site or a
    /// child anywhere in a tree, and routes are matched against what is left of the path there.
    pub fn resource(&self) -> impl Resource + Clone + use<> {
        let mut table = RouteTable::new();
        for route in &self.routes {
            table.insert(
                route.pattern.clone(),
                route.methods.clone(),
                route.entry.clone(),
            );
        }
        KleinResource(Rc::new(table))
    }
}

impl Route {
    /// Takes only these methods. HEAD comes along with GET.
    pub fn methods(&mut self, methods: impl IntoIterator<Item = Method>) -> &mut Self {
        self.methods = Some(methods.into_iter().collect());
        self
    }

    /// The handler is called when the head of a request is there, and reads the body as it comes,
    /// from [`Request::take_body`]. The body may be as long as the site collects, unless
    /// [`max_body_bytes`](Self::max_body_bytes) says otherwise.
    pub fn streaming(&mut self) -> &mut Self {
        self.entry.streams = true;
        self
    }

    /// The longest body that this route takes; longer ones are answered with 413. Zero refuses every
    /// body, and `u64::MAX` none.
    pub fn max_body_bytes(&mut self, bytes: u64) -> &mut Self {
        self.entry.max_body_bytes = Some(bytes);
        self
    }
}

impl fmt::Debug for Klein {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.routes).finish()
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("pattern", &self.pattern)
            .field("methods", &self.methods)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct KleinResource(Rc<RouteTable<Entry>>);

/// The path segments that are left, for the table of routes.
fn segments(head: &RequestHead) -> Vec<Cow<'_, str>> {
    let mut segments = head.postpath_segments();
    if segments.is_empty() {
        // Mounted at /api and asked for /api: the same as its root, /api/.
        segments.push(Cow::Borrowed(""));
    }
    segments
}

impl Resource for KleinResource {
    fn is_leaf(&self) -> bool {
        true
    }

    fn has_routes(&self) -> bool {
        true
    }

    fn body_policy(&self, head: &RequestHead) -> BodyPolicy {
        match self.0.lookup(&segments(head), head.method()) {
            Lookup::Found { entry, .. } => {
                head.expect_route(&entry.template);
                let max_bytes = entry.max_body_bytes.unwrap_or(head.max_body_bytes());
                match entry.streams {
                    true => BodyPolicy::Stream { max_bytes },
                    false => BodyPolicy::Collect { max_bytes },
                }
            }
            // The answer needs no body.
            Lookup::MethodNotAllowed { .. } | Lookup::NotFound => BodyPolicy::Refuse,
        }
    }

    fn render(&self, mut request: Request) -> Rendered {
        enum Found<'t> {
            Route(&'t Entry, usize, Params),
            Methods(Vec<Method>),
            Nothing,
        }
        let found = match self.0.lookup(&segments(request.head()), request.method()) {
            Lookup::Found {
                entry,
                params,
                consumed,
            } => Found::Route(entry, consumed, params),
            Lookup::MethodNotAllowed { allow } => Found::Methods(allow),
            Lookup::NotFound => Found::Nothing,
        };
        match found {
            Found::Route(entry, consumed, params) => {
                request.take_route(&entry.template, consumed, params);
                (entry.handler)(request)
            }
            Found::Methods(allow) => {
                request.matches_nothing();
                not_allowed(request.head(), &allow).into()
            }
            Found::Nothing => {
                request.matches_nothing();
                pages::not_found().render(request)
            }
        }
    }
}

/// The page for a method that is not among `allowed` (RFC 9110, 15.5.6).
pub(super) fn not_allowed(head: &RequestHead, allowed: &[Method]) -> Response {
    let (method, path) = (head.method(), head.path());
    let others = match allowed.is_empty() {
        true => "nothing is".to_owned(),
        false => allow_value(allowed),
    };
    let message = format!("{method} is not allowed for {path}; allowed: {others}.");
    Response::page(StatusCode::METHOD_NOT_ALLOWED, message).with_allow(allowed)
}
