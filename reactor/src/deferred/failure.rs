//! What went wrong, whatever its type.
//!
//! A [`Failure`] holds any standard error, together with the source line where it became a
//! Failure. The `?` operator makes one from the error it meets, so a callback that returns
//! `Result<T, Failure>` may use any error type, and an errback that wants to know which one it got
//! asks with [`check`](Failure::check) or [`trap`](Failure::trap).

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::Location;

use super::errors::PanicError;
use crate::guard;

/// An error of any type, and where it arose.
///
/// `Display` shows the error itself, and `{:#}` adds its sources, as one sentence. So does `Debug`, which
/// is what `fn main() -> Result<(), Failure>` prints; `{:#?}` adds the source line.
///
/// The `?` operator makes one from any standard error, so a callback that returns `Result<T,
/// Failure>` may use any error type. An errback finds the type of the error with
/// [`check`](Self::check) or [`trap`](Self::trap). For a text, use [`message`](Self::message). A
/// Failure itself does not implement `Error`, so that every error can convert into it; it converts
/// into `Box<dyn Error>`.
///
/// ```
/// use deferred_reactor::Failure;
///
/// fn parse(text: &str) -> Result<i32, Failure> {
///     Ok(text.parse::<i32>()?)
/// }
///
/// let failure = parse("seven").unwrap_err();
/// assert!(failure.check::<std::num::ParseIntError>().is_some());
/// assert_eq!(failure.to_string(), "invalid digit found in string");
/// ```
///
/// Twisted's `twisted.python.failure.Failure`. It is one pointer wide, so that a `Result<T,
/// Failure>` costs little when there is no failure.
pub struct Failure(Box<Inner>);

struct Inner {
    error: Box<dyn Error + Send + Sync>,
    location: &'static Location<'static>,
    /// Clones the error, if that is possible.
    clone: Option<CloneError>,
}

type CloneError = fn(&(dyn Error + Send + Sync + 'static)) -> Option<Box<dyn Error + Send + Sync>>;

impl Failure {
    /// Wraps an error. The `?` operator and `into()` do the same.
    #[track_caller]
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::at(error.into(), Location::caller())
    }

    /// Wraps an error that can be cloned, so that [`share`](Self::share) keeps its type.
    #[track_caller]
    pub fn cloneable(error: impl Error + Clone + Send + Sync + 'static) -> Self {
        Self::cloneable_at(error, Location::caller())
    }

    /// Makes a Failure out of a sentence, where no error type is worth defining.
    ///
    /// ```
    /// # use deferred_reactor::Failure;
    /// let failure = Failure::message(format!("no room for {} guests", 12));
    /// assert_eq!(failure.to_string(), "no room for 12 guests");
    /// ```
    #[track_caller]
    pub fn message(sentence: impl Into<String>) -> Self {
        Self::at(sentence.into().into(), Location::caller())
    }

    /// Wraps the payload of `catch_unwind` in a [`PanicError`].
    #[track_caller]
    pub fn from_panic(payload: Box<dyn Any + Send>) -> Self {
        Self::from_panic_at(payload, Location::caller())
    }

    /// Wraps the payload of `catch_unwind`, with the source line where the panicking function was
    /// given: for libraries that call their users' functions.
    pub fn from_panic_at(
        payload: Box<dyn Any + Send>,
        location: &'static Location<'static>,
    ) -> Self {
        let message = guard::message(payload);
        Self::cloneable_at(PanicError { message }, location)
    }

    pub(crate) fn at(
        error: Box<dyn Error + Send + Sync>,
        location: &'static Location<'static>,
    ) -> Self {
        let clone = None;
        Self(Box::new(Inner {
            error,
            location,
            clone,
        }))
    }

    pub(crate) fn cloneable_at<E: Error + Clone + Send + Sync + 'static>(
        error: E,
        location: &'static Location<'static>,
    ) -> Self {
        Self(Box::new(Inner {
            error: Box::new(error),
            location,
            clone: Some(|error| Some(Box::new(error.downcast_ref::<E>()?.clone()))),
        }))
    }

    /// Makes a copy of the failure for another waiter, with the same source line, so that one cause
    /// can fail several Deferreds.
    ///
    /// An error wrapped with [`cloneable`](Self::cloneable) keeps its type, and so do the errors
    /// with which Deferreds and connections end by themselves: [`CancelledError`],
    /// [`TimeoutError`], [`AbandonedError`], [`PanicError`], [`ConnectionDone`], [`ConnectionLost`]
    /// and [`ConnectionAborted`]. Of any other error, the copy has only the text and the texts of
    /// its sources.
    ///
    /// [`CancelledError`]: crate::CancelledError
    /// [`TimeoutError`]: crate::TimeoutError
    /// [`AbandonedError`]: crate::AbandonedError
    /// [`ConnectionDone`]: crate::net::ConnectionDone
    /// [`ConnectionLost`]: crate::net::ConnectionLost
    /// [`ConnectionAborted`]: crate::net::ConnectionAborted
    ///
    /// ```
    /// use deferred_reactor::net::{ConnectionLost, Protocol, Transport};
    /// use deferred_reactor::{Deferred, Failure, Resolver, testing::MemoryReactor};
    ///
    /// /// A client whose questions fail with the reason when the connection does.
    /// struct Questions { waiting: Vec<Resolver<String>> }
    ///
    /// impl Protocol for Questions {
    ///     fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
    ///         Ok(()) // ... answers the oldest
    ///     }
    ///     fn connection_lost(&mut self, reason: &Failure) {
    ///         for resolver in self.waiting.drain(..) {
    ///             let _ = resolver.errback(reason.share());
    ///         }
    ///     }
    /// }
    ///
    /// let (answer, resolver) = Deferred::pending();
    /// let memory = MemoryReactor::new();
    /// let server = memory.connect(Questions { waiting: vec![resolver] });
    /// memory.pump();
    /// server.reset();
    /// memory.pump();
    /// assert!(answer.result().unwrap_err().is::<ConnectionLost>());
    /// ```
    pub fn share(&self) -> Self {
        let Inner {
            error,
            location,
            clone,
        } = &*self.0;
        match clone.and_then(|clone| clone(&**error)) {
            Some(error) => Self(Box::new(Inner {
                error,
                location,
                clone: *clone,
            })),
            None => Self::cloneable_at(ErrorText::of(&**error), location),
        }
    }

    /// The error as an `E`, if it is one (Twisted's `Failure.check`).
    pub fn check<E: Error + 'static>(&self) -> Option<&E> {
        self.0.error.downcast_ref::<E>()
    }

    /// Whether the error is an `E`.
    pub fn is<E: Error + 'static>(&self) -> bool {
        self.0.error.is::<E>()
    }

    /// Takes the error out if it is an `E`; otherwise returns the Failure (Twisted's
    /// `Failure.trap`).
    ///
    /// With `?`, an errback handles one kind of error and passes on all others:
    ///
    /// ```
    /// # use deferred_reactor::{Deferred, Failure};
    /// # use std::num::ParseIntError;
    /// let number = Deferred::<i32>::fail("seven".parse::<i32>().unwrap_err())
    ///     .add_errback(|failure| {
    ///         failure.trap::<ParseIntError>()?;
    ///         Ok(7)
    ///     });
    /// assert_eq!(number.result()?, 7);
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The unchanged Failure if its error is of another type.
    pub fn trap<E: Error + 'static>(self) -> Result<E, Failure> {
        let Inner {
            error,
            location,
            clone,
        } = *self.0;
        match error.downcast::<E>() {
            Ok(error) => Ok(*error),
            Err(error) => Err(Self(Box::new(Inner {
                error,
                location,
                clone,
            }))),
        }
    }

    /// Borrows the error.
    pub fn error(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0.error
    }

    /// Takes the error out, without the source line.
    pub fn into_error(self) -> Box<dyn Error + Send + Sync> {
        self.0.error
    }

    /// The source line where the error became a Failure: that of the `?`, of `errback`, of `fail`.
    /// For a panic, the line that added the callback, started the looping call, or passed the
    /// function.
    pub fn location(&self) -> &'static Location<'static> {
        self.0.location
    }
}

impl Failure {
    fn write_with_sources(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.error)?;
        let mut source = self.0.error.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// The texts that [`Failure::share`] copies from an error that cannot be cloned.
#[derive(Debug, Clone)]
struct ErrorText {
    text: String,
    source: Option<Box<ErrorText>>,
}

impl ErrorText {
    fn of(error: &(dyn Error + 'static)) -> Self {
        Self {
            text: error.to_string(),
            source: error.source().map(|source| Box::new(Self::of(source))),
        }
    }
}

impl fmt::Display for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for ErrorText {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        Self::at(Box::new(error), Location::caller())
    }
}

impl From<Failure> for Box<dyn Error + Send + Sync> {
    fn from(failure: Failure) -> Self {
        failure.into_error()
    }
}

impl From<Failure> for Box<dyn Error> {
    fn from(failure: Failure) -> Self {
        failure.into_error()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return self.write_with_sources(f);
        }
        fmt::Display::fmt(&self.0.error, f)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_with_sources(f)?;
        if f.alternate() {
            write!(f, " (at {})", self.0.location)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_mark_records_its_own_line() {
        fn parse() -> Result<i32, Failure> {
            Ok("x".parse::<i32>()?)
        }
        let here = Location::caller();
        let failure = parse().unwrap_err();
        assert_eq!(failure.location().file(), here.file());
        assert_eq!(failure.location().line() + 2, here.line());
    }

    #[test]
    fn trap_gives_back_what_it_does_not_match() {
        let failure = Failure::new("x".parse::<i32>().unwrap_err());
        let failure = failure.trap::<PanicError>().unwrap_err();
        assert!(failure.trap::<std::num::ParseIntError>().is_ok());
    }

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "cannot read the port")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_shared_failure_keeps_a_type_that_can_be_cloned_and_the_line() {
        let number = "x".parse::<i32>().unwrap_err();
        let failure = Failure::cloneable(number.clone());
        let shared = failure.trap::<PanicError>().unwrap_err().share().share();
        assert_eq!(shared.check(), Some(&number));
        assert_eq!(shared.location().file(), file!());
        assert_eq!(shared.trap::<std::num::ParseIntError>().unwrap(), number);
    }

    #[test]
    fn a_shared_failure_keeps_the_texts_of_any_other_error() {
        let failure = Failure::new(Outer("x".parse::<i32>().unwrap_err()));
        let shared = failure.share().share();
        assert!(!shared.is::<Outer>());
        assert_eq!(format!("{shared:#?}"), format!("{failure:#?}"));
        assert_eq!(shared.to_string(), "cannot read the port");
    }

    #[test]
    fn debug_is_a_sentence_with_its_sources() {
        let failure = Failure::new(Outer("x".parse::<i32>().unwrap_err()));
        assert_eq!(
            format!("{failure:?}"),
            "cannot read the port: invalid digit found in string"
        );
        assert!(format!("{failure:#?}").contains("failure.rs:"));
        assert_eq!(format!("{failure:#}"), format!("{failure:?}"));
        assert_eq!(format!("{failure}"), "cannot read the port");
    }
}
