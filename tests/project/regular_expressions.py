"""Check whether the time of a regular expression can grow faster than the length of a text.

`re` tries one way after the other. The expression becomes an automaton of its letters (Glushkov's), in which each way
through a text is one way that `re` may try. It is superlinear where the same text has ever more ways the longer it is
(Weideman et al., "Analyzing Matching Time Behavior of Backtracking Regular Expression Matchers", 2016): exponential
where a letter comes back to itself by two ways, a power where one repetition leads to another by a text that both take.
A search that may begin anywhere has one more repetition, before the expression. Nothing is measured.

It errs on the side of caution: what must follow or precede is left out, and a power may need ways that `re` never comes
to. Repetitions of at most LIMITED count as a constant.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from itertools import product
from typing import Any

_parser: Any = import_module("re._parser")  # `sre_parse`, by the name that it has had since Python 3.11

LIMITED = 4096  # repetitions
END = "END"  # what nothing but the end of a text is
SEARCHING = frozenset({"search", "sub", "subn", "split", "findall", "finditer"})
_LETTERS = (
    "\0\x01\t\n\r !\"#$%&'()*+,-./0123456789:;<=>?@ABZ[\\]^_`abz{|}~\x7f\x85\xa0\xe9\xff\u0663\ud800\ufffd\U0010fffe"
)
_CATEGORIES = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}


@dataclass
class _Part:
    """An expression's part: the letters that it may begin and end with, and whether it may be empty."""

    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()
    nullable: bool = True


@dataclass
class _Automaton:
    letters: list[frozenset[str]] = field(default_factory=list)  # what each place of the expression takes
    following: list[Counter[int]] = field(default_factory=list)  # and where it leads, by how many ways
    may_fail: bool = False  # at its end, although all letters fit

    def place(self, letters: Iterable[str]) -> _Part:
        self.letters.append(frozenset(letters))
        self.following.append(Counter())
        return _Part((len(self.letters) - 1,), (len(self.letters) - 1,), nullable=False)

    def link(self, before: Iterable[int], after: Iterable[int]) -> None:
        for one, other in product(before, after):
            self.following[one][other] += 1

    def sequence(self, parts: Iterable[_Part]) -> _Part:
        whole = _Part()
        for part in parts:
            self.link(whole.last, part.first)
            whole = _Part(
                whole.first + part.first if whole.nullable else whole.first,
                part.last + whole.last if part.nullable else part.last,
                whole.nullable and part.nullable,
            )
        return whole

    def repeated(self, part: _Part) -> _Part:
        self.link(part.last, part.first)
        return part


class _Builder:
    """Makes the automaton of what `re` has parsed."""

    def __init__(self, pattern: str | bytes, flags: int) -> None:
        self.automaton = _Automaton()
        text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
        parsed = _parser.parse(text, flags & ~re.UNICODE)
        self._flags = int(parsed.state.flags) | flags
        self.alphabet = sorted({*_LETTERS, *self._named(parsed)})
        self.whole = self._sequence(parsed)

    def _named(self, items: Any) -> Iterator[str]:
        """Yield the letters that an expression names, and those beside its ranges."""
        for operation, argument in items:
            if str(operation) in ("LITERAL", "NOT_LITERAL"):
                yield chr(argument)
            elif str(operation) == "RANGE":
                yield from map(chr, {max(0, argument[0] - 1), *argument, min(0x10FFFF, argument[1] + 1)})
            elif str(operation) == "IN":
                yield from self._named(argument)
            else:
                for inner in _inner(str(operation), argument):
                    yield from self._named(inner)

    def _sequence(self, items: Any) -> _Part:
        return self.automaton.sequence([self._part(str(operation), argument) for operation, argument in items])

    def _part(self, operation: str, argument: Any) -> _Part:
        if operation in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            return self.automaton.place(letter for letter in self.alphabet if self._takes(operation, argument, letter))
        if operation == "AT":
            return self._anchor(str(argument))
        if operation in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            return self._repeat(*argument)
        if operation in ("ASSERT", "ASSERT_NOT"):  # leads to nothing, but may take its time
            self.automaton.may_fail = True
            if argument[0] < 0:  # what stands before has a fixed length
                return _Part()
            dead = self.automaton.sequence([self._sequence(argument[1]), self.automaton.place(())])
            return _Part(dead.first, (), nullable=True)
        inner = [self._sequence(each) for each in _inner(operation, argument)]
        if operation in ("SUBPATTERN", "ATOMIC_GROUP"):
            return inner[0]
        if operation in ("BRANCH", "GROUPREF_EXISTS"):
            return _Part(
                tuple(place for part in inner for place in part.first),
                tuple(place for part in inner for place in part.last),
                any(part.nullable for part in inner),
            )
        raise ValueError(f"an expression with {operation} is not understood")

    def _takes(self, operation: str, argument: Any, letter: str) -> bool:
        if self._flags & re.IGNORECASE:
            return any(self._takes_just(operation, argument, one) for one in {letter, letter.lower(), letter.upper()})
        return self._takes_just(operation, argument, letter)

    def _takes_just(self, operation: str, argument: Any, letter: str) -> bool:
        if operation == "ANY":
            return letter != "\n" or bool(self._flags & re.DOTALL)
        if operation in ("LITERAL", "NOT_LITERAL"):
            return (letter == chr(argument)) is (operation == "LITERAL")
        if operation == "RANGE":
            return bool(argument[0] <= ord(letter) <= argument[1])
        if operation == "CATEGORY":
            shape = _CATEGORIES[str(argument).rpartition("_")[2]]
            return (re.fullmatch(shape, letter) is not None) is ("NOT_" not in str(argument))
        found = any(self._takes_just(str(one), each, letter) for one, each in argument if str(one) != "NEGATE")
        return found is (str(argument[0][0]) != "NEGATE")

    def _anchor(self, where: str) -> _Part:
        if where == "AT_BEGINNING" and self._flags & re.MULTILINE:
            return self.automaton.place("\n")
        if where.startswith("AT_BEGINNING"):
            return self.automaton.place(())  # search() sees at once that it is not at the beginning
        if where.startswith("AT_END"):
            ends = where == "AT_END" and self._flags & re.MULTILINE
            return self.automaton.place((END, "\n") if ends else (END,))
        self.automaton.may_fail = True  # the edge of a word
        return _Part()

    def _repeat(self, least: int, most: Any, items: Any) -> _Part:
        if int(most) > LIMITED:
            # `least` copies at most come before the loop, and make no difference to it.
            loop = self.automaton.repeated(self._sequence(items))
            return _Part(loop.first, loop.last, loop.nullable or least == 0)
        copies = []
        for number in range(min(int(most), max(least, 1), 2)):
            one = self._sequence(items)
            copies.append(_Part(one.first, one.last, one.nullable or number >= least))
        return self.automaton.sequence(copies)


def _inner(operation: str, argument: Any) -> list[Any]:
    """Return the expressions in a part of one."""
    if operation == "SUBPATTERN":
        return [argument[-1]]
    if operation == "ATOMIC_GROUP":
        return [argument]
    if operation in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        return [argument[2]]
    if operation in ("ASSERT", "ASSERT_NOT"):
        return [argument[1]]
    if operation == "BRANCH":
        return list(argument[1])
    if operation == "GROUPREF_EXISTS":
        return [one for one in argument[1:] if one is not None]
    return []


@cache
def superlinear(pattern: str | bytes, flags: int = 0, method: str = "search") -> str:
    """Return why an expression's time may grow faster than a text, used by that method of `re`; "" where it may not."""
    builder = _Builder(pattern, flags)
    automaton, whole = builder.automaton, builder.whole
    if method == "fullmatch":
        whole = automaton.sequence([whole, automaton.place((END,))])
    begins = -1
    if method in SEARCHING:
        anywhere = automaton.repeated(automaton.place(builder.alphabet))
        whole = automaton.sequence([anywhere, whole])
        begins = anywhere.first[0]
    return _Analysis(automaton, set(whole.last), frozenset(builder.alphabet)).fault(begins)


class _Analysis:
    def __init__(self, automaton: _Automaton, accepting: set[int], alphabet: frozenset[str]) -> None:
        self._automaton = automaton
        self._accepting = accepting
        self._alphabet = alphabet
        places = range(len(automaton.letters))
        self._reach = {place: self._reached(place) for place in places}
        self._safe = self._safe_places()
        self._loops = [place for place in places if place in self._reach[place]]

    def _reached(self, start: int) -> frozenset[int]:
        found: set[int] = set()
        waiting = [start]
        while waiting:
            for place in self._automaton.following[waiting.pop()]:
                if place not in found and self._automaton.letters[place]:
                    found.add(place)
                    waiting.append(place)
        return frozenset(found)

    def fault(self, begins: int) -> str:
        for place in self._loops:
            if place != begins and place not in self._safe and self._has_two_ways(place):
                return f"exponential: {self._shown(place)} comes back to itself in two ways"
        for before, after in product(self._loops, self._loops):
            apart = before not in self._reach[after]
            if apart and after in self._reach[before] and after not in self._safe and self._leads(before, after):
                first = "a search that begins anywhere" if before == begins else self._shown(before)
                return f"a power: {first}, then {self._shown(after)}, take the same text"
        return ""

    def _safe_places(self) -> set[int]:
        """Return the places behind which all texts are taken in the end, so that no other way is tried."""
        if self._automaton.may_fail:
            return set()
        letters, following = self._automaton.letters, self._automaton.following
        safe = set(range(len(letters)))
        while True:
            unsafe = {
                place
                for place in safe - self._accepting
                if not frozenset[str]().union(*(letters[one] for one in following[place] if one in safe))
                >= {*self._alphabet, END}
            }
            if not unsafe:
                return safe
            safe -= unsafe

    def _shown(self, place: int) -> str:
        letters = sorted(self._automaton.letters[place])
        return f"a repetition of {''.join(letters[:12])!r}{'...' if len(letters) > 12 else ''}"

    def _has_two_ways(self, start: int) -> bool:
        """Look for two ways from a place back to itself by one text: pairs of places that the same letters lead to."""
        circle = {place for place in self._reach[start] if start in self._reach[place]}
        if any(
            count > 1 and follower in circle
            for place in circle
            for follower, count in self._automaton.following[place].items()
        ):
            return True
        seen: set[tuple[int, ...]] = {(start, start)}
        waiting: list[tuple[int, ...]] = [(start, start)]
        parted: set[tuple[int, ...]] = set()
        while waiting:
            pair = waiting.pop()
            for following in self._together(pair):
                if set(following) <= circle:
                    if len(set(following)) > 1:
                        parted.add(following)
                    if following not in seen:
                        seen.add(following)
                        waiting.append(following)
        return any(self._gets_to(pair, (start, start)) for pair in parted)

    def _leads(self, before: int, after: int) -> bool:
        """Return whether one text leads from `before` to itself, from there to `after`, and from that to itself."""
        return self._gets_to((before, before, after), (before, after, after))

    def _gets_to(self, start: tuple[int, ...], goal: tuple[int, ...]) -> bool:
        seen = {start}
        waiting = [start]
        while waiting:
            for following in self._together(waiting.pop()):
                if following == goal:
                    return True
                near = all(
                    place == end or end in self._reach[place] for place, end in zip(following, goal, strict=True)
                )
                if near and following not in seen:
                    seen.add(following)
                    waiting.append(following)
        return False

    def _together(self, places: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Yield where one letter leads from several places at once."""
        letters = self._automaton.letters
        for following in product(*(self._automaton.following[place] for place in places)):
            if frozenset.intersection(*(letters[place] for place in following)):
                yield following
