//! Loading and attaching: native, else generic, else none; each step told, and kept to be read.

use std::{ffi::CString, mem::size_of, thread, time::Duration};

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{Array, ProgramArray},
    programs::{ProgramError, SkLookup, Xdp, XdpMode as Attach},
};
use relay_abi::settings::Settings;
use tracing::{error, info, warn};
use zerocopy::transmute;

use super::{
    InterfaceState, OffloadConfig, Steering, WorkerRing, XdpDatapath, XdpMode,
    configuration::{DEVICES, EVENT_OCTETS, ring_octets},
    elements::Elements,
    interrupted::load_again,
    kernel_maps::{cause, refused},
    layout::LONGEST,
    map_memory::{sizes, socket_slots},
    memory::NO_STREAMS,
    rings,
};

/// The object that the build script compiled.
static OBJECT: &[u8] = include_bytes_aligned!(env!("RELAY_OBJECT"));

/// The programs for SRTP in the object, by their slots.
const SRTP_PROGRAMS: [&str; 2] = ["relay_srtp", "relay_srtp_out"];

/// The program in the object that hands packets to the workers, and its slot.
const HAND_OVER_PROGRAM: &str = "hand_over";
const HAND_OVER: u32 = 2;

/// What runs in the kernel. Everything is detached when it is dropped.
pub struct Offload {
    interfaces: Vec<InterfaceState>,
    steps: Vec<String>,
    datapath: Option<XdpDatapath>,
    steering: Option<Steering>,
    rings: Vec<WorkerRing>,
    /// Holds the programs and their links.
    bpf: Option<Ebpf>,
}

impl Offload {
    /// Loads the programs and attaches them: `relay` to each interface, `steer` to the calling
    /// thread's network namespace. It never fails: what the kernel refuses is done without, and
    /// the log, [`Offload::steps`] and [`Offload::interfaces`] say so.
    ///
    /// All interfaces get the same mode. A packet may come in by any of them and leave by any
    /// other, and a driver without native XDP loses what is redirected to it natively.
    #[must_use]
    pub fn load(config: &OffloadConfig) -> Self {
        Self::load_with(config, Loading::default())
    }

    /// [`Offload::load`], as a kernel that refuses the programs for SRTP would have it.
    #[cfg(test)]
    pub(super) fn load_without_srtp(config: &OffloadConfig) -> Self {
        let loading = Loading {
            srtp: ["withheld"; 2],
            ..Loading::default()
        };
        Self::load_with(config, loading)
    }

    /// [`Offload::load`], as a kernel that refuses the program for the workers' rings would have it.
    #[cfg(test)]
    pub(crate) fn load_without_rings(config: &OffloadConfig) -> Self {
        let loading = Loading {
            hand_over: "withheld",
            ..Loading::default()
        };
        Self::load_with(config, loading)
    }

    /// [`Offload::load`], as if there were too many counters for one element of a map.
    #[cfg(test)]
    pub(super) fn load_with_counters_looked_up(config: &OffloadConfig) -> Self {
        let loading = Loading {
            longest: 0,
            ..Loading::default()
        };
        Self::load_with(config, loading)
    }

    fn load_with(config: &OffloadConfig, loading: Loading) -> Self {
        let mut offload = Self {
            interfaces: Vec::new(),
            steps: Vec::new(),
            datapath: None,
            steering: None,
            rings: Vec::new(),
            bpf: None,
        };
        let (mut bpf, elements) = match open(config, loading.longest) {
            Ok(opened) => opened,
            Err(why) => {
                offload.failed(format!(
                    "the kernel takes no BPF programs ({why}): every stream takes the slow path, \
                     and every port a socket of its own; run as root or with CAP_BPF, CAP_NET_ADMIN \
                     and CAP_PERFMON"
                ));
                offload.without(config, &why);
                return offload;
            }
        };
        offload.load_steering(&mut bpf, config);
        if config.mode == XdpMode::Off {
            offload.step("XDP is off in the configuration".to_owned());
            offload.without(config, "off in the configuration");
        } else {
            match offload.load_relay(&mut bpf, &elements, config, &loading) {
                Ok(()) => {}
                Err(why) => {
                    offload.failed(format!(
                        "the kernel refused the XDP program ({why}): every stream takes the slow \
                         path"
                    ));
                    offload.without(config, &why);
                }
            }
        }
        offload.bpf = Some(bpf);
        offload
    }

    /// What came of each interface.
    #[must_use]
    pub fn interfaces(&self) -> &[InterfaceState] {
        &self.interfaces
    }

    /// What was tried, in order, as the log has it.
    #[must_use]
    pub fn steps(&self) -> &[String] {
        &self.steps
    }

    /// The maps, once. `None` when the XDP program runs nowhere.
    pub fn take_datapath(&mut self) -> Option<XdpDatapath> {
        self.datapath.take()
    }

    /// The steering, once. `None` when the kernel refused it. It outlives this.
    pub fn take_steering(&mut self) -> Option<Steering> {
        self.steering.take()
    }

    /// The workers' rings, once: one for each worker, or none. From then on what is punted of known
    /// flows goes there. They outlive this.
    pub fn take_rings(&mut self) -> Vec<WorkerRing> {
        let rings = std::mem::take(&mut self.rings);
        if let (false, Some(bpf)) = (rings.is_empty(), &mut self.bpf)
            && let Err(why) = put(bpf, HAND_OVER, HAND_OVER_PROGRAM)
        {
            self.without_rings(&why);
            return Vec::new();
        }
        rings
    }

    /// The XDP program, for test runs.
    pub(crate) fn relay_program(&self) -> Option<&Xdp> {
        self.bpf.as_ref()?.program("relay")?.try_into().ok()
    }

    /// The programs that `relay` goes on to and that the kernel took, by their names.
    pub(crate) fn further_programs(&self) -> Vec<(&'static str, &Xdp)> {
        SRTP_PROGRAMS
            .iter()
            .chain([&HAND_OVER_PROGRAM])
            .filter_map(|name| Some((*name, self.bpf.as_ref()?.program(name)?.try_into().ok()?)))
            .collect()
    }

    fn step(&mut self, text: String) {
        info!("{text}");
        self.steps.push(text);
    }

    fn degraded(&mut self, text: String) {
        warn!("{text}");
        self.steps.push(text);
    }

    fn failed(&mut self, text: String) {
        error!("{text}");
        self.steps.push(text);
    }

    /// Records that no interface has XDP, and why.
    fn without(&mut self, config: &OffloadConfig, why: &str) {
        self.interfaces = config
            .interfaces
            .iter()
            .map(|name| InterfaceState {
                name: name.clone(),
                index: interface_index(name),
                mode: XdpMode::Off,
                why: why.to_owned(),
            })
            .collect();
    }

    fn load_steering(&mut self, bpf: &mut Ebpf, config: &OffloadConfig) {
        if config.workers == 0 {
            return;
        }
        let program: Result<&mut SkLookup, _> = match bpf.program_mut("steer") {
            Some(program) => program.try_into(),
            None => return self.failed("the object has no program steer".to_owned()),
        };
        let link = program.and_then(|program| {
            load_again(|| program.load())?;
            let namespace = std::fs::File::open("/proc/thread-self/ns/net")?;
            let link = program.attach(namespace)?;
            program.take_link(link)
        });
        let sockets = bpf.take_map("SOCKETS").map(TryInto::try_into);
        match (link, sockets) {
            (Ok(link), Some(Ok(sockets))) => {
                self.steering = Some(Steering::new(sockets, link, config.workers));
                self.step(format!(
                    "steering of ports {}-{} to {} workers attached",
                    config.media_ports.start(),
                    config.media_ports.end(),
                    config.workers
                ));
            }
            (Err(refusal), _) => self.failed(format!(
                "the kernel refused the sk_lookup program ({}): every port takes a socket of its \
                 own",
                cause(&refusal)
            )),
            (Ok(_), _) => self.failed("the object has no usable map SOCKETS".to_owned()),
        }
    }

    /// The error is why the program itself was refused; an interface's refusal is in its state.
    fn load_relay(
        &mut self,
        bpf: &mut Ebpf,
        elements: &Elements,
        config: &OffloadConfig,
        loading: &Loading,
    ) -> Result<(), String> {
        let program = load(bpf, "relay")?;
        self.step(format!(
            "XDP program loaded for {} flows and {} next hops",
            config.flows, config.next_hops
        ));
        self.attach(program, config);
        self.load_hand_over(bpf, config, loading.hand_over);
        let srtp = self.load_srtp(bpf, config, loading.srtp);
        self.datapath =
            Some(XdpDatapath::new(bpf, elements, config, srtp).map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Without it what is punted goes up the stack.
    fn load_hand_over(&mut self, bpf: &mut Ebpf, config: &OffloadConfig, name: &str) {
        if config.workers == 0 {
            return;
        }
        let loaded = load(bpf, name).map(|_| ());
        match loaded.and_then(|()| rings::make(bpf, config.workers)) {
            Ok(rings) => {
                self.step(format!(
                    "what is punted of known flows goes to the workers by rings of {} KiB",
                    ring_octets(config.workers.into()) / 1024
                ));
                self.rings = rings;
            }
            Err(why) => self.without_rings(&why),
        }
    }

    fn without_rings(&mut self, why: &str) {
        self.degraded(format!(
            "the kernel refused the program that hands packets to the workers ({why}), which Linux \
             takes from 5.18 on: what is punted goes through the stack, which takes longer"
        ));
    }

    /// The error is why SRTP stays in userspace.
    fn load_srtp(
        &mut self,
        bpf: &mut Ebpf,
        config: &OffloadConfig,
        names: [&str; 2],
    ) -> Result<(), String> {
        if config.srtp_streams == 0 {
            self.step("SRTP is not offloaded: off in the configuration".to_owned());
            return Err(NO_STREAMS.to_owned());
        }
        match put_srtp(bpf, names) {
            Ok(()) => {
                self.step(format!(
                    "XDP programs for SRTP loaded for {} streams",
                    config.srtp_streams
                ));
                Ok(())
            }
            Err(why) => {
                let why = format!(
                    "the kernel refused an XDP program for SRTP ({why}), which Linux takes from \
                     5.18 on"
                );
                self.degraded(format!("{why}: streams of SRTP take the slow path"));
                Err(why)
            }
        }
    }

    fn attach(&mut self, program: &mut Xdp, config: &OffloadConfig) {
        let mut refusal = None;
        if config.mode == XdpMode::Native {
            match attach_all(program, &config.interfaces, Attach::Driver) {
                Ok(()) => {
                    for name in &config.interfaces {
                        self.attached(name, XdpMode::Native, "the driver took it".to_owned());
                    }
                    return;
                }
                Err((name, why)) => {
                    let text = format!("native XDP was refused on {name} ({why})");
                    if config.forced {
                        self.failed(format!(
                            "{text} and is forced: every stream takes the slow path"
                        ));
                        self.without(config, &text);
                        return;
                    }
                    self.degraded(format!("{text}: trying generic XDP on every interface"));
                    refusal = Some(text);
                }
            }
        }
        for name in &config.interfaces {
            match attach_generic(program, name, refusal.is_some()) {
                Ok(()) => {
                    let why = refusal
                        .clone()
                        .unwrap_or_else(|| "asked for by the configuration".to_owned());
                    self.attached(name, XdpMode::Generic, why);
                }
                Err(why) => {
                    let text = format!("generic XDP was refused on {name} ({why})");
                    self.failed(format!(
                        "{text}: streams that come in there take the slow path"
                    ));
                    let why = match &refusal {
                        Some(refusal) => format!("{refusal}; {text}"),
                        None => text,
                    };
                    self.interfaces.push(InterfaceState {
                        name: name.clone(),
                        index: interface_index(name),
                        mode: XdpMode::Off,
                        why,
                    });
                }
            }
        }
    }

    fn attached(&mut self, name: &str, mode: XdpMode, why: String) {
        let text = format!("{mode} XDP attached to {name}: {why}");
        if mode == XdpMode::Native {
            self.step(text);
        } else {
            self.degraded(text);
        }
        self.interfaces.push(InterfaceState {
            name: name.to_owned(),
            index: interface_index(name),
            mode,
            why,
        });
    }
}

/// Loads the programs for SRTP and puts them where `relay` finds them, the last one first: whoever
/// finds one finds what it goes on to.
fn put_srtp(bpf: &mut Ebpf, names: [&str; 2]) -> Result<(), String> {
    for (slot, name) in [0, 1].into_iter().zip(names).rev() {
        load(bpf, name)?;
        put(bpf, slot, name)?;
    }
    Ok(())
}

/// Loads an XDP program.
fn load<'a>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, String> {
    let program: &mut Xdp = bpf
        .program_mut(name)
        .ok_or_else(|| format!("the object has no program {name}"))?
        .try_into()
        .map_err(|error: ProgramError| cause(&error))?;
    load_again(|| program.load()).map_err(|error| verifier_tail(&cause(&error)))?;
    Ok(program)
}

/// Puts a loaded program where `relay` finds it.
fn put(bpf: &mut Ebpf, slot: u32, name: &str) -> Result<(), String> {
    let program: &Xdp = bpf
        .program(name)
        .ok_or_else(|| format!("the object has no program {name}"))?
        .try_into()
        .map_err(|error: ProgramError| cause(&error))?;
    let descriptor = program
        .fd()
        .and_then(|descriptor| Ok(descriptor.try_clone()?))
        .map_err(|error| cause(&error))?;
    // The object keeps the map, which the kernel empties when nobody has it open any more.
    let map = bpf
        .map_mut("PROGRAMS")
        .ok_or("the object has no map PROGRAMS")?;
    ProgramArray::try_from(map)
        .and_then(|mut programs| programs.set(slot, &descriptor, 0))
        .map_err(|error| cause(&error))
}

/// What is another only in tests.
struct Loading {
    /// The programs for SRTP.
    srtp: [&'static str; 2],
    hand_over: &'static str,
    /// The most octets of an element that holds all counters.
    longest: u64,
}

impl Default for Loading {
    fn default() -> Self {
        Self {
            srtp: SRTP_PROGRAMS,
            hand_over: HAND_OVER_PROGRAM,
            longest: LONGEST,
        }
    }
}

/// Creates the maps in the sizes that `config` asks for and reads the programs. Counters of more
/// than `longest` octets are looked up.
pub(super) fn open(config: &OffloadConfig, longest: u64) -> Result<(Ebpf, Elements), String> {
    allow_locked_memory();
    let sizes = sizes(config);
    let elements = Elements::new(sizes, longest)?;
    let object = elements.write(sizes, OBJECT)?;
    let mut bpf = EbpfLoader::new()
        .map_max_entries("FLOW_COUNTERS", elements.looked_up())
        .map_max_entries("KEYS", sizes.streams)
        .map_max_entries("STATES", sizes.streams)
        .map_max_entries("DEVICES", DEVICES)
        .map_max_entries("RINGS", sizes.rings.max(1))
        .map_max_entries("EVENTS", EVENT_OCTETS)
        .map_max_entries("SOCKETS", socket_slots(config))
        .load(&object)
        .map_err(|error| cause(&error))?;
    let settings: [u8; size_of::<Settings>()] = transmute!(Settings {
        first_port: *config.media_ports.start(),
        last_port: *config.media_ports.end(),
        workers: u32::from(config.workers),
    });
    let map = bpf
        .map_mut("SETTINGS")
        .ok_or("the object has no map SETTINGS")?;
    Array::<_, [u8; size_of::<Settings>()]>::try_from(map)
        .and_then(|mut map| map.set(0, settings, 0))
        .map_err(|error| refused("write the settings")(error).to_string())?;
    Ok((bpf, elements))
}

/// Attaches to all or to none; the error is the first refusal.
fn attach_all(
    program: &mut Xdp,
    interfaces: &[String],
    mode: Attach,
) -> Result<(), (String, String)> {
    let mut links = Vec::with_capacity(interfaces.len());
    for name in interfaces {
        match attach_index(program, name, mode) {
            Ok(link) => links.push(link),
            Err(why) => {
                for link in links {
                    // A link that does not come off stands in the way of the next mode, which
                    // then says so.
                    let _ = program.detach(link);
                }
                return Err((name.clone(), why));
            }
        }
    }
    Ok(())
}

/// Attaches in generic mode. `after_native` says that a native link has just been taken off: a
/// process that another thread is starting holds a copy of it until it executes, so it may be in
/// the way for some milliseconds more.
fn attach_generic(program: &mut Xdp, name: &str, after_native: bool) -> Result<(), String> {
    let mut patience = if after_native { 40 } else { 0 };
    loop {
        match attach_index(program, name, Attach::Skb) {
            Ok(_) => return Ok(()),
            Err(_) if patience > 0 && interface_index(name).is_some() => {
                patience -= 1;
                // Nobody tells when it is out of the way.
                thread::sleep(Duration::from_millis(5));
            }
            Err(why) => return Err(why),
        }
    }
}

fn attach_index(
    program: &mut Xdp,
    name: &str,
    mode: Attach,
) -> Result<aya::programs::xdp::XdpLinkId, String> {
    let index = interface_index(name).ok_or("there is no such interface")?;
    program
        .attach_to_if_index(index, mode)
        .map_err(|error| cause(&error))
}

pub(crate) fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name is a C string that lives over the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Before Linux 5.11 maps count against the limit of locked memory. A refusal shows when the maps
/// are made.
fn allow_locked_memory() {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the structure lives over the call, which only reads it.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
}

/// The end of what the verifier says, where its reason stands.
fn verifier_tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let first = lines.first().copied().unwrap_or_default();
    let tail = lines.get(1..).unwrap_or_default();
    let tail = tail.get(tail.len().saturating_sub(6)..).unwrap_or_default();
    let mut text = first.to_owned();
    for line in tail {
        text.push_str(" | ");
        text.push_str(line);
    }
    text
}
