//! What a path is, and whether a database may live there.
#![expect(unsafe_code, reason = "statfs has no safe interface")]

use std::fs::{self, DirBuilder, FileType};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::descriptors::{checked, path_to_c};
use super::{FileIdentity, PathProblem, PathRules};

/// Which file a path names at this moment, links followed.
///
/// # Errors
///
/// What the file system says.
pub fn file_identity(path: &Path) -> io::Result<FileIdentity> {
    let facts = fs::metadata(path)?;
    Ok(FileIdentity {
        device: facts.dev(),
        inode: facts.ino(),
        links: facts.nlink(),
    })
}

/// Creates a folder that only its owner can enter (0700); an existing one is left as it is.
///
/// # Errors
///
/// `AlreadyExists` when the path is something else, a symbolic link included; what the file
/// system says otherwise.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::symlink_metadata(path)?.is_dir() {
                Ok(())
            } else {
                Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!(
                        "{} must be a folder, and something else has this name; move it away",
                        path.display()
                    ),
                ))
            }
        }
        answer => answer,
    }
}

/// Checks that a database file exists or can be created at a path, and that locks work there.
///
/// # Errors
///
/// A [`PathProblem`] that names the path and says what to do.
pub fn check_database_path(path: &Path, rules: PathRules) -> Result<(), PathProblem> {
    let unreadable = |source| PathProblem::Unreadable {
        path: path.to_owned(),
        source,
    };
    let existing = match fs::symlink_metadata(path) {
        Ok(facts) if facts.is_symlink() && !rules.allow_symlink => {
            return Err(PathProblem::Symlink {
                path: path.to_owned(),
            });
        }
        // The target of the link decides; a link to nothing is a file that can be created.
        Ok(facts) if facts.is_symlink() => fs::metadata(path),
        answer => answer,
    };
    let place: PathBuf = match existing {
        Ok(facts) => {
            check_kind(path, facts.file_type())?;
            path.to_owned()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = folder_of(path);
            if !folder.is_dir() {
                return Err(PathProblem::NoFolder {
                    path: path.to_owned(),
                    folder,
                });
            }
            folder
        }
        Err(error) => return Err(unreadable(error)),
    };
    if rules.allow_network {
        return Ok(());
    }
    match network_file_system(file_system_magic(&place).map_err(unreadable)?) {
        Some(file_system) => Err(PathProblem::Network {
            path: path.to_owned(),
            file_system,
        }),
        None => Ok(()),
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn check_kind(path: &Path, kind: FileType) -> Result<(), PathProblem> {
    if kind.is_file() {
        return Ok(());
    }
    if kind.is_dir() {
        return Err(PathProblem::Directory {
            path: path.to_owned(),
            example: path.join("queue.db"),
        });
    }
    let kind = if kind.is_fifo() {
        "named pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    };
    Err(PathProblem::NotAFile {
        path: path.to_owned(),
        kind,
    })
}

fn file_system_magic(path: &Path) -> io::Result<u32> {
    let path = path_to_c(path)?;
    // SAFETY: all fields are integers, for which zero is a value.
    let mut facts: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a valid C string, the structure outlives the call.
    checked(unsafe { libc::statfs(path.as_ptr(), &raw mut facts) })?;
    // The numbers have 32 bits; some architectures' field is wider or signed.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the magic numbers have 32 bits"
    )]
    Ok(facts.f_type as u32)
}

/// The name of a file system that other hosts, or the host of a virtual machine, can write to.
///
/// FUSE is among them as a whole: sshfs and others cannot be told apart by their number.
fn network_file_system(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517B => "SMB",
        0xFF53_4D42 => "CIFS",
        0xFE53_4D42 => "SMB2",
        0x0102_1997 => "9p",
        0x6573_5546 => "FUSE, such as sshfs or virtiofs",
        0x786F_4256 => "a shared folder of VirtualBox",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x00C3_6400 => "Ceph",
        0x0116_1970 => "GFS2",
        0x7461_636F => "OCFS2",
        0x0BD0_0BD0 => "Lustre",
        0x564C => "NCP",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const STRICT: PathRules = PathRules {
        allow_network: false,
        allow_symlink: false,
    };

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    fn refusal(path: &Path) -> String {
        let problem = check_database_path(path, STRICT).expect_err("must be refused");
        let message = problem.to_string();
        assert!(message.contains(&format!("{path:?}")), "{message}");
        message
    }

    #[test]
    fn a_file_and_a_free_name_are_accepted() {
        let folder = folder();
        let path = folder.path().join("queue.db");
        check_database_path(&path, STRICT).expect("a free name");
        fs::write(&path, b"").expect("write");
        check_database_path(&path, STRICT).expect("a file");
        check_database_path(Path::new("not-there.db"), STRICT).expect("a relative name");
    }

    #[test]
    fn what_is_not_a_file_is_refused() {
        let folder = folder();
        assert!(refusal(folder.path()).contains("is a folder"));
        assert!(refusal(Path::new("/dev/null")).contains("device"));
        assert!(refusal(&folder.path().join("no/queue.db")).contains("does not exist"));

        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bind");
        assert!(refusal(&socket).contains("socket"));

        let pipe = folder.path().join("pipe");
        let name = path_to_c(&pipe).expect("a path");
        // SAFETY: the path is a valid C string.
        checked(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }).expect("mkfifo");
        assert!(refusal(&pipe).contains("named pipe"));

        let file = folder.path().join("file");
        fs::write(&file, b"").expect("write");
        assert!(refusal(&file.join("queue.db")).contains("cannot be examined"));
    }

    #[test]
    fn a_link_is_refused_unless_allowed() {
        let folder = folder();
        let link = folder.path().join("link");
        symlink(folder.path().join("queue.db"), &link).expect("link");
        assert!(refusal(&link).contains("symbolic link"));
        let rules = PathRules {
            allow_symlink: true,
            ..STRICT
        };
        check_database_path(&link, rules).expect("a link to a free name");
        fs::remove_file(&link).expect("remove");
        symlink("/dev/null", &link).expect("link");
        check_database_path(&link, rules).expect_err("a link to a device");
    }

    #[test]
    fn network_file_systems_are_known_by_number() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(network_file_system(0xFF53_4D42), Some("CIFS"));
        assert_eq!(network_file_system(0x0102_1997), Some("9p"));
        assert_eq!(network_file_system(0xEF53), None, "ext4");
        assert_eq!(network_file_system(0x0102_1994), None, "tmpfs");
        assert_eq!(network_file_system(0x794C_7630), None, "overlay");
        let proc = file_system_magic(Path::new("/proc")).expect("statfs");
        assert_eq!(proc, 0x9FA0);
    }

    #[test]
    fn a_private_folder_is_private_and_may_exist() {
        let folder = folder();
        let path = folder.path().join("run");
        create_private_folder(&path).expect("create");
        create_private_folder(&path).expect("exists");
        let mode = fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let link = folder.path().join("link");
        symlink(&path, &link).expect("link");
        let error = create_private_folder(&link).expect_err("a link");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn an_identity_counts_names() {
        let folder = folder();
        let path = folder.path().join("queue.db");
        fs::write(&path, b"").expect("write");
        let before = file_identity(&path).expect("identity");
        assert_eq!(before.links, 1);
        fs::hard_link(&path, folder.path().join("second")).expect("link");
        let after = file_identity(&path).expect("identity");
        assert_eq!(after.links, 2);
        assert_eq!((before.device, before.inode), (after.device, after.inode));
    }
}
