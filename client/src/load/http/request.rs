//! HTTP requests as bytes.

use super::Api;
use crate::{
    keys::Keys,
    value::{Form, Version},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use trine::resp::decimal;

/// The header that carries a password, with its line end; nothing without one.
pub(crate) fn authorization(password: Option<&[u8]>) -> String {
    password.map_or_else(String::new, |password| {
        format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode([b"default:", password].concat()))
    })
}

/// Writes HTTP requests. Keys and values need no escape: they are letters, digits and a colon.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    api: Api,
    keys: Keys,
    authorization: String,
    /// By node: what follows the path of a read, and of a write up to the length of its body.
    heads: Vec<[Vec<u8>; 2]>,
}

impl Requests {
    pub(crate) fn new(api: Api, keys: Keys, password: Option<&[u8]>) -> Self {
        Self { api, keys, authorization: authorization(password), heads: Vec::new() }
    }

    pub(crate) fn api(&self) -> Api {
        self.api
    }

    /// Knows all nodes, by their addresses.
    pub(crate) fn know(&mut self, nodes: &[String]) {
        let kind = match self.api {
            Api::Set => "application/x-www-form-urlencoded",
            Api::Store => "application/json",
        };
        for node in &nodes[self.heads.len()..] {
            let head = format!(" HTTP/1.1\r\nHost: {node}\r\n{}", self.authorization);
            let get = format!("{head}\r\n").into_bytes();
            let set = format!("{head}Content-Type: {kind}\r\nContent-Length: ").into_bytes();
            self.heads.push([get, set]);
        }
    }

    #[inline]
    pub(crate) fn key(&mut self, number: u64) -> &[u8] {
        self.keys.text(number)
    }

    /// Appends a read.
    #[inline]
    pub(crate) fn get(&mut self, output: &mut Vec<u8>, node: usize, key: u64) {
        output.extend_from_slice(match self.api {
            Api::Set => b"GET /get/",
            Api::Store => b"GET /retrieve?key=",
        });
        output.extend_from_slice(self.keys.text(key));
        output.extend_from_slice(&self.heads[node][0]);
    }

    /// Appends a write.
    #[inline]
    pub(crate) fn set(&mut self, output: &mut Vec<u8>, node: usize, key: u64, version: Version, length: usize) {
        let head = &self.heads[node][1];
        let text = self.keys.text(key);
        output.reserve(head.len() + 2 * text.len() + length + 64);
        match self.api {
            Api::Set => {
                output.extend_from_slice(b"PUT /set/");
                output.extend_from_slice(text);
                output.extend_from_slice(head);
                decimal(output, (b"value=".len() + length) as u64);
                output.extend_from_slice(b"\r\n\r\nvalue=");
                Form::Letters.write(output, key, version, length);
            }
            Api::Store => {
                output.extend_from_slice(b"PUT /store");
                output.extend_from_slice(head);
                decimal(output, (br#"{"":""}"#.len() + text.len() + length) as u64);
                output.extend_from_slice(b"\r\n\r\n{\"");
                output.extend_from_slice(text);
                output.extend_from_slice(b"\":\"");
                Form::Letters.write(output, key, version, length);
                output.extend_from_slice(b"\"}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(api: Api, password: Option<&[u8]>) -> (String, String) {
        let mut requests = Requests::new(api, Keys::shared(8, 1000).unwrap(), password);
        requests.know(&["a:1".into(), "b:2".into()]);
        let (mut get, mut set) = (Vec::new(), Vec::new());
        requests.get(&mut get, 0, 42);
        requests.set(&mut set, 1, 42, Version(7), 40);
        (String::from_utf8(get).unwrap(), String::from_utf8(set).unwrap())
    }

    fn value() -> String {
        let mut value = Vec::new();
        Form::Letters.write(&mut value, 42, Version(7), 40);
        String::from_utf8(value).unwrap()
    }

    /// Each request is whole, names its host, and says how long its body is.
    #[test]
    fn requests_are_whole() {
        let (get, set) = written(Api::Set, None);
        assert_eq!(get, "GET /get/key:0042 HTTP/1.1\r\nHost: a:1\r\n\r\n");
        let head = "PUT /set/key:0042 HTTP/1.1\r\nHost: b:2\r\nContent-Type: application/x-www-form-urlencoded\r\n";
        assert_eq!(set, format!("{head}Content-Length: 46\r\n\r\nvalue={}", value()));
        let (get, set) = written(Api::Store, None);
        assert_eq!(get, "GET /retrieve?key=key:0042 HTTP/1.1\r\nHost: a:1\r\n\r\n");
        let head = "PUT /store HTTP/1.1\r\nHost: b:2\r\nContent-Type: application/json\r\nContent-Length: 55\r\n\r\n";
        assert_eq!(set, format!("{head}{{\"key:0042\":\"{}\"}}", value()));
        let (_, body) = set.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.len(), 55);
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["key:0042"], value());
    }

    /// A password goes with every request.
    #[test]
    fn a_password_goes_along() {
        let (get, set) = written(Api::Set, Some(b"sesame"));
        assert_eq!(get, "GET /get/key:0042 HTTP/1.1\r\nHost: a:1\r\nAuthorization: Basic ZGVmYXVsdDpzZXNhbWU=\r\n\r\n");
        assert!(set.contains("\r\nAuthorization: Basic ZGVmYXVsdDpzZXNhbWU=\r\n"), "{set}");
    }
}
