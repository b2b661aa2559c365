# Copyright (c) MotionMAE contributors. All rights reserved.
"""Files, records, processes, errors, seeds: for every other folder."""
