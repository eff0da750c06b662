//! From figures to OpenMetrics text.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::Registry,
};

/// What all names begin with.
const PREFIX: &str = "trunkline";

/// One metric with all that is known of it at the moment.
#[derive(Debug)]
pub(super) struct Metric {
    /// Without the prefix, and without `_total`.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) samples: Samples,
}

pub(super) type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
pub(super) enum Samples {
    Counter(Vec<(Labels, u64)>),
    Gauge(Vec<(Labels, f64)>),
}

#[derive(Debug)]
struct Metrics(Vec<Metric>);

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in &self.0 {
            let kind = match metric.samples {
                Samples::Counter(_) => MetricType::Counter,
                Samples::Gauge(_) => MetricType::Gauge,
            };
            let mut descriptor = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            match &metric.samples {
                Samples::Counter(samples) => {
                    for (labels, value) in samples {
                        if labels.is_empty() {
                            descriptor.encode_counter::<NoLabelSet, _, u64>(value, None)?;
                        } else {
                            descriptor
                                .encode_family(labels)?
                                .encode_counter::<NoLabelSet, _, u64>(value, None)?;
                        }
                    }
                }
                Samples::Gauge(samples) => {
                    for (labels, value) in samples {
                        if labels.is_empty() {
                            descriptor.encode_gauge(value)?;
                        } else {
                            descriptor.encode_family(labels)?.encode_gauge(value)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// The text that a scrape gets.
pub(super) fn text(metrics: Vec<Metric>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Metrics(metrics)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}
