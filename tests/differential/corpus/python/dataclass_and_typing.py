import dataclasses
import enum
import typing


@dataclasses.dataclass(order=True, slots=True)
class Point:
    x: int
    y: int = 2
    tags: list[str] = dataclasses.field(default_factory=list)


class Colour(enum.Enum):
    RED = enum.auto()


T = typing.TypeVar("T")


class Box(typing.Generic[T]):
    item: T


print(Point(1), Point(1) < Point(2), Point, Point.__module__, typing.get_type_hints(Point))
print(Colour.RED, repr(Colour.RED), Box[int], T)
match Point(3, 4):
    case Point(x=3, y=y):
        print("matched", y)
Point("a", "b", "c", "d")
