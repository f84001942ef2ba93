//! Runs the guest of [`crate::arch::guest_code`] on `/dev/kvm` and measures it.
//!
//! The probe has its own thread, which is interrupted after a time limit: on an emulated device,
//! any call may never return.

use std::fs::File;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix::thread::JoinHandleExt;
use std::ptr::{self, NonNull};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kvm_bindings::{KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VcpuFd};
use nix::errno::Errno;
use nix::libc::c_void;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, Signal};

use super::verdict::{KvmVerdict, ProbeStep};
use crate::arch::guest_code::{self, INSTRUCTIONS_PER_ROUND, MEMORY_SIZE, ROUND_PORT};

/// The slowest execution that still counts as hardware, in nanoseconds per instruction. Hardware
/// needs less than 1, QEMU's TCG about 2. Emulations of `/dev/kvm` needed about 1000.
pub const SLOWEST_USABLE: f64 = 20.0;

/// The most rounds to measure. A busy host can slow down a round, so the fastest one counts.
const ROUNDS: u32 = 3;

/// The time limit of the whole probe. Hardware needs a millisecond.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The time limit for an interrupted thread to end.
const GRACE: Duration = Duration::from_millis(500);

/// The time between two interrupts. There are several, since one that arrives just before the
/// thread enters `KVM_RUN` is lost.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(10);

/// The signal that interrupts the thread. Its default action is to be ignored, so a late one is
/// harmless.
const INTERRUPT: Signal = Signal::SIGURG;

/// The addresses of the pages that KVM needs on Intel for real mode (Linux
/// `Documentation/virt/kvm/api.rst`, `KVM_SET_IDENTITY_MAP_ADDR` and `KVM_SET_TSS_ADDR`). QEMU uses
/// the same ones: below the firmware, away from the guest's memory.
const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;
const TASK_STATE_ADDRESS: usize = 0xfffb_d000;

/// Probes the opened device, within [`TIME_LIMIT`].
pub(super) fn measure(device: File) -> KvmVerdict {
    within(TIME_LIMIT, move |progress| try_device(device, progress))
}

/// Runs `work`, which reports the beginning of each step, and interrupts it after `limit`.
fn within<Work>(limit: Duration, work: Work) -> KvmVerdict
where
    Work: FnOnce(&dyn Fn(ProbeStep)) -> KvmVerdict + Send + 'static,
{
    let interruptible = Interruptible::install();
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let progress = |step| {
            // After the time limit, the receiver no longer exists.
            let _ = sender.send(Message::Reached(step));
        };
        let verdict = work(&progress);
        let _ = sender.send(Message::Finished(verdict));
    });

    let mut step = ProbeStep::ReadVersion;
    let deadline = Instant::now() + limit;
    let finished = loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Message::Reached(reached)) => step = reached,
            Ok(Message::Finished(verdict)) => break Some(verdict),
            Err(RecvTimeoutError::Timeout) => break None,
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    if finished.is_none() {
        interrupt(&thread);
    }
    drop(interruptible);
    finished.unwrap_or(KvmVerdict::Unresponsive { step })
}

enum Message {
    Reached(ProbeStep),
    Finished(KvmVerdict),
}

/// Signals the thread until it ends. A thread that does not end within [`GRACE`] is stuck in the
/// kernel, and no signal reaches it. It is left running.
fn interrupt(thread: &thread::JoinHandle<()>) {
    let give_up = Instant::now() + GRACE;
    while !thread.is_finished() && Instant::now() < give_up {
        // Fails only if the thread has just ended.
        let _ = pthread_kill(thread.as_pthread_t(), INTERRUPT);
        thread::sleep(INTERRUPT_INTERVAL);
    }
}

/// While it exists, [`INTERRUPT`] makes system calls return `EINTR`. Only one exists at a time,
/// since the action of a signal belongs to the whole process.
struct Interruptible {
    previous: Option<SigAction>,
    _only: MutexGuard<'static, ()>,
}

impl Interruptible {
    fn install() -> Self {
        static ONLY: Mutex<()> = Mutex::new(());
        extern "C" fn ignore(_: nix::libc::c_int) {}
        let only = ONLY.lock().unwrap_or_else(PoisonError::into_inner);
        let action = SigAction::new(
            SigHandler::Handler(ignore),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler does nothing, so it is async-signal-safe.
        let previous = unsafe { signal::sigaction(INTERRUPT, &action) }.ok();
        Self {
            previous,
            _only: only,
        }
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        if let Some(previous) = &self.previous {
            // SAFETY: this is the action that was installed before ours.
            let _ = unsafe { signal::sigaction(INTERRUPT, previous) };
        }
    }
}

/// Measures whether and how fast the device runs guest code. Reports each step to `progress`.
fn try_device(device: File, progress: &dyn Fn(ProbeStep)) -> KvmVerdict {
    match run_rounds(device, progress) {
        Ok(ns_per_instruction) if ns_per_instruction <= SLOWEST_USABLE => {
            KvmVerdict::Usable { ns_per_instruction }
        }
        Ok(ns_per_instruction) => KvmVerdict::Emulated { ns_per_instruction },
        Err(verdict) => verdict,
    }
}

/// Returns the nanoseconds per instruction of the fastest round.
fn run_rounds(device: File, progress: &dyn Fn(ProbeStep)) -> Result<f64, KvmVerdict> {
    progress(ProbeStep::ReadVersion);
    // SAFETY: the descriptor is open and ours; `into_raw_fd` transfers it.
    let kvm = unsafe { Kvm::from_raw_fd(device.into_raw_fd()) };
    match kvm.get_api_version() {
        version if version == KVM_API_VERSION as i32 => {}
        // The call failed, for example on an ordinary file.
        version if version < 0 => {
            return Err(failed(ProbeStep::ReadVersion)(kvm_ioctls::Error::last()));
        }
        found => return Err(KvmVerdict::WrongVersion { found }),
    }

    progress(ProbeStep::CreateVm);
    let vm = kvm.create_vm().map_err(failed(ProbeStep::CreateVm))?;
    let memory = GuestMemory::map()
        .map_err(|errno| failed(ProbeStep::SetMemory)(kvm_ioctls::Error::new(errno as i32)))?;

    progress(ProbeStep::SetMemory);
    let region = kvm_userspace_memory_region {
        memory_size: MEMORY_SIZE as u64,
        userspace_addr: memory.start.as_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: the region is mapped, Rust holds no reference into it, and
    // `memory` outlives every run of the only vCPU, below.
    unsafe { vm.set_user_memory_region(region) }.map_err(failed(ProbeStep::SetMemory))?;
    if kvm.check_extension(Cap::SetIdentityMapAddr) {
        vm.set_identity_map_address(IDENTITY_MAP_ADDRESS)
            .map_err(failed(ProbeStep::SetMemory))?;
    }
    if kvm.check_extension(Cap::SetTssAddr) {
        vm.set_tss_address(TASK_STATE_ADDRESS)
            .map_err(failed(ProbeStep::SetMemory))?;
    }

    progress(ProbeStep::CreateVcpu);
    let mut vcpu = vm.create_vcpu(0).map_err(failed(ProbeStep::CreateVcpu))?;

    progress(ProbeStep::SetRegisters);
    prepare(&kvm, &vcpu).map_err(failed(ProbeStep::SetRegisters))?;

    progress(ProbeStep::Run);
    // The guest exits before its first loop, so that no round includes the page faults of the
    // start.
    run_to_next_round(&mut vcpu)?;
    let mut fastest = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        run_to_next_round(&mut vcpu)?;
        let ns = start.elapsed().as_nanos() as f64 / f64::from(INSTRUCTIONS_PER_ROUND);
        fastest = fastest.min(ns);
        if fastest <= SLOWEST_USABLE {
            break;
        }
    }
    Ok(fastest)
}

fn prepare(kvm: &Kvm, vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    vcpu.set_cpuid2(&kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?)?;
    let mut special = vcpu.get_sregs()?;
    guest_code::enter_long_mode(&mut special);
    vcpu.set_sregs(&special)?;
    vcpu.set_regs(&guest_code::start_registers())
}

fn run_to_next_round(vcpu: &mut VcpuFd) -> Result<(), KvmVerdict> {
    match vcpu.run() {
        Ok(VcpuExit::IoOut(ROUND_PORT, _)) => Ok(()),
        Ok(exit) => Err(KvmVerdict::WrongExit {
            exit: format!("{exit:?}"),
        }),
        Err(errno) => Err(failed(ProbeStep::Run)(errno)),
    }
}

fn failed(step: ProbeStep) -> impl Fn(kvm_ioctls::Error) -> KvmVerdict {
    move |errno| match errno.errno() {
        code if code == Errno::EBUSY as i32 => KvmVerdict::Busy,
        code => KvmVerdict::Failed { step, errno: code },
    }
}

/// Anonymous memory with the content of [`guest_code::memory`].
struct GuestMemory {
    start: NonNull<c_void>,
}

impl GuestMemory {
    fn map() -> Result<Self, Errno> {
        let length = std::num::NonZeroUsize::new(MEMORY_SIZE).expect("guest memory is not empty");
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            mmap_anonymous(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE,
            )?
        };
        let bytes = guest_code::memory();
        // SAFETY: the mapping is new, writable and as long as the bytes.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), start.cast().as_ptr(), bytes.len());
        }
        Ok(Self { start })
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        // SAFETY: `map` made the mapping with this length, and no vCPU is running.
        let _ = unsafe { munmap(self.start, MEMORY_SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_interrupts_a_call_that_never_returns() {
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        let (sender, receiver) = mpsc::channel();
        let verdict = within(Duration::from_millis(20), move |progress| {
            progress(ProbeStep::Run);
            sender.send(nix::unistd::read(&reader, &mut [0])).unwrap();
            KvmVerdict::Busy
        });
        let step = ProbeStep::Run;
        assert_eq!(verdict, KvmVerdict::Unresponsive { step });
        assert_eq!(receiver.recv(), Ok(Err(Errno::EINTR)));
    }
}
