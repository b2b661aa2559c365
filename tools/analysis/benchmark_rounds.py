# Copyright (c) MotionMAE contributors. All rights reserved.
"""Rounds in which everything is measured once, in turn."""

import sys
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar('T')


def in_turn(entrants: Sequence[T], number: int) -> list[T]:
    """The order of a round: who is first in one is last in the next."""
    turn = number % len(entrants)
    return [*entrants[turn:], *entrants[:turn]]


def say(text: str) -> None:
    """Tell how far it is, without getting into the tables."""
    print(text, file=sys.stderr, flush=True)
