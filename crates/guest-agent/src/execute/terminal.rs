//! The pseudo-terminal of a program (pty(7)).

use std::io;
use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Gid, Mode, Uid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use sandbox_protocol::agent::message::{Size, Terminal};

use super::{accounts, modes};

/// The group that owns terminals, so that write(1) and wall(1) reach them.
const GROUP: &str = "tty";

/// Both ends of a terminal.
pub(super) struct Pair {
    /// The agent's end.
    pub(super) master: OwnedFd,
    /// The program's end.
    pub(super) slave: OwnedFd,
}

/// Opens a terminal whose owner is the user number `owner`.
pub(super) fn open(terminal: &Terminal, owner: u32, etc: &Path) -> io::Result<Pair> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    let mut termios = tcgetattr(&slave)?;
    modes::apply(&terminal.modes, &mut termios);
    tcsetattr(&slave, OptionalActions::Now, &termios)?;
    resize(&master, terminal.size)?;
    let group = accounts::find_group(etc, GROUP)?.map(Gid::from_raw);
    rustix::fs::fchown(&slave, Some(Uid::from_raw(owner)), group)?;
    rustix::fs::fchmod(&slave, Mode::RUSR | Mode::WUSR | Mode::WGRP)?;
    Ok(Pair { master, slave })
}

/// Sets the size of a terminal. The kernel sends SIGWINCH to its foreground
/// processes.
pub(super) fn resize(master: impl AsFd, size: Size) -> rustix::io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: size.pixel_width,
        ws_ypixel: size.pixel_height,
    };
    tcsetwinsize(master, size)
}
