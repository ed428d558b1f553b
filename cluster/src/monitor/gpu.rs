//! How busy the GPUs of this host are, by NVIDIA's management library where it is installed.
//!
//! Imports nothing of femdd. Start at [`Watched::open`]. The library is loaded when it is asked for; nothing is
//! made up where it is not there.

use nvml_wrapper::Nvml;

/// The most devices looked at on a host.
const DEVICES: u32 = 16;

/// The devices of this host.
pub(super) struct Watched {
    library: Nvml,
    n: u32,
    /// Sums over samples, and how many there were.
    busy: f64,
    samples: u64,
    /// The most memory in use on one device, in bytes.
    memory_peak: u64,
}

/// What came of looking.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct GpuUse {
    pub(super) devices: u32,
    /// Mean part of the time in which a kernel ran, from 0 to 1.
    pub(super) busy: f64,
    /// The most memory in use on one device, in bytes.
    pub(super) memory_peak: u64,
}

impl Watched {
    /// Loads the library; `None` where there is no driver or no device.
    pub(super) fn open() -> Option<Watched> {
        // Without the driver's device there is no use in looking for the library.
        if !std::path::Path::new("/dev/nvidiactl").exists() {
            return None;
        }
        let library = Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init().ok()?;
        let n = library.device_count().ok()?.min(DEVICES);
        (n > 0).then_some(Watched { library, n, busy: 0.0, samples: 0, memory_peak: 0 })
    }

    /// Looks once at each device. What one does not tell (a part of a device, for example) is left out.
    pub(super) fn sample(&mut self) {
        for k in 0..self.n {
            let Ok(device) = self.library.device_by_index(k) else { continue };
            if let Ok(memory) = device.memory_info() {
                self.memory_peak = self.memory_peak.max(memory.used);
            }
            if let Ok(rates) = device.utilization_rates() {
                self.busy += f64::from(rates.gpu) / 100.0;
                self.samples += 1;
            }
        }
    }

    pub(super) fn found(&self) -> GpuUse {
        let busy = if self.samples > 0 { self.busy / self.samples as f64 } else { f64::NAN };
        GpuUse { devices: self.n, busy, memory_peak: self.memory_peak }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_looked_at_where_there_are_any() {
        match Watched::open() {
            None => assert!(!std::path::Path::new("/dev/nvidia0").exists(), "a device, and no library"),
            Some(mut gpus) => {
                gpus.sample();
                let found = gpus.found();
                assert!(found.devices > 0 && found.memory_peak > 0, "{found:?}");
                assert!(found.busy.is_nan() || (0.0..=1.0).contains(&found.busy), "{found:?}");
            }
        }
    }
}
