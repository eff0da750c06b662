//! Measuring: the generator of RTP by live test-run frames, the bare redirect that no relay can
//! be faster than, and the sink that counts, samples and times what arrives.
//!
//! An instance holds one copy of the programs. Interfaces are named in the network namespace of
//! the calling thread.

mod awake;
mod calls;
mod chain;
pub mod costs;
mod judge;
mod load;
mod place;
mod sender;
mod served;
mod serving;
mod sink;
mod srtp_cost;
mod topology;
mod trial;

use std::{error::Error, fmt, time::Duration};

use aya::{
    Ebpf, include_bytes_aligned,
    maps::{Array, DevMap, MapData, PerCpuArray, ProgramArray},
    programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
};
use relay_abi::{
    U16,
    measure::{HeadersV4, Prepared},
};
use zerocopy::{FromBytes as _, FromZeros as _, transmute};

use crate::offload::unless_interrupted;

pub use awake::Awake;
pub use calls::{
    CALLS, Call, Kind, Offered, PAYLOAD_TYPE, Stamp, Talkers, callee, caller, callers_key, key,
};
pub use chain::{CallChain, Chain, Relay, Run};
pub use judge::{Arrived, expect, judge};
pub use load::{LoadDescription, Source};
pub use place::{Place, pin};
pub use sender::{BURST, Sender, now};
pub use served::{Process, Served, State};
pub use serving::{SERVE, Service, serve};
pub use sink::{Latencies, SinkCounts};
pub use srtp_cost::{SrtpCost, srtp_cost};
pub use topology::{
    Addresses, EGRESS, EGRESS_MAC, End, Ends, GENERATOR, GENERATOR_CPU, GENERATOR_MAC, INGRESS,
    INGRESS_MAC, Machine, RELAY_CPU, SINK, SINK_CPU, SINK_MAC, Topology,
};
pub use trial::{Bench, Recovery, Scene, Search, TROUBLE, Trial};

/// What any part of a measurement may fail with; the text goes to the user.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The object that the build script compiled.
static OBJECT: &[u8] = include_bytes_aligned!(env!("MEASURE_OBJECT"));

/// By how much a frame is shorter than the prepared packets that are written over it. A frame that
/// was lengthened is handed on anew: otherwise one that comes back keeps the length that a relay gave
/// it.
const GROWTH: usize = 2;

/// Frames that the kernel makes at once; more do not fit its bulk queues better.
const BATCH: u32 = 64;

/// What the kernel refused, and when.
#[derive(Debug)]
pub struct MeasureError(String);

impl fmt::Display for MeasureError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Error for MeasureError {}

fn refused<E: Error>(doing: &str) -> impl FnOnce(E) -> MeasureError {
    move |error| {
        let mut text = format!("{doing}: {error}");
        let mut source = error.source();
        while let Some(error) = source {
            text.push_str(&format!(": {error}"));
            source = error.source();
        }
        MeasureError(text)
    }
}

/// Who makes the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generator {
    /// The headers are written for each packet; the payload is always the same.
    Headers,
    /// Whole packets that were made before.
    Prepared,
}

impl Generator {
    const fn program(self) -> &'static str {
        match self {
            Self::Headers => "generate",
            Self::Prepared => "generate_prepared",
        }
    }
}

/// The programs, loaded. What is attached comes off when this is dropped.
pub struct Measure {
    bpf: Ebpf,
    frame: Vec<u8>,
    load: relay_abi::measure::Load,
}

impl Measure {
    /// Loads the programs.
    ///
    /// # Errors
    /// When the kernel refuses them; the text says what it said.
    pub fn load() -> Result<Self, MeasureError> {
        let mut bpf = Ebpf::load(OBJECT).map_err(refused("load the measuring programs"))?;
        for name in ["generate", "generate_prepared", "feed", "limit", "sink"] {
            let program = program(&mut bpf, name)?;
            crate::offload::load_again(|| program.load())
                .map_err(refused("load a measuring program"))?;
        }
        Ok(Self {
            bpf,
            frame: Vec::new(),
            load: relay_abi::measure::Load::new_zeroed(),
        })
    }

    /// What [`Measure::generate`] makes and the sink expects.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_load(&mut self, load: &LoadDescription) -> Result<(), MeasureError> {
        self.frame = load.frame();
        self.load = load.to_abi();
        self.write_load()?;
        self.begin_anew()
    }

    /// Makes the generator begin with the first packet.
    fn begin_anew(&mut self) -> Result<(), MeasureError> {
        let cpus = cpus()?;
        let mut made: PerCpuArray<&mut MapData, u32> = self.map_mut("MADE")?;
        made.set(0, zeros(cpus)?, 0)
            .map_err(refused("reset the generator"))
    }

    /// Which packets [`Generator::Prepared`] sends and [`Measure::feed`] gives, as frames of flow 0
    /// over IPv4, all of one length.
    ///
    /// # Errors
    /// When they are not, or the map cannot be written.
    pub fn set_prepared(&mut self, frames: &[Vec<u8>]) -> Result<(), MeasureError> {
        let unfit = || MeasureError("prepared packets are not UDP of one length".to_owned());
        let first = frames.first().ok_or_else(unfit)?;
        let shorter = first.len().checked_sub(GROWTH);
        self.frame = first
            .get(..shorter.ok_or_else(unfit)?)
            .ok_or_else(unfit)?
            .to_vec();
        self.load.template_v4 = HeadersV4::read_from_prefix(first).map_err(|_| unfit())?.0;
        self.write_load()?;
        let mut map: Array<&mut MapData, [u64; size_of::<Prepared>() / 8]> =
            self.map_mut("PREPARED")?;
        for (index, frame) in frames.iter().enumerate() {
            const PAYLOAD: usize = 14 + 20 + 8;
            let mut prepared = Prepared::new_zeroed();
            let payload = frame.get(PAYLOAD..).ok_or_else(unfit)?;
            let octets = prepared.octets.get_mut(..payload.len());
            octets.ok_or_else(unfit)?.copy_from_slice(payload);
            prepared.length = payload.len() as u16;
            let checksum = frame.get(PAYLOAD - 2..).and_then(|rest| rest.first_chunk());
            prepared.checksum = U16::from_bytes(*checksum.ok_or_else(unfit)?);
            if frame.len() != first.len() {
                return Err(unfit());
            }
            let value: [u64; size_of::<Prepared>() / 8] = transmute!(prepared);
            map.set(index as u32, value, 0)
                .map_err(refused("write a prepared packet"))?;
        }
        Ok(())
    }

    /// Tells the sink of a load that others make: how many octets behind the RTP header is the
    /// time of sending, if it is carried.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn expect_time(&mut self, offset: Option<u8>) -> Result<(), MeasureError> {
        let mut load = relay_abi::measure::Load::new_zeroed();
        load.timed = u8::from(offset.is_some());
        load.time_offset = offset.unwrap_or_default();
        self.load = load;
        self.write_load()
    }

    fn write_load(&mut self) -> Result<(), MeasureError> {
        let value: [u64; size_of::<relay_abi::measure::Load>() / 8] = transmute!(self.load);
        let mut map: Array<&mut MapData, [u64; size_of::<relay_abi::measure::Load>() / 8]> =
            self.map_mut("LOAD")?;
        map.set(0, value, 0).map_err(refused("write the load"))
    }

    /// Chooses the interface that the generator and the bare redirect send by.
    ///
    /// # Errors
    /// When it is not there or the driver cannot be redirected to.
    pub fn send_by(&mut self, interface: &str) -> Result<(), MeasureError> {
        let index = index_of(interface)?;
        let mut devices: DevMap<&mut MapData> = self.map_mut("DEVICE")?;
        devices
            .set(0, index, None, 0)
            .map_err(refused("choose a device"))
    }

    /// Attaches the sink to an interface, natively.
    ///
    /// # Errors
    /// When the driver refuses it.
    pub fn attach_sink(&mut self, interface: &str) -> Result<(), MeasureError> {
        self.attach("sink", interface)
    }

    /// Attaches the bare redirect to an interface, natively.
    ///
    /// # Errors
    /// When the driver refuses it.
    pub fn attach_limit(&mut self, interface: &str) -> Result<(), MeasureError> {
        self.attach("limit", interface)
    }

    /// Lets short runs of the generator begin without delay. The kernel patches its dispatcher when
    /// a program comes into use or goes out of it, which takes milliseconds; attached somewhere,
    /// here to the loopback interface of a namespace where nothing uses it, it stays in use.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn keep_generator_ready(&mut self, generator: Generator) -> Result<(), MeasureError> {
        let index = index_of("lo")?;
        program(&mut self.bpf, generator.program())?
            .attach_to_if_index(index, XdpMode::Skb)
            .map(|_| ())
            .map_err(refused("attach the generator"))
    }

    /// Makes `packets` packets as fast as one CPU, the calling thread's, can push them through,
    /// and says how long that took, the setting up of the run included.
    ///
    /// # Errors
    /// When the kernel refuses the run.
    pub fn generate(&self, generator: Generator, packets: u32) -> Result<Duration, MeasureError> {
        let program = self.program(generator.program())?;
        let begin = std::time::Instant::now();
        program
            .test_run(TestRunOptions {
                data_in: Some(&self.frame),
                repeat: packets,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH.min(packets.max(1))),
                ..TestRunOptions::new()
            })
            .map_err(refused("run the generator"))?;
        Ok(begin.elapsed())
    }

    /// Gives the first `packets` prepared packets to a program, one after the other, or, without a
    /// program, to none. The time of one packet, what the giving takes included; none when a signal
    /// broke the run off. The calling thread must be kept on one CPU.
    ///
    /// # Errors
    /// When the kernel refuses the run, or the last verdict is not `verdict`.
    pub(crate) fn feed(
        &mut self,
        fed: Option<&Xdp>,
        packets: u16,
        verdict: u32,
    ) -> Result<Option<Duration>, MeasureError> {
        self.begin_anew()?;
        if let Some(program) = fed {
            let descriptor = program.fd().map_err(refused("find the program to feed"))?;
            let mut programs: ProgramArray<&mut MapData> = self.map_mut("FED")?;
            programs
                .set(0, descriptor, 0)
                .map_err(refused("choose the program to feed"))?;
        }
        let time = self.run_feed(packets, verdict);
        if fed.is_some() {
            let mut programs: ProgramArray<&mut MapData> = self.map_mut("FED")?;
            programs
                .clear_index(&0)
                .map_err(refused("feed no program any more"))?;
        }
        time
    }

    fn run_feed(&self, packets: u16, verdict: u32) -> Result<Option<Duration>, MeasureError> {
        let mut output = vec![0; self.frame.len() + 256];
        let result = self.program("feed")?.test_run(TestRunOptions {
            data_in: Some(&self.frame),
            data_out: Some(&mut output),
            repeat: packets.into(),
            ..TestRunOptions::new()
        });
        match unless_interrupted(result).map_err(refused("feed a program"))? {
            Some(result) if result.return_value != verdict => {
                let text = format!("the verdict is {}, not {verdict}", result.return_value);
                Err(MeasureError(text))
            }
            result => Ok(result.map(|result| result.duration)),
        }
    }

    fn program(&self, name: &str) -> Result<&Xdp, MeasureError> {
        self.bpf
            .program(name)
            .ok_or_else(|| MeasureError(format!("the object has no program {name}")))?
            .try_into()
            .map_err(refused("find a program"))
    }

    fn attach(&mut self, name: &str, interface: &str) -> Result<(), MeasureError> {
        let index = index_of(interface)?;
        program(&mut self.bpf, name)?
            .attach_to_if_index(index, XdpMode::Driver)
            .map(|_| ())
            .map_err(refused("attach a measuring program"))
    }

    fn map_mut<'a, M>(&'a mut self, name: &str) -> Result<M, MeasureError>
    where
        M: TryFrom<&'a mut aya::maps::Map>,
        M::Error: Error,
    {
        self.bpf
            .map_mut(name)
            .ok_or_else(|| MeasureError(format!("the object has no map {name}")))?
            .try_into()
            .map_err(refused("open a map"))
    }
}

fn program<'a>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, MeasureError> {
    bpf.program_mut(name)
        .ok_or_else(|| MeasureError(format!("the object has no program {name}")))?
        .try_into()
        .map_err(refused("find a program"))
}

fn cpus() -> Result<usize, MeasureError> {
    aya::util::nr_cpus()
        .map_err(|(what, error)| MeasureError(format!("count the processors: {what}: {error}")))
}

fn zeros<T: aya::Pod + Default>(cpus: usize) -> Result<aya::maps::PerCpuValues<T>, MeasureError> {
    vec![T::default(); cpus]
        .try_into()
        .map_err(|error: std::io::Error| refused("fit the processors")(error))
}

fn index_of(interface: &str) -> Result<u32, MeasureError> {
    crate::offload::interface_index(interface)
        .ok_or_else(|| MeasureError(format!("there is no interface {interface}")))
}
