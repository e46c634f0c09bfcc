//! Addresses of topology stores: `file:PATH` and `etcd://HOST:PORT,…/NAME`.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::topology::is_name;

/// The port that etcd serves clients on unless it is told otherwise.
const ETCD_PORT: u16 = 2379;

/// The address of a topology store. Holds no secret, so it may be printed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StoreUrl {
    /// A file, on one machine or on a volume that all servers share. Written `file:PATH`.
    File(PathBuf),
    /// A cluster of etcd.
    Etcd(Box<EtcdUrl>),
}

/// The address of a document in etcd. Written `etcd://[USER@]HOST[:PORT],…/NAME`, or `etcds://` for TLS, with `?ca=FILE` for
/// the certificates of the authorities that are trusted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EtcdUrl {
    /// Members of the cluster, as `HOST:PORT`. At least one.
    pub endpoints: Vec<String>,
    /// The name of Trine's cluster: several may share an etcd.
    pub name: String,
    /// True for TLS.
    pub is_tls: bool,
    /// The user to authenticate as, if etcd wants one. The password is never part of an address.
    pub user: Option<String>,
    /// The file of certificates that are trusted, in PEM, if not the system's.
    pub ca: Option<PathBuf>,
}

/// Why a text is no address of a topology store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UrlError {
    /// It begins with neither `file:` nor `etcd://`.
    Scheme,
    /// `file:` without a path.
    NoPath,
    /// A `file://` with a host.
    FileHost,
    /// A password stands in it, where it would be seen by others and printed.
    Password,
    /// A host or port that can't be read.
    Endpoint {
        /// The text as it stands.
        text: String,
    },
    /// No name, or one that has other characters than letters, digits, `-`, `_` and `.`.
    Name {
        /// The text as it stands.
        text: String,
    },
    /// A parameter other than `ca`, or without a value, or without TLS.
    Parameter {
        /// The text as it stands.
        text: String,
    },
}

impl EtcdUrl {
    /// Returns the key of the document.
    pub fn key(&self) -> String {
        format!("/trine/{}/topology", self.name)
    }
}

impl FromStr for StoreUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if let Some(path) = text.strip_prefix("file:") {
            let path = match path.strip_prefix("//") {
                // file:///PATH, with an empty host.
                Some(path) if path.starts_with('/') => path,
                Some(_) => return Err(UrlError::FileHost),
                None => path,
            };
            let is_file = !path.is_empty() && !path.ends_with('/') && !path.contains('\0');
            return is_file.then(|| Self::File(path.into())).ok_or(UrlError::NoPath);
        }
        if let Some(rest) = text.strip_prefix("etcd://") {
            return etcd(rest, false).map(|url| Self::Etcd(Box::new(url)));
        }
        text.strip_prefix("etcds://")
            .map_or(Err(UrlError::Scheme), |rest| etcd(rest, true).map(|url| Self::Etcd(Box::new(url))))
    }
}

/// Reads what follows the scheme.
fn etcd(text: &str, is_tls: bool) -> Result<EtcdUrl, UrlError> {
    let whole = text;
    let (text, parameters) = text.split_once('?').unwrap_or((text, ""));
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, _)) if user.contains(':') || user.is_empty() => return Err(UrlError::Password),
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, text),
    };
    let (hosts, name) = rest.split_once('/').unwrap_or((rest, ""));
    let endpoints = hosts.split(',').map(endpoint).collect::<Result<_, _>>();
    // A password may have a `?` in it, so that a part of it stands where a host belongs.
    let endpoints =
        endpoints.map_err(|error| if user.is_none() && whole.contains('@') { UrlError::Password } else { error })?;
    if !is_name(name) {
        return Err(UrlError::Name { text: name.into() });
    }
    let mut ca = None;
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("ca", path)) if is_tls && !path.is_empty() => ca = Some(path.into()),
            // The value may be a secret that somebody put there by mistake.
            _ => {
                let (key, _) = parameter.split_once('=').unwrap_or((parameter, ""));
                return Err(UrlError::Parameter { text: key.into() });
            }
        }
    }
    Ok(EtcdUrl { endpoints, name: name.into(), is_tls, user, ca })
}

/// Reads `host`, `host:2379` or `[fd00::6]:2379`.
fn endpoint(text: &str) -> Result<String, UrlError> {
    let bad = || UrlError::Endpoint { text: text.into() };
    let is_ipv6_alone = text.starts_with('[') && text.ends_with(']');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !is_ipv6_alone => (host, port.parse().map_err(|_| bad())?),
        _ => (text, ETCD_PORT),
    };
    let is_ipv6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let is_word = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if port == 0 || !(is_ipv6 || is_word) {
        return Err(bad());
    }
    Ok(format!("{host}:{port}"))
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(out, "file:{}", path.display()),
            Self::Etcd(url) => {
                let scheme = if url.is_tls { "etcds" } else { "etcd" };
                let user = url.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                write!(out, "{scheme}://{user}{}/{}", url.endpoints.join(","), url.name)?;
                url.ca.as_ref().map_or(Ok(()), |ca| write!(out, "?ca={}", ca.display()))
            }
        }
    }
}

impl std::error::Error for UrlError {}

impl fmt::Display for UrlError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const EXAMPLE: &str = "write file:PATH, or etcd://HOST:2379,HOST:2379/NAME (etcds:// for TLS)";
        match self {
            Self::Scheme => write!(out, "not an address of a topology store: {EXAMPLE}"),
            Self::NoPath => write!(out, "file: without the path of a file: {EXAMPLE}"),
            Self::FileHost => write!(out, "file:// with a host: write file:PATH, with the path on this machine"),
            Self::Password => {
                write!(
                    out,
                    "a password does not belong into an address, where others see it: write only the user in "
                )?;
                write!(out, "front of @, and give the password by --password-file or TRINE_CLUSTER_PASSWORD")
            }
            Self::Endpoint { text } => write!(out, "{text:?} is not HOST or HOST:PORT: {EXAMPLE}"),
            Self::Name { text } => {
                write!(out, "{text:?} is not a cluster's name (letters, digits, `-`, `_` and `.`): {EXAMPLE}")
            }
            Self::Parameter { text } => {
                write!(out, "parameter {text:?}: there is only ca=FILE, with etcds://, for the certificates to trust")
            }
        }
    }
}
