# Copyright (c) MotionMAE contributors. All rights reserved.
from helpers.resumed_runs import train  # noqa: F401  (a fixture)
