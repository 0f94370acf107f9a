//! The servers that are compared. Each answers with the method and target of a request in `X-Seen`,
//! and with its body; `/early` is answered before the body is read. All of them listen on UNIX
//! sockets in one temporary folder, so no port can be taken.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_deferred::web::{
    BodyPolicy, Rendered, Request, RequestHead, Resource, Response, Site, header,
};
use prometheus_deferred::{Failure, Reactor};

/// A server that runs until this is dropped, or this process ends.
pub struct Peer {
    pub name: &'static str,
    pub version: String,
    pub socket: PathBuf,
    child: Option<Child>,
}

/// A folder for sockets and configuration; wiped when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("differential-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts ours and hyper, and those of the others that are installed.
pub fn start(folder: &Folder) -> Result<Vec<Peer>, Box<dyn Error>> {
    let folder = &folder.0;
    let mut peers = vec![
        in_thread("ours", folder.join("ours.sock"), serve_ours),
        in_thread("hyper", folder.join("hyper.sock"), serve_hyper),
    ];
    peers.extend(start_go(folder)?);
    peers.extend(start_nginx(folder)?);
    for peer in &mut peers {
        peer.wait_until_it_listens()?;
    }
    Ok(peers)
}

impl Peer {
    fn wait_until_it_listens(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = UnixStream::connect(&self.socket) {
            let status = match &mut self.child {
                Some(child) => child.try_wait()?,
                None => None,
            };
            if status.is_some() || Instant::now() > deadline {
                let text = format!("{} does not listen: {error}, {status:?}", self.name);
                return Err(io::Error::other(text));
            }
            // Not every server tells when it listens.
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

fn in_thread<E: std::fmt::Display + 'static>(
    name: &'static str,
    socket: PathBuf,
    serve: fn(&Path) -> Result<(), E>,
) -> Peer {
    let path = socket.clone();
    thread::spawn(move || {
        if let Err(error) = serve(&path) {
            eprintln!("{name} failed: {error}");
        }
    });
    Peer {
        name,
        version: String::new(),
        socket,
        child: None,
    }
}

struct Echo;

impl Resource for Echo {
    fn is_leaf(&self) -> bool {
        true
    }

    fn body_policy(&self, head: &RequestHead) -> BodyPolicy {
        match head.path() {
            "/early" => BodyPolicy::Refuse,
            _ => BodyPolicy::collect(1 << 20),
        }
    }

    fn render(&self, request: Request) -> Rendered {
        let seen = format!("{} {}", request.method(), request.target());
        let body = match request.path() {
            "/early" => Bytes::new(),
            _ => request.body().clone(),
        };
        Response::new(body)
            .with_header(header::HeaderName::from_static("x-seen"), seen)
            .into()
    }
}

fn serve_ours(socket: &Path) -> Result<(), Failure> {
    let reactor = Reactor::new()?;
    reactor.listen_unix(socket, Site::new(Echo))?;
    reactor.run()
}

async fn echo(
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let mut response = hyper::Response::new(Full::default());
    if head.uri.path() != "/early" {
        match body.collect().await {
            Ok(body) => *response.body_mut() = body.to_bytes().into(),
            Err(_) => *response.status_mut() = hyper::StatusCode::BAD_REQUEST,
        }
    }
    let seen = format!("{} {}", head.method, head.uri);
    if let Ok(seen) = HeaderValue::from_bytes(seen.as_bytes()) {
        response.headers_mut().insert("x-seen", seen);
    }
    Ok(response)
}

fn serve_hyper(socket: &Path) -> io::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(socket)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async {
                // A refused request is seen by its client.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(echo))
                    .await;
            });
        }
    })
}

/// What lets nginx answer with a request's body.
const ECHO_MODULE: &str = "/usr/lib/nginx/modules/ngx_http_echo_module.so";

/// Where the sources of this check are.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../differential")
}

fn start_go(folder: &Path) -> Result<Option<Peer>, Box<dyn Error>> {
    let Some(version) = version_of("go", "version") else {
        return Ok(None);
    };
    // go version go1.19.8 linux/amd64
    let version = version.split(' ').nth(2).unwrap_or_default();
    let program = folder.join("echo");
    let status = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(sources().join("echo.go"))
        .env("GO111MODULE", "off")
        .status()?;
    if !status.success() {
        return Err("echo.go does not build".into());
    }
    let socket = folder.join("go.sock");
    let child = Command::new(program)
        .arg(&socket)
        .stdin(Stdio::piped())
        .spawn()?;
    Ok(Some(Peer {
        name: "Go",
        version: version.replace("go", "Go "),
        socket,
        child: Some(child),
    }))
}

fn start_nginx(folder: &Path) -> Result<Option<Peer>, Box<dyn Error>> {
    let version = version_of("nginx", "-v").filter(|_| Path::new(ECHO_MODULE).exists());
    let Some(version) = version else {
        return Ok(None);
    };
    // nginx version: nginx/1.22.1
    let version = version.rsplit('/').next().unwrap_or_default();
    // The socket's path in the configuration is relative to this.
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "nginx", "-p"])
        .arg(folder)
        .arg("-c")
        .arg(sources().join("nginx.conf").canonicalize()?)
        .current_dir(folder)
        .stdin(Stdio::null())
        .spawn()?;
    Ok(Some(Peer {
        name: "nginx",
        version: format!("nginx {version}"),
        socket: folder.join("nginx.sock"),
        child: Some(child),
    }))
}

/// The line in which a program tells its version, if it is installed.
fn version_of(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    Some(text.lines().next()?.trim().to_owned())
}
