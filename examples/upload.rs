//! Uploads that go to disk as they come, and come back whole or in parts. The page has a progress bar.
//!
//! ```text
//! cargo run --release --example upload               # or: ... --example upload 127.0.0.1:0 FOLDER
//! listening on http://127.0.0.1:8000/
//!
//! curl -T Cargo.toml http://127.0.0.1:8000/files/
//! received Cargo.toml: 4922 bytes
//! curl -r 0-10 http://127.0.0.1:8000/files/Cargo.toml
//! [workspace]
//! curl -T /dev/zero http://127.0.0.1:8000/files/zero   # more than 100 MiB
//! 413 Payload Too Large
//!
//! This went wrong: the body is longer than 104857600 bytes.
//! ```

use std::{cell::Cell, fs, fs::File, io, path::Path, path::PathBuf, rc::Rc};

use prometheus_deferred::web::{Html, Klein, Method, Rendered, Request, Response, Site};
use prometheus_deferred::web::{StatusCode, header, pages};
use prometheus_deferred::{Failure, Reactor};

const MAX_BYTES: u64 = 100 << 20;

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>Upload</title>
<p><input type="file" id="file"> <progress id="bar" max="1" value="0"></progress>
<pre id="answer"></pre>
<script>
file.onchange = () => {
    const chosen = file.files[0], request = new XMLHttpRequest();
    request.upload.onprogress = event => bar.value = event.loaded / event.total;
    request.onload = () => answer.textContent = request.responseText;
    request.onerror = () => answer.textContent = "The connection broke off.";
    request.open("PUT", "/files/" + encodeURIComponent(chosen.name));
    request.send(chosen);
};
</script>
"#;

/// The name that a request gives a file, if that can be no other place than in the folder.
fn file_name(request: &Request) -> Option<String> {
    let name: String = request.param("name")?;
    let is_plain = !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0']);
    (is_plain && name.len() <= 200).then_some(name)
}

/// Saves a body beside the file that it replaces, so that nobody is sent a half of it.
fn receive(mut request: Request, folder: &Path, part: PathBuf) -> Rendered {
    let Some(name) = file_name(&request) else {
        let message =
            "The name of a file may not begin with a dot, nor have a slash or colon in it.";
        return pages::ErrorPage::new(StatusCode::BAD_REQUEST, message).into();
    };
    let path = folder.join(&name);
    let saved = request.take_body().save(&part);
    let answer = saved.add_callback(move |size| {
        fs::rename(part, path)?;
        let response = Response::new(format!("received {name}: {size} bytes\n"));
        Ok(response.with_status(StatusCode::CREATED))
    });
    answer.into()
}

/// Sends a file, or the part of it that is asked for.
fn send(request: &Request, folder: &Path) -> Result<Response, Failure> {
    let name = file_name(request).ok_or(io::ErrorKind::NotFound);
    let file = File::open(folder.join(name.map_err(io::Error::from)?))?;
    let modified = file.metadata()?.modified()?;
    let response = Response::file(file)?
        .with_content_type("application/octet-stream") // whatever it says it is
        .with_header(header::CONTENT_DISPOSITION, "attachment")
        .with_last_modified(modified);
    Ok(response.accept_ranges())
}

fn main() -> Result<(), Failure> {
    let argument = |number, default: &str| std::env::args().nth(number).unwrap_or(default.into());
    let folder: Rc<Path> = PathBuf::from(argument(2, "uploads")).into();
    let (reactor, count, mut app) = (Reactor::new()?, Cell::new(0), Klein::new());
    app.route("/", |_| Html(PAGE));
    let from = folder.clone();
    app.route("/files/<name>", move |request| -> Rendered {
        match send(&request, &from) {
            Err(failure) if is_missing(&failure) => pages::not_found().into(),
            result => result.into(),
        }
    })
    .methods([Method::GET]);
    let to = folder.clone();
    app.route("/files/<name>", move |request| {
        count.set(count.get() + 1);
        receive(request, &to, to.join(format!(".part-{}", count.get())))
    })
    .methods([Method::PUT])
    .streaming()
    .max_body_bytes(MAX_BYTES);
    let port = reactor.listen_tcp(argument(1, "127.0.0.1:8000"), Site::new(app.resource()))?;
    fs::create_dir_all(&folder)?;
    println!("listening on http://{}/", port.address());
    reactor.run()
}

fn is_missing(failure: &Failure) -> bool {
    let error: Option<&io::Error> = failure.check();
    error.is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}
