# Copyright (c) MotionMAE contributors. All rights reserved.
"""Tasks of video object segmentation timed in turn, and tables of them."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from benchmark_clock import Clock, milliseconds, now, synchronize
from benchmark_figures import quartiles, spread, table
from benchmark_rounds import in_turn, say
from model_report import MB
from vos_tasks import Task

NOTES = (
    'All take turns in one run. ms: median and quartiles over the rounds. x: '
    'times as fast; medians and quartiles of the ratios within a round.'
)


@dataclass
class Measured:
    """The times of a task.

    Attributes:
        task: What was done.
        rounds: For each contender its rounds, milliseconds of a step.
    """

    task: Task
    rounds: dict[str, list[float]]

    def rows(self) -> list[dict[str, Any]]:
        """The figures of each contender."""
        return [self._row(name) for name in self.rounds]

    def _row(self, name: str) -> dict[str, Any]:
        task, own = self.task, np.array(self.rounds[name])
        ms = quartiles(own / task.count)
        row: dict[str, Any] = dict(name=name, ms=ms, per_second=1e3 / ms[1])
        if task.reference in self.rounds:
            other = np.array(self.rounds[task.reference])
            row['ratio'] = quartiles(other / own)
        if name in task.memory:
            row['memory'] = task.memory[name].as_dict()
        return row

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        return dict(
            title=self.task.title,
            unit=self.task.unit,
            count=self.task.count,
            reference=self.task.reference,
            rows=self.rows(),
            rounds=self.rounds,
            **self.task.facts,
        )

    def markdown(self) -> str:
        """A table, with what else was found."""
        task, rows = self.task, self.rows()
        head = ['', f'ms/{task.unit}', f'{task.unit}s/s']
        has_ratio = 'ratio' in rows[0]
        if has_ratio:
            head.append(f'x {task.reference}')
        kinds = [
            (kind, title)
            for kind, title in (
                ('tensors', 'memory, MB'),
                ('resident', 'resident memory, MB'),
            )
            if any(row.get('memory', {}).get(kind) for row in rows)
        ]
        head += [title for _, title in kinds]
        body = []
        for row in rows:
            cells = [row['name'], spread(row['ms'])]
            cells.append(f'{row["per_second"]:.2f}')
            if has_ratio:
                cells.append(spread(row['ratio']))
            for kind, _ in kinds:
                size = row.get('memory', {}).get(kind)
                cells.append('' if size is None else f'{size / MB:.0f}')
            body.append(cells)
        parts = [f'**{task.title}**', table(head, body)]
        return '\n\n'.join([*parts, *_sentences(task)])


def _sentences(task: Task) -> list[str]:
    """What else was found, in words."""
    facts, found = task.facts, []
    if 'equal_pixels' in facts:
        found.append(
            f'{facts["equal_pixels"]:.4%} of the pixels of the masks are '
            f'equal, {facts["least_in_a_frame"]:.4%} in the worst of '
            f'{facts["compared_frames"]} frames.'
        )
    if 'neighborhood_seconds' in facts:
        found.append(
            "DINO's loop over the neighbourhood takes "
            f'{facts["neighborhood_seconds"]:.1f} s for each sequence; it is '
            'in none of the times.'
        )
    if 'largest_difference' in facts:
        found.append(
            'The largest difference of a score is '
            f'{facts["largest_difference"]:.1g}; the mean J is '
            f'{facts["mean_j"]:.3f}, the mean F {facts["mean_f"]:.3f}.'
        )
    if task.memory:
        found.append(
            'Memory: what a step adds at its peak to the weights, in a '
            'process of its own.'
        )
    return [' '.join(found)] if found else []


def time_in_turn(
    task: Task, num_rounds: int, clock: Clock = time.perf_counter
) -> Measured:
    """Let contenders take steps in turn.

    Args:
        task: In each round each contender takes one step.
        num_rounds: Rounds that count; there is one more to warm up.
        clock: Tells the time where there is no GPU.
    """
    say(task.title)
    rounds: dict[str, list[float]] = {name: [] for name in task.steps}
    for number in range(-1, num_rounds):
        say('warming up' if number < 0 else f'round {number + 1}')
        for name in in_turn(list(task.steps), number):
            synchronize(task.device)
            start = now(task.device, clock)
            task.steps[name]()
            end = now(task.device, clock)
            synchronize(task.device)
            if number >= 0:
                rounds[name].append(milliseconds(start, end))
    return Measured(task, rounds)
