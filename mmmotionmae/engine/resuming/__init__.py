# Copyright (c) MotionMAE contributors. All rights reserved.
"""Parts of hooks and loops that let a run go on where it was."""
