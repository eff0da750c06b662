//! What the sink saw.

use aya::maps::{MapData, PerCpuArray, RingBuf};
use relay_abi::measure::{LATENCY_BUCKETS, Sample, latency_bucket, latency_limit};
use zerocopy::FromBytes as _;

use super::{Measure, MeasureError, cpus, refused, zeros};

/// What the sink has counted since it was reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkCounts {
    /// UDP datagrams.
    pub packets: u64,
    /// Frames that are something else.
    pub others: u64,
    /// Samples that found no room.
    pub samples_lost: u64,
}

/// A histogram of the latencies that the sink measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// The latency in nanoseconds that `fraction` (0 to 1) of the packets did not exceed, to within
    /// a sixteenth; `None` without packets.
    #[must_use]
    pub fn quantile(&self, fraction: f64) -> Option<u64> {
        let total: u64 = self.0.iter().sum();
        if total == 0 {
            return None;
        }
        let wanted = (total as f64 * fraction).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(latency_limit(bucket))
    }

    /// How many packets took longer than so many nanoseconds, to within a sixteenth.
    #[must_use]
    pub fn over(&self, nanoseconds: u64) -> u64 {
        let first = latency_bucket(nanoseconds) + 1;
        self.0.iter().skip(first).sum()
    }
}

impl Measure {
    /// What the sink counted, over all CPUs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn sink_counts(&mut self) -> Result<SinkCounts, MeasureError> {
        let map: PerCpuArray<&mut MapData, [u64; 3]> = self.map_mut("SINK")?;
        let values = map.get(&0, 0).map_err(refused("read the sink"))?;
        let mut counts = SinkCounts::default();
        for [packets, others, samples_lost] in values.iter() {
            counts.packets += packets;
            counts.others += others;
            counts.samples_lost += samples_lost;
        }
        Ok(counts)
    }

    /// The latencies that the sink measured, over all CPUs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn latencies(&mut self) -> Result<Latencies, MeasureError> {
        let map: PerCpuArray<&mut MapData, u64> = self.map_mut("LATENCIES")?;
        (0..LATENCY_BUCKETS as u32)
            .map(|bucket| {
                map.get(&bucket, 0)
                    .map(|values| values.iter().sum())
                    .map_err(refused("read the latencies"))
            })
            .collect::<Result<_, _>>()
            .map(Latencies)
    }

    /// The whole frames that the sink has sampled since the last call.
    ///
    /// # Errors
    /// When the ring cannot be opened.
    pub fn samples(&mut self) -> Result<Vec<Vec<u8>>, MeasureError> {
        let mut ring: RingBuf<&mut MapData> = self.map_mut("SAMPLES")?;
        let mut samples = Vec::new();
        while let Some(item) = ring.next() {
            if let Ok((sample, _)) = Sample::read_from_prefix(&item)
                && let Some(octets) = sample.octets.get(..sample.length as usize)
            {
                samples.push(octets.to_vec());
            }
        }
        Ok(samples)
    }

    /// Starts the sink's counts anew.
    ///
    /// # Errors
    /// When the maps cannot be written.
    pub fn reset_sink(&mut self) -> Result<(), MeasureError> {
        self.samples()?;
        let cpus = cpus()?;
        let mut sink: PerCpuArray<&mut MapData, [u64; 3]> = self.map_mut("SINK")?;
        sink.set(0, zeros(cpus)?, 0)
            .map_err(refused("reset the sink"))?;
        let mut map: PerCpuArray<&mut MapData, u64> = self.map_mut("LATENCIES")?;
        for bucket in 0..LATENCY_BUCKETS as u32 {
            map.set(bucket, zeros(cpus)?, 0)
                .map_err(refused("reset the latencies"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_what_is_over_a_limit_are_of_the_buckets() {
        let mut counts = vec![0; LATENCY_BUCKETS];
        counts[latency_bucket(1_000)] = 98;
        counts[latency_bucket(50_000)] = 1;
        counts[latency_bucket(300_000_000)] = 1;
        let latencies = Latencies(counts);
        let near = |nanoseconds: Option<u64>, wanted: u64| {
            nanoseconds.is_some_and(|found| (wanted..wanted + wanted / 8).contains(&found))
        };
        assert!(near(latencies.quantile(0.5), 1_000));
        assert!(near(latencies.quantile(0.99), 50_000));
        assert!(near(latencies.quantile(0.999), 300_000_000));
        assert_eq!(latencies.over(200_000_000), 1);
        assert_eq!(latencies.over(10_000), 2);
        assert_eq!(latencies.over(500_000_000), 0);
        assert_eq!(Latencies(vec![0; LATENCY_BUCKETS]).quantile(0.5), None);
    }
}
