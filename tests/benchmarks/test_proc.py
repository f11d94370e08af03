"""What is read from /proc."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time

import pytest

from benchmarks import proc

STAT = (
    "4242 (a) b (c) S 17 4242 99 0 -1 4194560 2000 300 0 0 "
    "11 22 33 44 20 0 1 0 987654 1000000 500 18446744073709551615"
)

SOCKSTAT = """\
sockets: used 230
TCP: inuse 12 orphan 3 tw 4567 alloc 34 mem 5
UDP: inuse 1 mem 0
"""


def test_a_process_name_with_spaces_and_parentheses_shifts_no_field() -> None:
    stat = proc.parse_stat(STAT)
    assert stat == proc.Stat(
        state="S",
        parent=17,
        session=99,
        cpu_ticks=11 + 22 + 33 + 44,
        system_ticks=22 + 44,
        start_time=987654,
    )


def test_pss_is_not_the_pss_of_a_kind() -> None:
    text = "55 - 7f [rollup]\nRss:   900 kB\nPss:   123 kB\nPss_Anon:   45 kB\n"
    assert proc.parse_pss(text) == 123 * 1024


def test_sockets_and_buffers_are_those_of_tcp() -> None:
    assert proc.parse_sockstat(SOCKSTAT) == proc.SocketUse(sockets=34, buffers=5 * proc.PAGE)


def test_the_machine_works_in_user_system_and_stolen_time() -> None:
    text = "cpu  100 20 3 9000 9000 9000 9000 7 50 60\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    assert proc.parse_machine_cpu(text) == (100 + 20 + 3 + 7) / proc.TICKS


def test_cpu_seconds_are_those_that_were_used() -> None:
    before, clock = proc.cpu_seconds([os.getpid()]), time.process_time()
    while time.process_time() < clock + 0.1:
        pass
    assert proc.cpu_seconds([os.getpid()]) - before == pytest.approx(0.1, abs=2 / proc.TICKS)


def test_memory_grows_by_what_is_touched() -> None:
    touched = os.urandom(16 << 20)
    before = proc.memory([os.getpid()])
    with mmap.mmap(-1, len(touched)) as kept:  # from the system: an allocator may have pages left
        kept.write(touched)
        assert proc.memory([os.getpid()]) - before > len(touched) * 0.9


def test_descriptors_are_counted() -> None:
    before = proc.descriptors([os.getpid()])
    reader, writer = os.pipe()
    assert proc.descriptors([os.getpid()]) == before + 2
    os.close(reader)
    os.close(writer)


def test_a_family_has_the_grandchildren() -> None:
    script = "import subprocess, sys; subprocess.run(['sleep', '60'], stdout=sys.stdout)"
    with subprocess.Popen([sys.executable, "-c", f"print(flush=True); {script}"], stdout=-1) as child:
        assert child.stdout is not None
        child.stdout.readline()
        family = proc.families([child.pid])
        while len(family) < 2:
            family = proc.families([child.pid])
        assert family[0] == child.pid
        for pid in family:
            os.kill(pid, 9)


def test_an_ended_process_has_no_start_time() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
        assert proc.start_time(child.pid) is None
        assert proc.memory([child.pid]) == proc.descriptors([child.pid]) == 0
    assert proc.start_time(os.getpid()) is not None
