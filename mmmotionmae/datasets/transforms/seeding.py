# Copyright (c) MotionMAE contributors. All rights reserved.

from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from ...utils.errors import UsageTypeError
from ...utils.seeding import seed_generators


@TRANSFORMS.register_module()
class SeedSample(BaseTransform):
    """Seed the random draws of the transforms that follow.

    First in the pipeline, with ``sampler=dict(type='SeededSampler')``. What
    is drawn for a video then depends on seed, epoch and video alone: not on
    the number of workers, nor on whether the run was interrupted. (MMEngine's
    own workers either draw the same numbers in every epoch, or, if
    persistent, start afresh when a run is resumed.)

    Raises:
        UsageTypeError: If the sampler is another one.
    """

    def transform(self, results: dict) -> dict:
        """Seed ``random``, NumPy and torch from ``results['sample_idx']``."""
        seed = getattr(results['sample_idx'], 'seed', None)
        if seed is None:
            raise UsageTypeError(
                "SeedSample needs sampler=dict(type='SeededSampler') in "
                'the data loader; and of wrappers around the data set, '
                "MMEngine's keep the seeds."
            )
        seed_generators(seed)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
