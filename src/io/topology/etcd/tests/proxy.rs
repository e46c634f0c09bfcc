//! A proxy that does to requests and answers what a bad network does.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// The fate of a request and its answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    None,
    /// The request does not arrive.
    LoseRequest,
    /// The request is carried out, and nobody is told.
    LoseAnswer,
    /// The connection ends within the answer.
    CutAnswer,
    /// The connection ends at once, and the request is carried out this much later.
    Late(Duration),
    /// The request is carried out twice, and the second answer arrives.
    Twice,
}

impl Fault {
    pub(super) fn draw(random: &mut fastrand::Rng) -> Self {
        match random.u8(..20) {
            0 | 1 => Self::LoseRequest,
            2 | 3 => Self::LoseAnswer,
            4 => Self::CutAnswer,
            5 | 6 => Self::Late(Duration::from_micros(random.u64(0..20_000))),
            7 | 8 => Self::Twice,
            _ => Self::None,
        }
    }
}

/// A proxy to a port of this machine. Ends when dropped.
pub(super) struct Proxy {
    pub(super) port: u16,
    is_over: Arc<AtomicBool>,
}

impl Proxy {
    /// `fault` decides from the path of a request.
    pub(super) fn start(to: u16, fault: impl FnMut(&str) -> Fault + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, fault) = (Arc::clone(&is_over), Arc::new(Mutex::new(fault)));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let fault = Arc::clone(&fault);
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let Some((path, request)) = request(&stream) else { return };
                    let fault = (fault.lock().unwrap())(&path);
                    pass(&mut stream, to, &request, fault);
                });
            }
        });
        Self { port, is_over }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Reads a request. Asks for the connection to be closed behind the answer, whose end is then known.
fn request(stream: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        let line = head[start..].trim_end();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let path = head.split(' ').nth(1)?.to_owned();
    head.insert_str(head.len() - 2, "Connection: close\r\n");
    let mut request = head.into_bytes();
    let start = request.len();
    request.resize(start + length, 0);
    reader.read_exact(&mut request[start..]).ok()?;
    Some((path, request))
}

fn pass(client: &mut TcpStream, to: u16, request: &[u8], fault: Fault) {
    // The end of a connection is what the other side gets to see.
    let ask = || -> Option<Vec<u8>> {
        let mut server = TcpStream::connect(("127.0.0.1", to)).ok()?;
        server.write_all(request).ok()?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).ok()?;
        Some(answer)
    };
    let answer = match fault {
        Fault::LoseRequest => None,
        Fault::LoseAnswer => ask().and(None),
        Fault::CutAnswer => ask().map(|mut answer| {
            answer.truncate(answer.len() / 2);
            answer
        }),
        Fault::Late(after) => {
            let _ = client.shutdown(Shutdown::Both);
            thread::sleep(after);
            ask().and(None)
        }
        Fault::Twice => ask().and_then(|_| ask()),
        Fault::None => ask(),
    };
    let _ = answer.map(|answer| client.write_all(&answer));
    let _ = client.shutdown(Shutdown::Both);
}
