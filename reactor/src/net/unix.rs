//! UNIX sockets, and the files that name them.
//!
//! A socket file outlives a server that dies, and no server can bind while it is there. So one that
//! nobody answers at is replaced. Nothing else is: not a file of another kind, not one that may not
//! be connected to, and not a server that is alive, however busy.
//!
//! Servers that start at the same time must not take each other's file for that of the dead one, and
//! the system does not tell a server that has bound its socket and does not listen yet from a dead
//! one. So whoever takes a path has a [`Lock`] while it does, which is a second file beside the
//! first, and is there for less than a millisecond. Servers of other kinds know nothing of it, and
//! there is no way to remove a file only if it is a certain one; so a file is [moved
//! aside](remove_if) first, looked at once more there, where nobody can replace it, and put back if
//! it is not the one.

use std::collections::hash_map::RandomState;
use std::fs::{self, Metadata};
use std::hash::BuildHasher;
use std::io;
use std::os::fd::OwnedFd;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::{UnixListener, UnixStream};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Address, UnixServerEndpoint};

/// Connections that the system keeps for us; most systems have a lower limit of their own.
const BACKLOG: i32 = 1024;

/// A lock that is older than this was left by a server that died while it had it.
const LOCK_LASTS: Duration = Duration::from_secs(10);

/// A listening socket and its file.
#[derive(Debug)]
pub(crate) struct UnixAcceptor {
    /// Dropped first: as long as the socket is open, its file is no other one.
    _file: Option<SocketFile>,
    pub(crate) socket: UnixListener,
}

/// Begins to listen, in place of a server that is dead.
pub(crate) fn listen(endpoint: &UnixServerEndpoint) -> io::Result<UnixAcceptor> {
    let UnixServerEndpoint { path, mode } = endpoint;
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let file = if is_abstract(path) {
        socket.bind(&address)?;
        socket.listen(BACKLOG)?;
        None
    } else {
        let _lock = Lock::take(path)?;
        if let Err(error) = socket.bind(&address) {
            if error.kind() != io::ErrorKind::AddrInUse || !remove_dead(path)? {
                return Err(error);
            }
            // If somebody was faster, it is theirs.
            socket.bind(&address)?;
        }
        let file = SocketFile::find(path)?;
        if let Some(mode) = mode {
            // Before it listens, nobody can connect.
            fs::set_permissions(path, fs::Permissions::from_mode(*mode))?;
        }
        socket.listen(BACKLOG)?;
        Some(file)
    };
    Ok(UnixAcceptor {
        _file: file,
        socket: UnixListener::from_std(OwnedFd::from(socket).into()),
    })
}

/// Keeps others from taking a path at the same time.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> io::Result<Self> {
        let lock = beside(path, "lock");
        let make = || fs::File::create_new(&lock).map(drop);
        match make() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !Self::remove_old(&lock)? {
                    let text = "another server is about to listen there";
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
                }
                make()?;
            }
            outcome => outcome?,
        }
        Ok(Self(lock))
    }

    /// Removes a lock that nobody has any more. `false` if somebody may have it.
    fn remove_old(lock: &Path) -> io::Result<bool> {
        let is_old = |found: &Metadata| {
            let age = found.modified().ok().and_then(|made| made.elapsed().ok());
            age.is_some_and(|age| age > LOCK_LASTS)
        };
        or_gone(remove_if(lock, |_, found| is_old(found)))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever has removed it meanwhile has waited long enough.
        let _ = fs::remove_file(&self.0);
    }
}

/// Begins to connect, without waiting: `WouldBlock` if the server has too many waiting.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect_addr(&socket_address(path)?)
}

fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().first() == Some(&0)
}

fn socket_address(path: &Path) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some((0, name)) = path.as_os_str().as_bytes().split_first() {
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(path)
}

/// An address of the system as one of ours.
pub(crate) fn address(address: &SocketAddr) -> Address {
    #[cfg(target_os = "linux")]
    if let Some(name) = address.as_abstract_name() {
        let path = [&[0], name].concat();
        return Address::Unix(Some(std::ffi::OsStr::from_bytes(&path).into()));
    }
    Address::Unix(address.as_pathname().map(Path::to_owned))
}

/// The file of a socket that we have bound; removed when dropped, if it is still there.
#[derive(Debug)]
struct SocketFile {
    /// Absolute, as the program may change its directory.
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn find(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            path: std::path::absolute(path)?,
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever has removed or replaced it will know why; nobody is here to be told.
        let _ = remove_if(&self.path, |_, found| {
            (found.dev(), found.ino()) == (self.device, self.inode)
        });
    }
}

/// Removes the socket file of a server that is dead. `false` if it is none.
fn remove_dead(path: &Path) -> io::Result<bool> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() || !is_dead(path) {
        return Ok(false);
    }
    // Numbers of files are used again, moments are not.
    let identity = |file: &Metadata| (file.dev(), file.ino(), file.mtime(), file.mtime_nsec());
    or_gone(remove_if(path, |path, now| {
        identity(now) == identity(&found) && is_dead(path)
    }))
}

/// What is not there was removed by somebody else.
fn or_gone(removed: io::Result<bool>) -> io::Result<bool> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        removed => removed,
    }
}

/// Whether nobody listens there, as far as we may know.
fn is_dead(path: &Path) -> bool {
    matches!(connect(path), Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Removes a file if it is the one that is meant, whoever else may replace it at the same time.
fn remove_if(path: &Path, is_meant: impl Fn(&Path, &Metadata) -> bool) -> io::Result<bool> {
    if !is_meant(path, &fs::symlink_metadata(path)?) {
        return Ok(false);
    }
    let random = RandomState::new().hash_one(());
    let aside = beside(path, &format!("{random:016x}"));
    fs::rename(path, &aside)?;
    if is_meant(&aside, &fs::symlink_metadata(&aside)?) {
        fs::remove_file(&aside)?;
        return Ok(true);
    }
    // Somebody has replaced it between the two looks. A link does not take the place of a third.
    match fs::hard_link(&aside, path) {
        Ok(()) => fs::remove_file(&aside)?,
        Err(_) => fs::rename(&aside, path)?,
    }
    Ok(false)
}

/// A file of the same name with something behind it.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::SystemTime;

    use super::*;

    /// A directory of its own for each test.
    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("unix-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    /// the race that a lock would be for.
    #[test]
    fn a_file_that_was_replaced_meanwhile_is_put_back() {
        let directory = scratch("replaced");
        let path = directory.join("s");
        fs::write(&path, "dead").unwrap();
        let looks = Cell::new(0);
        let is_removed = remove_if(&path, |here, _| {
            looks.set(looks.get() + 1);
            if looks.get() == 1 {
                // Another server is faster.
                fs::remove_file(&path).unwrap();
                fs::write(&path, "alive").unwrap();
                return true;
            }
            fs::read_to_string(here).unwrap() == "dead"
        });
        assert!(!is_removed.unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "alive");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    ///
    #[test]
    fn a_path_that_is_being_taken_is_in_use() {
        let directory = scratch("lock");
        let endpoint = UnixServerEndpoint::new(directory.join("s"));
        let lock = Lock::take(&endpoint.path).unwrap();
        let error = listen(&endpoint).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        // The other has bound its socket by now.
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket
            .bind(&SockAddr::unix(&endpoint.path).unwrap())
            .unwrap();
        assert!(is_dead(&endpoint.path), "this is what the system says");
        assert!(listen(&endpoint).is_err());
        assert!(endpoint.path.exists());
        drop((lock, socket));
        drop(listen(&endpoint).unwrap());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir_all(directory).unwrap();
    }

    /// a server may die at any moment.
    #[test]
    fn an_old_lock_is_nobody_s() {
        let directory = scratch("old-lock");
        let endpoint = UnixServerEndpoint::new(directory.join("s"));
        let lock = fs::File::create(directory.join("s.lock")).unwrap();
        let long_ago = SystemTime::now() - 2 * LOCK_LASTS;
        lock.set_modified(long_ago).unwrap();
        drop(listen(&endpoint).unwrap());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir_all(directory).unwrap();
    }
}
