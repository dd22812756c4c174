//! What runs inside a namespace: a gateway, and hosts that talk through it.

use std::env;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ringwall::base::diagnostic::Diagnostics;
use ringwall::base::id::WorkerId;
use ringwall::base::site::Site;
use ringwall::base::time::Now;
use ringwall::compile;
use ringwall::config::Poll;
use ringwall::control::daemon::{self, Reload, RunSettings, Summary, pace};
use ringwall::engine::{self, Counters, Decision, Reason, Verdict};
use ringwall::io::ErrorClass;
use ringwall::io::xdp::{BusyPoll, Mode, Settings};
use ringwall::packet::{self, Arrival};
use ringwall::policy::ir::Policy;
use ringwall::worker::{EngineJudge, Judge, Load, NoTap, PassAll};

use super::lab::{CLIENT, PATIENCE, SERVER};

pub fn gateway(mode: &str, queues: u32) {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let modes = [Mode::Auto, Mode::ZeroCopy, Mode::Copy, Mode::Generic];
    let mode = modes.into_iter().find(|m| m.name() == mode).unwrap();
    let ports = Settings {
        uplink: "up0".into(),
        downlink: "dn0".into(),
        queues,
        mode,
        frame_size: env::var("RINGWALL_CHUNK").map_or(2048, |size| size.parse().unwrap()),
        huge_pages: env::var("RINGWALL_HUGE").is_ok(),
        numa_node: env::var("RINGWALL_NODE").ok().map(|node| node.parse().unwrap()),
        busy_poll: env::var("RINGWALL_BUSY").is_ok().then_some(BusyPoll {
            budget: 32,
            napi_defer_hard_irqs: Some(2),
            gro_flush_timeout: Some(200_000),
            ..BusyPoll::default()
        }),
        ..Settings::default()
    };
    let poll = match env::var("RINGWALL_POLL").as_deref() {
        Ok("busy") => Poll::Busy,
        Ok("interrupt") => Poll::Interrupt,
        _ => Poll::Adaptive,
    };
    let settings = RunSettings { pace: pace(poll), ..RunSettings::new(ports) };
    let reload = || Reload::Publish(().into());
    let outcome = if env::var("RINGWALL_ENGINE").is_ok() {
        let load = allow_all();
        let again = Arc::clone(&load);
        daemon::run(
            &settings,
            load,
            |worker, load| {
                let settings = engine::Settings { worker, ..engine::Settings::default() };
                (EngineJudge::new(load, &settings), NoTap)
            },
            |_| (),
            || Reload::Publish(again.clone()),
        )
    } else {
        let judge = |_, _| (Defective(PassAll::default(), env::var("RINGWALL_DEFECT").is_ok()), NoTap);
        daemon::run(&settings, ().into(), judge, |_| (), reload)
    };
    match outcome {
        Ok(summary) => println!("{}", describe(&summary)),
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(match error.class() {
                ErrorClass::Configuration => 3,
                ErrorClass::Environment => 5,
                ErrorClass::Defect => 6,
            });
        }
    }
}

/// What an empty policy compiles to.
fn allow_all() -> Arc<Load> {
    let options = compile::Options { workers: 2, ..compile::Options::default() };
    let program = compile::compile(&Policy::default(), &Site::default(), &options, &mut Diagnostics::new());
    Arc::new(Load { program: Arc::new(program.unwrap()), options: packet::Options::default() })
}

/// Passes everything, or fails at the first frame.
struct Defective(PassAll, bool);

impl Judge for Defective {
    type Load = ();
    fn begin(&mut self) {
        self.0.begin();
    }
    fn add(&mut self, frames: &[Arrival<'_>]) {
        assert!(!self.1, "made to fail");
        self.0.add(frames);
    }
    fn owner(&self, _: usize, here: WorkerId, _: u32) -> WorkerId {
        here
    }
    fn keep(&mut self, positions: u64) {
        self.0.keep(positions);
    }
    fn decide(&mut self) {
        self.0.decide();
    }
    fn decision(&self, position: usize) -> Decision {
        self.0.decision(position)
    }
    fn adopt(&mut self, load: Arc<()>) -> Arc<()> {
        self.0.adopt(load)
    }
    fn idle(&mut self, now: Now) {
        self.0.idle(now);
    }
    fn counters(&self) -> &Counters {
        self.0.counters()
    }
    fn flows(&self) -> usize {
        self.0.flows()
    }
}

fn describe(summary: &Summary) -> String {
    let [inbound, outbound] = summary.fates.transmitted.map(|tally| tally.packets);
    let bad: u64 = summary
        .workers
        .iter()
        .flat_map(|w| w.queues)
        .map(|q| q.bad_descriptors + q.invalid_fill_descriptors + q.invalid_transmit_descriptors)
        .sum();
    let [up, down] = summary.left_to_kernel;
    let count = |verdict, reason| summary.counters.total(verdict, reason).packets;
    format!(
        "inbound={inbound} outbound={outbound} completed={} bad={bad} without_socket={} to_the_box={} workers={} \
         generation={} lost={} handed_over={} established={} invalid={} full={} sleeps={} woken={} device_polls={} stalls={} {:?} {:?}",
        summary.fates.completed,
        up.without_socket + down.without_socket,
        up.to_the_box + down.to_the_box,
        summary.workers.len(),
        summary.generation,
        summary.lost_frames,
        summary.fates.handed_over,
        count(Verdict::Allow, Reason::Established),
        count(Verdict::Deny, Reason::InvalidState),
        summary.fates.handover_full.iter().chain(&summary.fates.ring_full).map(|tally| tally.packets).sum::<u64>(),
        summary.fates.sleeps,
        summary.fates.woken,
        summary.workers.iter().flat_map(|w| w.queues).map(|q| q.device_polls).sum::<u64>(),
        summary.stalls.iter().flatten().sum::<u64>(),
        summary.fates,
        summary.workers.iter().map(|w| w.queues).collect::<Vec<_>>(),
    )
}

/// Bytes that repeat after no power of two.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn exchange(mut stream: TcpStream, bytes: usize) {
    let sent = pattern(bytes);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let expected = sent.clone();
    let sender = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut received = Vec::with_capacity(bytes);
    stream.read_to_end(&mut received).unwrap();
    sender.join().unwrap();
    assert_eq!(received.len(), bytes);
    assert!(received == expected, "bytes differ from {:?}", received.iter().zip(&expected).position(|(a, b)| a != b));
}

pub fn serve(bytes: usize) {
    let listener = TcpListener::bind((SERVER, 7000)).unwrap();
    println!("listening");
    exchange(listener.accept().unwrap().0, bytes);
}

pub fn connect(bytes: usize) {
    exchange(TcpStream::connect((SERVER, 7000)).unwrap(), bytes);
}

pub fn knock(address: &str, patience: Duration) {
    let at = format!("{address}:9").parse().unwrap();
    let error = TcpStream::connect_timeout(&at, patience).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
}

pub fn echo() {
    let socket = UdpSocket::bind((SERVER, 7001)).unwrap();
    println!("listening");
    let mut room = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut room) {
        socket.send_to(&room[..length], from).unwrap();
    }
}

pub fn datagrams() {
    let longest = env::var("RINGWALL_LONGEST").unwrap().parse().unwrap();
    let all = pattern(longest);
    let mut room = [0; 2048];
    // A socket per length, so that the flows spread over the queues.
    for length in [1, 2, 3, 17, 18, 63, 64, 65, 127, 128, 129, 511, 1000, 1470, 1471, longest] {
        let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
        socket.connect((SERVER, 7001)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        for _ in 0..10 {
            socket.send(&all[..length]).unwrap();
            let got = socket.recv(&mut room).unwrap_or_else(|error| panic!("{length} bytes: {error}"));
            assert!(room[..got] == all[..length], "{length} bytes came back as {got}");
        }
    }
}

/// Sends datagrams that nobody answers, numbered from the first on, slowly enough for every queue on the way.
pub fn stream(address: &str, first: u32, count: u32) {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    for number in first..first + count {
        // A refusal of an earlier one is no matter.
        let _ = socket.send_to(&number.to_be_bytes(), (address, 7002));
        if number % 16 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Receives so many datagrams of a stream, and says how many after each part of it; ends with an error if they do not come.
pub fn sink(count: u32, part: u32) {
    let socket = UdpSocket::bind((CLIENT, 7002)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    println!("listening");
    for expected in 0..count {
        let mut room = [0; 64];
        let length = socket.recv(&mut room).unwrap_or_else(|error| panic!("after {expected}: {error}"));
        assert_eq!(room[..length], expected.to_be_bytes());
        if (expected + 1) % part == 0 {
            println!("received {}", expected + 1);
        }
    }
}

/// Takes all frames off an interface and never looks at them, until it is killed.
pub fn end(interface: &str) {
    let settings = Settings { uplink: interface.into(), mode: Mode::Copy, ..Settings::default() };
    let _end = ringwall::io::xdp::open_end(&settings).unwrap();
    println!("bound");
    thread::sleep(10 * PATIENCE);
}

/// Binds a socket to queue 0 of the uplink, as another program would, until it is killed.
pub fn hold() {
    let bind = || {
        let config = xsk_rs::config::UmemConfig::default();
        let (umem, frames) = xsk_rs::Umem::new(config, 64.try_into().unwrap(), false).unwrap();
        let flags = xsk_rs::config::LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD;
        let config = xsk_rs::config::SocketConfig::builder().libxdp_flags(flags).build();
        // SAFETY: no other socket of this process is bound, and libxdp loads no program.
        let queues = unsafe { xsk_rs::Socket::new(config, &umem, &"up0".parse().unwrap(), 0) };
        queues.map(|queues| (queues, frames))
    };
    let start = Instant::now();
    // The kernel takes a queue from who had it before a little after that one has gone.
    let _queues = loop {
        match bind() {
            Ok(queues) => break queues,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        thread::sleep(Duration::from_millis(20));
    };
    println!("bound");
    thread::sleep(10 * PATIENCE);
}
