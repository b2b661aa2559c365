# Copyright (c) MotionMAE contributors. All rights reserved.
"""Registries that import what they are asked for."""

from functools import wraps

import mmengine.registry
from mmengine.registry import Registry

from ..utils.patching import once

# Where MMEngine registers; its own registries are not told.
_LOCATIONS = {
    'mmengine._strategy': ('STRATEGIES',),
    'mmengine.dataset': ('DATASETS', 'DATA_SAMPLERS', 'FUNCTIONS'),
    'mmengine.evaluator': ('EVALUATOR', 'METRICS'),
    'mmengine.hooks': ('HOOKS',),
    'mmengine.model': ('MODELS', 'MODEL_WRAPPERS', 'WEIGHT_INITIALIZERS'),
    'mmengine.optim': (
        'OPTIMIZERS',
        'OPTIM_WRAPPERS',
        'OPTIM_WRAPPER_CONSTRUCTORS',
        'PARAM_SCHEDULERS',
    ),
    'mmengine.runner': ('LOG_PROCESSORS', 'LOOPS', 'RUNNERS'),
    'mmengine.visualization': ('VISBACKENDS', 'VISUALIZERS'),
}


@once
def look_where_modules_are() -> None:
    """A registry does not find what nobody has imported yet.

    MMEngine's own registries are not told where their classes are, and one
    that looks into its parents does not import theirs.

    Remove when: ``Registry.get`` imports the locations of parents, and the
    registries of MMEngine have some.
    """
    for location, names in _LOCATIONS.items():
        for name in names:
            # All of them have the same list.
            registry = getattr(mmengine.registry, name)
            registry._locations = [*registry._locations, location]
            registry._imported = False
    original = Registry.import_from_location

    @wraps(original)
    def import_from_locations(self: Registry) -> None:
        registry: Registry | None = self
        while registry is not None:
            original(registry)
            registry = registry.parent

    Registry.import_from_location = import_from_locations
