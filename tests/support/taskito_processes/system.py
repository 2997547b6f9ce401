"""What the system knows about a process, and disturbances of the system itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "bytes_written",
    "children_of",
    "compile_clock_shim",
    "cpu_seconds",
    "is_gone",
    "open_descriptors",
    "small_disk",
]

# Shifts the wall clock of a process by the number of seconds in a mapped file.
_CLOCK_SHIM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift;

__attribute__((constructor)) static void open_shift(void) {
    const char *path = getenv("CLOCK_SHIFT_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *place = mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (place != MAP_FAILED) shift = place;
    close(file);
}

static int64_t seconds(void) { return shift ? *shift : 0; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int status = (int)syscall(SYS_clock_gettime, clock, now);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += seconds();
    return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place) *place = now.tv_sec;
    return now.tv_sec;
}
"""


def compile_clock_shim(folder: Path) -> Path:
    """Compile the library that shifts wall clocks, for ``LD_PRELOAD``."""
    source, library = folder / "clock_shim.c", folder / "clock_shim.so"
    source.write_text(_CLOCK_SHIM)
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(source)], check=True
    )
    return library


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bytes_written(pid: int) -> int:
    """Return how many bytes a process has caused to be written to disks."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        name, _, value = line.partition(": ")
        if name == "write_bytes":
            return int(value)
    raise AssertionError(f"/proc/{pid}/io has no write_bytes")


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path | None]:
    """Mount a file system of a few megabytes; None without the right to do so."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        # Lazily: a process that was killed a moment ago may still have files open on it.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def children_of(pid: int) -> dict[int, str]:
    """Return the child processes of a process with their states; "Z" is a zombie."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = stat.read_text().partition(" (")
        except OSError:
            continue  # It has ended meanwhile.
        state, parent = rest.rpartition(") ")[2].split()[:2]
        if int(parent) == pid:
            found[int(number)] = state
    return found


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, whoever has yet to take note of that."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True


def open_descriptors(pid: int) -> int:
    """Return how many descriptors a process has open that are no files.

    A store opens files as it needs them.
    """
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            count += not str(descriptor.readlink()).startswith("/")
    return count
