# Copyright (c) MotionMAE contributors. All rights reserved.
"""What several test files use."""
