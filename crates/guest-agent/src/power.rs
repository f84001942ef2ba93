//! Powers off when the host presses the ACPI power button.
//!
//! The agent asks systemd for an immediate power-off. systemd then does not stop
//! the units one after the other. It ends all processes at once (SIGTERM, then
//! SIGKILL), unmounts all file systems, which flushes the shares, and powers
//! off. The host discards the root file system.

use std::path::Path;
use std::{fs, io};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::{async_fd, report};

/// The directory of input devices.
const INPUT_CLASS: &str = "/sys/class/input";

/// `KEY_POWER` (`linux/input-event-codes.h`).
const KEY_POWER: u16 = 116;

/// `EV_KEY`: an event about a key.
const EV_KEY: u16 = 1;

/// Length of `struct input_event` (`linux/input.h`): two 64-bit words of time,
/// type (2), code (2), value (4).
const EVENT_LENGTH: usize = 24;

/// `SIGRTMIN` of systemd's glibc. glibc reserves the two real-time signals below
/// it (signal(7)).
const SIGRTMIN: i32 = 34;

/// Asks PID 1 to power off immediately (systemd(1), `SIGRTMIN+14`).
const POWER_OFF_NOW: i32 = SIGRTMIN + 14;

/// A failure to watch the button or to power off.
#[derive(Debug, thiserror::Error)]
enum PowerError {
    #[error("could not list the input devices")]
    Find { source: io::Error },
    #[error("power button not found")]
    NoButton,
    #[error("could not read the power button")]
    Read { source: io::Error },
    #[error("could not ask systemd to power off")]
    Signal { source: io::Error },
}

/// Powers off when the button is pressed. Reports an error on the console.
pub(crate) async fn watch() {
    if let Err(error) = power_off_at_press().await {
        report::log(&report::chain(&error));
    }
}

async fn power_off_at_press() -> Result<(), PowerError> {
    let buttons = open_buttons().map_err(|source| PowerError::Find { source })?;
    if buttons.is_empty() {
        return Err(PowerError::NoButton);
    }
    let (sender, mut presses) = mpsc::channel(1);
    for button in buttons {
        let sender = sender.clone();
        tokio::spawn(async move {
            // The receiver is dropped only after a press.
            let _ = sender.send(press(&button).await).await;
        });
    }
    if let Some(Err(source)) = presses.recv().await {
        return Err(PowerError::Read { source });
    }
    // Write out most data before systemd ends the processes.
    rustix::fs::sync();
    // SAFETY: 48 is a real-time signal that no libc reserves (signal(7)).
    let signal = unsafe { Signal::from_raw_unchecked(POWER_OFF_NOW) };
    rustix::process::kill_process(Pid::INIT, signal).map_err(|source| PowerError::Signal {
        source: source.into(),
    })
}

/// Opens every input device with a power button. There may be two: the fixed
/// ACPI button, and one that the ACPI tables describe (`drivers/acpi/button.c`).
fn open_buttons() -> io::Result<Vec<AsyncFd<OwnedFd>>> {
    let mut buttons = Vec::new();
    for entry in fs::read_dir(INPUT_CLASS)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("event") {
            continue;
        }
        let keys = fs::read_to_string(entry.path().join("device/capabilities/key"))?;
        if has_key(&keys, KEY_POWER) {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let path = Path::new("/dev/input").join(name);
            let device = rustix::fs::open(path, flags, Mode::empty())?;
            buttons.push(async_fd::register(device, Interest::READABLE)?);
        }
    }
    Ok(buttons)
}

/// Returns whether a bitmap of sysfs contains a key. It consists of hexadecimal
/// words of 64 bits, the highest first (`drivers/input/input.c`).
fn has_key(bitmap: &str, key: u16) -> bool {
    let key = usize::from(key);
    bitmap
        .split_ascii_whitespace()
        .rev()
        .nth(key / 64)
        .and_then(|word| u64::from_str_radix(word, 16).ok())
        .is_some_and(|word| word >> (key % 64) & 1 == 1)
}

/// Waits for a press of the button.
async fn press(button: &AsyncFd<OwnedFd>) -> io::Result<()> {
    loop {
        let mut buffer = [0; EVENT_LENGTH * 16];
        let length = button
            .async_io(Interest::READABLE, |device| {
                Ok(rustix::io::read(device, &mut buffer[..])?)
            })
            .await?;
        if buffer[..length].chunks_exact(EVENT_LENGTH).any(is_press) {
            return Ok(());
        }
    }
}

/// Returns whether an event is a press of the power button (value 1; kernel
/// documentation, `input/event-codes.rst`).
fn is_press(event: &[u8]) -> bool {
    let half = |offset: usize| u16::from_ne_bytes([event[offset], event[offset + 1]]);
    half(16) == EV_KEY && half(18) == KEY_POWER && half(20) == 1
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn has_key_finds_the_power_button() {
        // The power button of QEMU's machines, and its keyboard.
        assert!(has_key("10000000000000 0\n", KEY_POWER));
        assert!(has_key(
            "402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe",
            KEY_POWER
        ));
        assert!(!has_key("0 10000000000000\n", KEY_POWER));
        assert!(!has_key("", KEY_POWER));
    }

    #[test]
    fn is_press_accepts_only_a_press_of_the_power_button() {
        let event = |kind: u8, code: u8, value: u8| {
            let mut bytes = [0; EVENT_LENGTH];
            bytes[16] = kind;
            bytes[18] = code;
            bytes[20] = value;
            bytes
        };
        assert!(is_press(&event(1, 116, 1)));
        assert!(!is_press(&event(1, 116, 0)));
        assert!(!is_press(&event(1, 30, 1)));
        assert!(!is_press(&event(0, 0, 0)));
    }
}
