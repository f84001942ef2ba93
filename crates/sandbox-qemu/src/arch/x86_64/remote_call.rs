//! System calls that a thread of another process makes on our behalf, by ptrace(2).
//!
//! Some requests to the kernel affect the caller's own memory only. A tracer can stop a thread that
//! waits in a system call, let it execute others, and let it wait again. CRIU's `compel` injects
//! code the same way.

use std::io::{self, IoSlice, IoSliceMut};

use nix::errno::Errno;
use nix::libc::{self, c_long, user_regs_struct};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The instruction `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// The memory below the stack pointer that a function may use (System V ABI for AMD64, "red zone"),
/// in bytes.
const RED_ZONE: u64 = 128;

/// The kernel's values of "restart this system call" (Linux `include/linux/errno.h`).
const RESTART: std::ops::RangeInclusive<i64> = 512..=514;
/// The same for calls with a timeout, which only the kernel can restart.
const RESTART_WITH_TIMEOUT: i64 = 516;

/// A stopped thread of another process. Dropping it lets the thread continue.
///
/// The calls must come from the operating system's thread that stopped it.
#[derive(Debug)]
pub(crate) struct StoppedThread {
    thread: Pid,
    registers: user_regs_struct,
    /// A signal that arrived meanwhile.
    signal: Option<Signal>,
}

impl StoppedThread {
    /// Stops a thread, which must wait in a system call and must not be its process's first: others
    /// may wait for the process's end, and would see the stop instead.
    ///
    /// # Errors
    ///
    /// If the kernel forbids it, or the thread is not in a system call.
    pub(crate) fn stop(thread: i32) -> io::Result<Self> {
        let thread = Pid::from_raw(thread);
        // A thread with foreign registers must not continue if this process is killed.
        let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL;
        ptrace::seize(thread, options)?;
        let stop = || {
            ptrace::interrupt(thread)?;
            let signal = wait(thread)?;
            Ok((ptrace::getregs(thread)?, signal))
        };
        let (registers, signal) =
            stop().inspect_err(|_: &Errno| _ = ptrace::detach(thread, None))?;
        let stopped = Self {
            thread,
            registers,
            signal,
        };
        let mut instruction = [0; 2];
        stopped.read(registers.rip - 2, &mut instruction)?;
        if registers.orig_rax.cast_signed() < 0 || instruction != SYSCALL {
            return Err(io::Error::other("the thread is not in a system call"));
        }
        Ok(stopped)
    }

    /// Makes the thread execute a system call, and returns its result.
    ///
    /// # Errors
    ///
    /// If the call fails in the thread, or the thread has ended.
    pub(crate) fn call(&mut self, number: c_long, arguments: [u64; 3]) -> io::Result<i64> {
        let mut registers = user_regs_struct {
            rip: self.registers.rip - 2,
            rax: number.cast_unsigned(),
            rdi: arguments[0],
            rsi: arguments[1],
            rdx: arguments[2],
            // No system call is interrupted, so the kernel restarts none.
            orig_rax: u64::MAX,
            ..self.registers
        };
        ptrace::setregs(self.thread, registers)?;
        for _ in ["its begin", "its end"] {
            ptrace::syscall(self.thread, None)?;
            self.signal = wait(self.thread)?;
            if self.signal.is_some() {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        registers = ptrace::getregs(self.thread)?;
        match registers.rax.cast_signed() {
            error @ -4095..=-1 => Err(io::Error::from_raw_os_error(-(error as i32))),
            result => Ok(result),
        }
    }

    /// Like [`Self::call`], where the third argument is the address of a copy of `value`. Copies it
    /// back afterwards.
    ///
    /// # Errors
    ///
    /// As [`Self::call`].
    pub(crate) fn call_with(
        &mut self,
        number: c_long,
        arguments: [u64; 2],
        value: &mut [u8],
    ) -> io::Result<i64> {
        let below = self.registers.rsp - RED_ZONE - value.len() as u64;
        let address = below & !0xf;
        self.write(address, value)?;
        let result = self.call(number, [arguments[0], arguments[1], address]);
        self.read(address, value)?;
        result
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> io::Result<()> {
        let remote = remote(address, bytes.len());
        let count = process_vm_readv(self.thread, &mut [IoSliceMut::new(bytes)], &[remote])?;
        complete(count, remote.len)
    }

    fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        let remote = remote(address, bytes.len());
        let count = process_vm_writev(self.thread, &[IoSlice::new(bytes)], &[remote])?;
        complete(count, remote.len)
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        let mut registers = self.registers;
        // Restarts the interrupted system call as the kernel would have done.
        match -registers.rax.cast_signed() {
            error if RESTART.contains(&error) => {
                registers.rax = registers.orig_rax;
                registers.rip -= 2;
            }
            RESTART_WITH_TIMEOUT => registers.rax = (-libc::EINTR as i64).cast_unsigned(),
            _ => {}
        }
        registers.orig_rax = u64::MAX;
        // Both fail only if the thread has ended.
        _ = ptrace::setregs(self.thread, registers);
        _ = ptrace::detach(self.thread, self.signal);
    }
}

/// Waits for the thread's next stop. Returns the signal that it is about to receive, if that is why
/// it stopped.
fn wait(thread: Pid) -> nix::Result<Option<Signal>> {
    match waitpid(thread, Some(WaitPidFlag::__WALL))? {
        WaitStatus::PtraceEvent(..) | WaitStatus::PtraceSyscall(_) => Ok(None),
        WaitStatus::Stopped(_, signal) => Ok(Some(signal)),
        _ => Err(Errno::ESRCH),
    }
}

fn remote(address: u64, length: usize) -> RemoteIoVec {
    RemoteIoVec {
        base: address as usize,
        len: length,
    }
}

fn complete(count: usize, wanted: usize) -> io::Result<()> {
    match count == wanted {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    #[test]
    fn stopped_thread_makes_calls_and_continues_its_own() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id().cast_signed();
        // The number of read(2) is 0.
        let call = format!("/proc/{pid}/syscall");
        while !std::fs::read_to_string(&call).unwrap().starts_with("0 0x0") {
            std::thread::sleep(Duration::from_millis(1));
        }

        let mut thread = StoppedThread::stop(pid).unwrap();
        let own = thread.call(libc::SYS_getpid, [0; 3]).unwrap();
        assert_eq!(own, i64::from(pid));
        let error = thread.call(libc::SYS_close, [99, 0, 0]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        child.stdin.as_mut().unwrap().write_all(b"word\n").unwrap();
        let mut unread = [0; 4];
        thread
            .call_with(libc::SYS_ioctl, [0, libc::FIONREAD], &mut unread)
            .unwrap();
        assert_eq!(u32::from_ne_bytes(unread), 5);
        drop(thread);

        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"word\n");
        assert!(output.status.success());
    }

    #[test]
    fn stop_of_a_missing_thread_fails() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let error = StoppedThread::stop(child.id().cast_signed()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    }
}
