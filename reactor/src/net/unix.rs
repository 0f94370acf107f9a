//! UNIX sockets, and the files that name them.
//!
//! A socket file outlives a server that dies, and no server can bind its path while the file
//! exists. So a file at which no server answers is replaced. Other files stay: files of another
//! kind, sockets that we may not connect to, and sockets of a live server, however busy.
//!
//! Servers that start at the same time must not take each other's file for that of a dead server:
//! the system does not distinguish a server that has bound its socket and does not listen yet from
//! a dead one. So a server holds a [`Lock`] while it takes a path: an flock(2) on a second file
//! beside the first. The lock file is created for this and exists for less than a millisecond. If a
//! file of that name exists already, it is locked, and neither changed nor removed.
//!
//! Other programs do not know the lock, and no system call removes a file only if it is a certain
//! one. So a file is first [moved aside](remove_if), checked there, where no program replaces it,
//! and put back if it is the wrong one.

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

/// Length of the queue of connections; most systems have a lower limit of their own.
const BACKLOG: i32 = 1024;

/// How often to try again when a lock file is removed by its owner while it is being locked.
const LOCK_ATTEMPTS: usize = 8;

/// A listening socket and its file.
#[derive(Debug)]
pub(crate) struct UnixAcceptor {
    /// Dropped first: while the socket is open, no other server takes the path.
    _file: Option<SocketFile>,
    pub(crate) socket: UnixListener,
}

impl UnixAcceptor {
    /// Uses a socket that was opened elsewhere; its file is not removed.
    pub(crate) fn adopt(socket: UnixListener) -> Self {
        Self {
            _file: None,
            socket,
        }
    }
}

/// Starts to listen, in place of a dead server if there is one.
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
            // If another server was faster, the path belongs to that one.
            socket.bind(&address)?;
        }
        let file = SocketFile::find(path)?;
        if let Some(mode) = mode {
            // Before the socket listens, no client can connect.
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

/// Prevents two servers from taking a path at the same time. The system releases it when the
/// process ends.
struct Lock {
    file: fs::File,
    /// The path of the lock file, if it was created here.
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

    /// Creates the lock file. It is locked before it gets its name, so that no other server locks
    /// it first. `None` if a file of that name exists.
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

    /// Locks an existing file. `None` if it was removed meanwhile.
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
        // Removed while still locked: the next process that locks it finds that it is gone, and
        // creates another.
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

/// Starts to connect, without waiting: `WouldBlock` if the server's queue is full.
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

/// Converts an address of the system.
pub(crate) fn address(address: &SocketAddr) -> Address {
    #[cfg(target_os = "linux")]
    if let Some(name) = address.as_abstract_name() {
        let path = [&[0], name].concat();
        return Address::Unix(Some(std::ffi::OsStr::from_bytes(&path).into()));
    }
    Address::Unix(address.as_pathname().map(Path::to_owned))
}

/// The file of a socket bound here; removed on drop, if it is still the same file.
#[derive(Debug)]
struct SocketFile {
    /// Absolute, because the program may change its directory.
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
        // If another program removed or replaced the file, there is nothing to do.
        let _ = remove_if(&self.path, |_, found| {
            (found.dev(), found.ino()) == (self.device, self.inode)
        });
    }
}

/// Removes the socket file of a dead server. Returns `false` if the server is alive or the file is
/// none.
fn remove_dead(path: &Path) -> io::Result<bool> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() || !is_dead(path) {
        return Ok(false);
    }
    // Inode numbers are reused; modification times are not.
    let identity = |file: &Metadata| (file.dev(), file.ino(), file.mtime(), file.mtime_nsec());
    or_gone(remove_if(path, |path, now| {
        identity(now) == identity(&found) && is_dead(path)
    }))
}

/// Treats a missing file as removed by another process.
fn or_gone(removed: io::Result<bool>) -> io::Result<bool> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        removed => removed,
    }
}

/// Whether no server listens there. A socket that we may not connect to counts as alive.
fn is_dead(path: &Path) -> bool {
    matches!(connect(path), Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Removes a file if it is the one that `is_meant` describes, even if others replace it at the same
/// time.
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
    // Another process replaced the file between the two checks. A hard link does not overwrite a
    // third file.
    match fs::hard_link(&aside, path) {
        Ok(()) => fs::remove_file(&aside)?,
        Err(_) => fs::rename(&aside, path)?,
    }
    Ok(false)
}

/// Random digits for a file name that is not in use.
fn random() -> String {
    format!("{:016x}", RandomState::new().hash_one(()))
}

/// The path with an extension appended to the file name.
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
