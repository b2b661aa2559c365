# Copyright (c) MotionMAE contributors. All rights reserved.
"""Parts of tools/study.py."""
