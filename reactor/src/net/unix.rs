//! UNIX sockets, and the files that name them.
//!
//! A socket file outlives a server that dies, and no server can bind while it is there. So one that
//! nobody answers at is replaced. Nothing else is: not a file of another kind, not one that may not
//! be connected to, and not a server that is alive, however busy.
//!
//! Servers that start at the same time must not take each other's file for that of the dead one, and
//! the system does not tell a server that has bound its socket and does not listen yet from a dead
//! one. So whoever takes a path has a [`Lock`] while it does: an flock(2) on a second file beside the
//! first. That file is made for it, and is there for less than a millisecond; a file of that name
//! that is there already is locked as it is, and neither changed nor removed.
//!
//! Servers of other kinds know nothing of the lock, and there is no way to remove a file only if it
//! is a certain one; so a file is [moved aside](remove_if) first, looked at once more there, where
//! nobody can replace it, and put back if it is not the one.

use std::collections::hash_map::RandomState;
use std::fs::{self, Metadata};
use std::hash::BuildHasher;
use std::io;
use std::os::fd::OwnedFd;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Address, UnixServerEndpoint};

/// Connections that the system keeps for us; most systems have a lower limit of their own.
const BACKLOG: i32 = 1024;

/// How often the file of a lock may be removed by its owner while it is being locked here.
const LOCK_ATTEMPTS: usize = 8;

/// A listening socket and its file.
#[derive(Debug)]
pub(crate) struct UnixAcceptor {
    /// Dropped first: as long as the socket is open, its file is no other one.
    _file: Option<SocketFile>,
    pub(crate) socket: UnixListener,
}

impl UnixAcceptor {
    /// Of a socket that somebody else has opened, whose file stays.
    pub(crate) fn adopt(socket: UnixListener) -> Self {
        Self {
            _file: None,
            socket,
        }
    }
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

/// Keeps others from taking a path at the same time. The system ends it with the process.
struct Lock {
    file: fs::File,
    /// Where the file is, if it was made here.
    made: Option<PathBuf>,
}

impl Lock {
    fn take(path: &Path) -> io::Result<Self> {
        let name = beside(path, "lock");
        let told = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("cannot lock {}: {error}", name.display()),
            )
        };
        for _ in 0..LOCK_ATTEMPTS {
            if let Some(lock) = Self::make(&name).map_err(told)? {
                return Ok(lock);
            }
            match Self::take_existing(&name) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(told(error)),
            }
        }
        let text = format!(
            "{} is locked: another server is about to listen",
            name.display()
        );
        Err(io::Error::new(io::ErrorKind::AddrInUse, text))
    }

    /// Makes the file. It is locked before it has its name, so that nobody else locks it first, and
    /// leaves it to us to remove. `None` if there is a file of that name.
    fn make(name: &Path) -> io::Result<Option<Self>> {
        if fs::symlink_metadata(name).is_ok() {
            return Ok(None);
        }
        let unnamed = beside(name, &random());
        let file = fs::File::create_new(&unnamed)?;
        let named = file
            .try_lock()
            .map_err(io::Error::from)
            .and_then(|()| fs::hard_link(&unnamed, name));
        fs::remove_file(&unnamed)?;
        match named {
            Ok(()) => Ok(Some(Self {
                file,
                made: Some(name.to_owned()),
            })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Locks a file that somebody else has made, for whatever. `None` if it was removed meanwhile.
    fn take_existing(name: &Path) -> io::Result<Option<Self>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK) // it may be a pipe
            .open(name)?;
        file.try_lock()?;
        let is_named = is_same(&file.metadata()?, &fs::metadata(name)?);
        Ok(is_named.then_some(Self { file, made: None }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still locked: whoever locks it next finds that it is gone, and makes another.
        if let Some(name) = &self.made
            && let Ok(made) = self.file.metadata()
        {
            let _ = remove_if(name, |_, found| is_same(&made, found));
        }
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
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
    let aside = beside(path, &random());
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

/// Digits that no other file name ends in.
fn random() -> String {
    format!("{:016x}", RandomState::new().hash_one(()))
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
    use std::time::{Duration, SystemTime};

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

    /// F-11, R-42: whatever stands where the lock would, and however old it is.
    #[test]
    fn what_has_the_name_of_the_lock_stays_as_it_is() {
        let directory = scratch("not-ours");
        let endpoint = UnixServerEndpoint::new(directory.join("s"));
        let name = directory.join("s.lock");
        let long_ago = SystemTime::now() - Duration::from_secs(3600);

        fs::write(&name, "precious").unwrap();
        let file = fs::File::options().write(true).open(&name).unwrap();
        file.set_modified(long_ago).unwrap();
        drop(listen(&endpoint).unwrap());
        assert_eq!(fs::read_to_string(&name).unwrap(), "precious");

        // Locked by somebody, who may be anybody.
        file.lock().unwrap();
        let error = listen(&endpoint).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("s.lock is locked"), "{error}");
        assert_eq!(fs::read_to_string(&name).unwrap(), "precious");
        drop(file);
        drop(listen(&endpoint).unwrap());

        // Also when the listen fails after it.
        fs::write(directory.join("s"), "no socket").unwrap();
        let error = listen(&endpoint).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(
            fs::read_to_string(directory.join("s")).unwrap(),
            "no socket"
        );
        assert_eq!(fs::read_to_string(&name).unwrap(), "precious");
        fs::remove_file(directory.join("s")).unwrap();

        fs::remove_file(&name).unwrap();
        fs::create_dir(&name).unwrap();
        fs::write(name.join("inside"), "precious").unwrap();
        drop(listen(&endpoint).unwrap());
        assert_eq!(fs::read_to_string(name.join("inside")).unwrap(), "precious");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    /// F-11: a lock that is replaced while it is being taken is none.
    #[test]
    fn a_lock_that_is_removed_as_it_is_taken_is_taken_anew() {
        let directory = scratch("lock-gone");
        let path = directory.join("s");
        let lock = Lock::take(&path).unwrap();
        fs::remove_file(directory.join("s.lock")).unwrap();
        let other = Lock::take(&path).unwrap(); // whoever removes it has given it up
        drop(lock);
        assert!(Lock::take(&path).is_err(), "the first has removed its own");
        drop(other);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir_all(directory).unwrap();
    }
}
