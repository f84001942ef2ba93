//! The keys of one sandbox. The host creates new ones for each start.

use std::fs;
use std::path::PathBuf;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey};
use ssh_key::{LineEnding, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::error::KeyError;
use sandbox_host::files::{FileError, write_private_volatile};

/// The files of one sandbox's keys, in OpenSSH's formats, named as OpenSSH names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    directory: PathBuf,
}

impl KeyFiles {
    /// Returns the key files in `directory`.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Returns the path of the client's private key.
    pub fn identity(&self) -> PathBuf {
        self.directory.join("id_ed25519")
    }

    /// Returns the path of the client's public key, a line of `authorized_keys`.
    pub fn identity_public(&self) -> PathBuf {
        self.directory.join("id_ed25519.pub")
    }

    /// Returns the path of the guest's private host key.
    pub fn host_key(&self) -> PathBuf {
        self.directory.join("ssh_host_ed25519_key")
    }

    /// Returns the path of the `known_hosts` file, whose only entry is the host key under the
    /// sandbox's name.
    pub fn known_hosts(&self) -> PathBuf {
        self.directory.join("known_hosts")
    }

    /// Writes `keys` into the existing directory, each file with mode 0600. `known_hosts` lists the
    /// host key under the sandbox's `name`, so that the file does not depend on the port
    /// (`HostKeyAlias` of ssh_config(5)).
    ///
    /// # Errors
    /// Fails if a file cannot be written.
    pub fn write(&self, name: &str, keys: &Keys) -> Result<(), KeyError> {
        write_private_volatile(&self.identity(), keys.identity_private.as_bytes())?;
        write_private_volatile(
            &self.identity_public(),
            format!("{}\n", keys.authorized_key).as_bytes(),
        )?;
        write_private_volatile(&self.host_key(), keys.host_key_private.as_bytes())?;
        write_private_volatile(
            &self.known_hosts(),
            format!("{name} {}\n", keys.host_key).as_bytes(),
        )?;
        Ok(())
    }

    /// Returns the stored public host key, in OpenSSH's text form.
    ///
    /// # Errors
    /// Fails if the file is missing or contains no key.
    pub fn read_host_key(&self) -> Result<String, KeyError> {
        let path = self.host_key();
        let text = fs::read(&path).map_err(FileError::new("read", &path))?;
        PrivateKey::from_openssh(text)
            .and_then(|key| key.public_key().to_openssh())
            .map_err(|source| KeyError::Parse { path, source })
    }
}

/// The keys of one sandbox, in OpenSSH's text formats.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// The private key that opens the guest. A secret.
    pub identity_private: String,
    /// Its public half: the line of `authorized_keys` that lets the host in.
    pub authorized_key: String,
    /// The guest's host key. A secret.
    pub host_key_private: String,
    /// Its public half, without a comment.
    pub host_key: String,
}

impl Keys {
    /// Generates all keys. Their comments contain `name`, the sandbox's name.
    ///
    /// # Errors
    /// Fails if the system returns no random numbers.
    pub fn generate(name: &str) -> Result<Self, KeyError> {
        let identity = new_key(&format!("sandbox {name}"))?;
        let host_key = new_key(name)?;
        let mut bare_host_key = host_key.public_key().clone();
        bare_host_key.set_comment("");
        Ok(Self {
            identity_private: private_text(&identity)?,
            authorized_key: public_line(identity.public_key())?,
            host_key_private: private_text(&host_key)?,
            host_key: public_line(&bare_host_key)?.trim_end().to_owned(),
        })
    }
}

impl std::fmt::Debug for Keys {
    /// Omits the private keys.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Keys")
            .field("authorized_key", &self.authorized_key)
            .field("host_key", &self.host_key)
            .finish_non_exhaustive()
    }
}

fn new_key(comment: &str) -> Result<PrivateKey, KeyError> {
    let mut seed = Zeroizing::new([0; Ed25519PrivateKey::BYTE_SIZE]);
    getrandom(seed.as_mut_slice(), GetRandomFlags::empty())
        .map_err(|error| KeyError::Random(error.into()))?;
    let pair = Ed25519Keypair::from_seed(&seed);
    let mut key = PrivateKey::from(pair);
    key.set_comment(comment);
    Ok(key)
}

fn private_text(key: &PrivateKey) -> Result<String, KeyError> {
    let text = key.to_openssh(LineEnding::LF).map_err(KeyError::Generate)?;
    Ok(text.to_string())
}

fn public_line(key: &PublicKey) -> Result<String, KeyError> {
    key.to_openssh().map_err(KeyError::Generate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn key_files_are_private_and_new_for_each_start() {
        let directory = tempfile::tempdir().unwrap();
        let files = KeyFiles::in_directory(directory.path());
        let keys = Keys::generate("box").unwrap();
        files.write("box", &keys).unwrap();
        for path in [
            files.identity(),
            files.identity_public(),
            files.host_key(),
            files.known_hosts(),
        ] {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600, "{}", path.display());
        }
        assert_eq!(
            files.read_host_key().unwrap().trim_end(),
            format!("{} box", keys.host_key)
        );
        let identity = PrivateKey::from_openssh(fs::read(files.identity()).unwrap()).unwrap();
        let authorized = PublicKey::from_openssh(&keys.authorized_key).unwrap();
        assert_eq!(identity.public_key().key_data(), authorized.key_data());
        let known_hosts = fs::read_to_string(files.known_hosts()).unwrap();
        let (name, key) = known_hosts.split_once(' ').unwrap();
        assert_eq!(name, "box");
        assert_eq!(key.trim_end(), keys.host_key);

        let again = Keys::generate("box").unwrap();
        assert_ne!(again.host_key, keys.host_key);
        assert_ne!(again.authorized_key, keys.authorized_key);
    }

    #[test]
    fn keys_debug_omits_private_keys() {
        let keys = Keys::generate("box").unwrap();
        assert!(!format!("{keys:?}").contains("PRIVATE"));
    }
}
