//! Bodies that go into files.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use deferred_reactor::{Deferred, Failure, Reactor, defer_to_thread};

use super::Body;

impl Body {
    /// Writes the body into a file, which is created or overwritten; fires with its size in bytes.
    ///
    /// The file is written in threads of the reactor's pool, one piece after another, while the
    /// next piece comes. If the body breaks off, the file cannot be written, or the Deferred is
    /// cancelled, the file is removed.
    ///
    /// A body that was made of bytes, and belongs to no connection, is written before this returns.
    ///
    /// # Errors
    ///
    /// The Deferred fails with an `io::Error` of the file's, which names its path, or as
    /// [`read`](Self::read) does.
    ///
    /// ```
    /// use prometheus_deferred::web::{BodyPolicy, Klein, Request};
    ///
    /// let mut app = Klein::new();
    /// app.route("/upload", |mut request: Request| {
    ///     let saved = request.take_body().save("/tmp/upload");
    ///     saved.map(|size| format!("{size} bytes\n"))
    /// })
    /// .streaming()
    /// .max_body_bytes(10 << 30);
    /// ```
    #[track_caller]
    pub fn save(self, path: impl AsRef<Path>) -> Deferred<u64> {
        let path = path.as_ref().to_owned();
        let reactor = self
            .transport
            .as_ref()
            .and_then(|transport| transport.reactor());
        match reactor {
            Some(reactor) => {
                let threads = reactor.clone();
                reactor.spawn(save(threads, self, path))
            }
            None => self.read().add_callback(move |piece| {
                let bytes = piece.unwrap_or_default();
                std::fs::write(&path, &bytes).map_err(|error| named(&path, &error))?;
                Ok(bytes.len() as u64)
            }),
        }
    }
}

async fn save(reactor: Reactor, body: Body, path: PathBuf) -> Result<u64, Failure> {
    let to_open = path.clone();
    let opened = defer_to_thread(&reactor, move || {
        let file = File::create(&to_open).map_err(|error| named(&to_open, &error))?;
        // Made here: nobody may wait for the file any more.
        Ok((file, Partial(Some(to_open))))
    });
    let (mut file, partial) = opened.await?;
    let mut size = 0;
    while let Some(piece) = body.read().await? {
        size += piece.len() as u64;
        let path = path.clone();
        let written = defer_to_thread(&reactor, move || match file.write_all(&piece) {
            Ok(()) => Ok(file),
            Err(error) => Err(named(&path, &error).into()),
        });
        file = written.await?;
    }
    partial.keep();
    Ok(size)
}

/// A file that is removed unless it is complete.
struct Partial(Option<PathBuf>);

impl Partial {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = std::fs::remove_file(path)
        {
            crate::logging::warn!(
                target: "web",
                "cannot remove {}, which is incomplete: {error}",
                path.display()
            );
        }
    }
}

/// The error with the file that it is about.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
