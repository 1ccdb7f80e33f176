"""What must be another in every copy: its user, its random numbers, its clocks. Where it is, and what to write there.

A copy of a process starts with the same pseudo-random numbers as all others, and says that it was started when the one
it is a copy of was. Both are found by what they must look like: a generator by the relation between its words, since
V8 computes a state from a seed; the time stamps by when the interpreter was started, and by their order.
"""

from __future__ import annotations

import os
import struct
import time
from array import array
from dataclasses import asdict, dataclass
from typing import Any

from isol8.engines.native.copying.errors import Unfit
from isol8.engines.native.copying.state import Mapping, first_stack_words

_WORD = (1 << 64) - 1
_CHUNK_OF_GENERATOR = 0x21  # what malloc notes before 24 bytes
_MOST_STEPS = 4096
_LEAST_SEEDED = 1 << 32
_OF_HEAP, _NO_RESERVE = "dc", "nr"  # V8 keeps its heap from forks
_MOST_NUMBERS = 3
_THREAD_DATA_BYTES = 2048  # of static thread-local storage, which ends at the thread's own data
_MILESTONES = 8  # of node's performance_state.h
_AT_UID, _AT_GID, _AT_LAST = 11, 14, 0
_STEADY, _STEADY_FLOAT, _CALENDAR, _FIXED = "steady", "steady-float", "calendar", "fixed"


@dataclass(frozen=True, slots=True)
class Span:
    """When an interpreter was started and when it was held, in ns of the monotonic clock and of the calendar's."""

    started: int
    held: int
    started_calendar: int
    held_calendar: int


@dataclass(frozen=True, slots=True)
class Individual:
    """Where the copy's own words are. `places`: (address, number of words), in the order of `pack`. `stamps`: a word
    each, as (kind, value). `held`: when the interpreter was, in ns."""

    places: tuple[tuple[int, int], ...]
    stamps: tuple[tuple[str, int], ...]
    held: int
    held_calendar: int

    def pack(self, uid: int) -> bytes:
        """The words of a new copy, which is to run as that user."""
        later, later_calendar = time.monotonic_ns() - self.held, time.time_ns() - self.held_calendar
        stamps = b"".join(_later(kind, value, later, later_calendar) for kind, value in self.stamps)
        return struct.pack("=10Q", *[uid] * 10) + _new_generator() + stamps

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Individual:
        places = tuple((address, count) for address, count in value["places"])
        stamps = tuple((kind, word) for kind, word in value["stamps"])
        return cls(places, stamps, value["held"], value["held_calendar"])


def find(
    process: int, memory: int, mappings: list[Mapping], span: Span, users: tuple[int, int]
) -> tuple[Individual, tuple[int, int]]:
    """All there is in an interpreter, and (address, bytes) of its auxiliary vector. `users`: where the arguments of the
    calls are by which a copy becomes a user. Raises Unfit."""
    executable = next((each.path for each in mappings if each.path.startswith("/")), "")
    own = [each for each in mappings if each.path == executable and each.permissions == "rw-p"]
    own += [each for each in mappings if own and each.start == own[-1].end and not each.path]
    heap = [each for each in mappings if each.path == "[heap]"]
    if not own or len(heap) != 1:
        raise Unfit("its memory is not laid out as is known")
    ids, vector = _user_words(process, memory)
    words = _Words(memory, heap[0])
    stamps = _Stamps(words, [_Words(memory, each) for each in own], span)
    places = [(users[0], 3), (users[1], 3), *((address, 1) for address in ids), (_find_generator(words), 3)]
    return Individual((*places, *stamps.places), tuple(stamps.stamps), span.held, span.held_calendar), vector


def find_numbers(process: int, memory: int, mappings: list[Mapping], thread_data: int) -> list[int]:
    """Where the interpreter itself keeps its process number: addresses of 4 bytes. `process.pid` is a small integer on
    V8's heap, of which there can be an older copy; and the first thread keeps its own, below `thread_data`. Raises
    Unfit: there is none, or another number that happens to be the same."""
    wanted = (process << 32).to_bytes(8, "little")
    found: dict[int, bytes] = {}
    for each in mappings:
        if each.permissions == "rw-p" and _OF_HEAP in each.flags and _NO_RESERVE not in each.flags:
            content = os.pread(memory, each.end - each.start, each.start)
            for at in _aligned(content, wanted, 8):
                found[each.start + at + 4] = content[at - 8 : at] + content[at + 8 : at + 16]
    if not found or len(found) > _MOST_NUMBERS or len(set(found.values())) != 1:
        raise Unfit(f"its process number, {process}, is in {len(found)} places")
    return [*found, *find_thread_numbers(process, memory, thread_data)]


def find_thread_numbers(thread: int, memory: int, thread_data: int) -> list[int]:
    """Where a thread keeps its own number in the variables that it alone has: addresses of 4 bytes."""
    first = thread_data - _THREAD_DATA_BYTES
    own = os.pread(memory, _THREAD_DATA_BYTES, first)
    return [first + at for at in _aligned(own, thread.to_bytes(4, "little"), 4)]


def _aligned(content: bytes, wanted: bytes, align: int) -> list[int]:
    """Where something is, among the places that such a thing can be at."""
    found = []
    at = content.find(wanted)
    while at >= 0:
        if at % align == 0:
            found.append(at)
        at = content.find(wanted, at + 1)
    return found


class _Words:
    """A mapping, as words."""

    def __init__(self, memory: int, mapping: Mapping) -> None:
        size = mapping.end - mapping.start
        self.start = mapping.start
        self.words = array("Q", os.pread(memory, size, mapping.start))
        if len(self.words) * 8 != size:
            raise Unfit("its memory cannot be read")

    def between(self, low: int, high: int) -> list[int]:
        """The indices of words in that range."""
        return [index for index, word in enumerate(self.words) if low <= word <= high]

    def address(self, index: int) -> int:
        return self.start + 8 * index


def _user_words(process: int, memory: int) -> tuple[list[int], tuple[int, int]]:
    """Where the auxiliary vector names the user and group, real and effective; and (address, bytes) of all of it."""
    start, words = first_stack_words(process, memory)
    at = words.index(0, 1 + words[0]) + 1  # behind argc, the arguments and a zero
    at = first = words.index(0, at) + 1  # behind the environment and a zero
    found = {}
    while words[at] != _AT_LAST:
        found[words[at]] = start + 8 * (at + 1)
        at += 2
    kinds = range(_AT_UID, _AT_GID + 1)
    if not all(kind in found for kind in kinds):
        raise Unfit("its auxiliary vector names no user")
    return [found[kind] for kind in kinds], (start + 8 * first, 8 * (at + 2 - first))


def _mix(word: int) -> int:
    """MurmurHash3's finalizer, by which V8 makes a generator's state of a seed."""
    word ^= word >> 33
    word = word * 0xFF51AFD7ED558CCD & _WORD
    word ^= word >> 33
    word = word * 0xC4CEB9FE1A85EC53 & _WORD
    return word ^ word >> 33


def _new_generator() -> bytes:
    """A generator with a seed of the kernel's: seed and state, as V8's RandomNumberGenerator::SetSeed leaves them."""
    seed = int.from_bytes(os.urandom(8), "little")
    first = _mix(seed)
    return struct.pack("=3Q", seed, first, _mix(first ^ _WORD))


def _is_generator(seed: int, state: list[int]) -> bool:
    first = _mix(seed)
    second = _mix(first ^ _WORD)
    for _ in range(_MOST_STEPS):
        if [first, second] == state:
            return True
        one = first ^ first << 23 & _WORD  # xorshift128
        one ^= one >> 17
        first, second = second, one ^ second ^ second >> 26
    return False


def _find_generator(heap: _Words) -> int:
    """Where the one generator of the interpreter's isolate is."""
    words = heap.words
    found = []
    for index in range(1, len(words) - 2):
        seed, *state = words[index : index + 3]
        likely = words[index - 1] == _CHUNK_OF_GENERATOR and min(state) > _LEAST_SEEDED
        if likely and _is_generator(seed, state):
            found.append(heap.address(index))
    if len(found) != 1:
        raise Unfit(f"it has {len(found)} generators of random numbers, not one")
    return found[0]


class _Stamps:
    """The time stamps of node: when the process, V8, the environment and its parts began."""

    def __init__(self, heap: _Words, own: list[_Words], span: Span) -> None:
        self.places: list[tuple[int, int]] = []
        self.stamps: list[tuple[str, int]] = []
        self._span = span
        origin, calendar, environment = self._of_environment(heap)
        beginnings = self._of_process(own, origin, calendar)
        known = {origin, environment, *beginnings}
        self._milestones(heap, origin, calendar, known)

    def _is_calendar(self, word: int) -> bool:
        value = _float(word)
        span = self._span
        return span.started_calendar - 1e9 <= value * 1e3 <= span.held_calendar and value.is_integer()

    def _add(self, words: _Words, index: int, kinds: tuple[str, ...]) -> None:
        self.places.append((words.address(index), len(kinds)))
        self.stamps += [(kind, words.words[index + offset]) for offset, kind in enumerate(kinds)]

    def _of_environment(self, heap: _Words) -> tuple[int, int, int]:
        """In its Environment: time origin, the same in the calendar, when the environment was made."""
        words, span = heap.words, self._span
        found = [
            index
            for index in heap.between(span.started, span.held)[:-1]
            if self._is_calendar(words[index + 1]) and words[index] < words[index + 2] <= span.held
        ]
        if len(found) != 1:
            raise Unfit("its environment's time origin is not where it is known to be")
        self._add(heap, found[0], (_STEADY, _CALENDAR, _STEADY))
        return words[found[0]], words[found[0] + 1], words[found[0] + 2]

    def _of_process(self, own: list[_Words], origin: int, calendar: int) -> tuple[int, int]:
        """Among node's variables: when V8 began, the calendar's origin, the origin; elsewhere, when node began."""
        found = [(words, index) for words in own for index in words.between(self._span.started, self._span.held)]
        origins = [(words, index) for words, index in found if words.words[index] == origin]
        rest = [(words, index) for words, index in found if words.words[index] != origin]
        if len(origins) != 1 or len(rest) != 2:
            raise Unfit("the time stamps of its process are not where they are known to be")
        words, at = origins[0]
        if words.words[at - 1] != calendar or (words, at - 2) not in rest:
            raise Unfit("the time stamps of its process are not in the order that is known")
        self._add(words, at - 2, (_STEADY, _CALENDAR, _STEADY))
        rest.remove((words, at - 2))
        self._add(*rest[0], (_STEADY,))
        return words.words[at - 2], rest[0][0].words[rest[0][1]]

    def _milestones(self, heap: _Words, origin: int, calendar: int, known: set[int]) -> None:
        """What `performance` reads: an array of doubles, the origin in the calendar and then those of the process."""
        words, first = heap.words, _bits(float(origin))
        found = [index for index in range(1, len(words) - _MILESTONES) if words[index] == first]
        found = [index - 1 for index in found if words[index - 1] == calendar]
        if len(found) != 1:
            raise Unfit("its milestones are not where they are known to be")
        at, kinds = found[0], [_CALENDAR]
        for word in words[at + 1 : at + _MILESTONES]:
            steady = self._span.started <= _float(word) <= self._span.held
            kinds.append(_STEADY_FLOAT if steady else _FIXED)
        if not {_bits(float(stamp)) for stamp in known} <= set(words[at + 1 : at + _MILESTONES]):
            raise Unfit("its milestones are not those that are known")
        self._add(heap, at, tuple(kinds))


def _bits(value: float) -> int:
    return int.from_bytes(struct.pack("=d", value), "little")


def _float(word: int) -> float:
    value: float = struct.unpack("=d", struct.pack("=Q", word))[0]
    return value


def _later(kind: str, word: int, later: int, later_calendar: int) -> bytes:
    """A stamp, moved by ns."""
    if kind == _STEADY:
        return struct.pack("=Q", word + later)
    if kind == _STEADY_FLOAT:
        return struct.pack("=d", _float(word) + later)
    if kind == _CALENDAR:  # in µs
        return struct.pack("=d", _float(word) + later_calendar // 1000)
    return struct.pack("=Q", word)
