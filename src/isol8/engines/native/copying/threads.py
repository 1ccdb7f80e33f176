"""How the threads of a copy come to be, and go on from where they were: by frames on their stacks."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from isol8.engines.native.copying.errors import Unfit
from isol8.engines.native.copying.individual import find_thread_numbers
from isol8.engines.native.copying.installing import DATA_BYTES, Image
from isol8.engines.native.copying.machine import DONE, FRAME_BYTES, Frame, Step, as_frame_holds, calling
from isol8.engines.native.copying.state import Thread
from isol8.engines.native.copying.table import Table
from isol8.kernel.call_table import number

_VM, _FS, _FILES, _SIGHAND, _THREAD, _SYSVSEM = 0x100, 0x200, 0x400, 0x800, 0x10000, 0x40000
_SETTLS, _PARENT_SETTID, _CHILD_CLEARTID, _CHILD_SETTID = 0x80000, 0x100000, 0x200000, 0x1000000
_NEW_THREAD = _VM | _FS | _FILES | _SIGHAND | _THREAD | _SYSVSEM | _SETTLS
_NEW_THREAD |= _PARENT_SETTID | _CHILD_CLEARTID | _CHILD_SETTID
_PR_SET_NAME = 15
_NAME_BYTES = 16
_RED_ZONE = 128


def start(table: Table, thread: Thread) -> Iterator[Step]:
    """Start a thread: by a frame that makes the call and returns to the table, whereas the thread itself returns to
    frames of its own. Raises Unfit."""
    image = table.image
    data = thread.registers["fs_base"]
    kept = data + image.thread_id_offset
    noted = find_thread_numbers(thread.id, image.memory, data) or [kept]
    if len(noted) > 1:
        raise Unfit("a thread notes its number twice")
    rseq, length, signature = thread.rseq
    first = [(number("set_robust_list"), *thread.robust), (number("rseq"), rseq, length, 0, signature)]
    stack = _lay_frames(image, thread, first, name=True)
    started = table.add(Step(0))  # its call is made by the frame: what counts is where it goes on
    back = table.put(struct.pack("=Q", image.code + DONE))
    arguments = (_NEW_THREAD, stack, noted[0], kept, data)
    frame = calling(image.places, back, number("clone"), *arguments, then=started.address)
    yield _enter(table.put(frame.pack(image.places), 16))
    yield started


def resume_first(image: Image) -> Step:
    """Unmap the table, and let the first thread go on."""
    unmap = (number("munmap"), image.code, image.data + DATA_BYTES - image.code)
    return _enter(_lay_frames(image, image.threads[0], [unmap], name=False))


def _enter(frame: int) -> Step:
    return Step(number("rt_sigreturn"), stack=frame + 8)


def _lay_frames(image: Image, thread: Thread, calls: list[tuple[int, ...]], *, name: bool) -> int:
    """Write frames to a thread's stack: some that make a call, one that puts it where it was. Where the first one
    is; a return to it begins them."""
    held = as_frame_holds(thread.extended)
    extended = (thread.registers["rsp"] - _RED_ZONE - len(held)) & -64
    named = extended - _NAME_BYTES
    if name:
        calls = [*calls, (number("prctl"), _PR_SET_NAME, named)]
    start = (named - FRAME_BYTES * (len(calls) + 1)) & -16
    frames = [calling(image.places, start + FRAME_BYTES * (index + 1), *each) for index, each in enumerate(calls)]
    frames.append(Frame(thread.registers, thread.blocked, extended))
    os.pwrite(image.memory, b"".join(frame.pack(image.places) for frame in frames), start)
    os.pwrite(image.memory, thread.name[: _NAME_BYTES - 1].ljust(_NAME_BYTES, b"\0"), named)
    os.pwrite(image.memory, held, extended)
    return start
