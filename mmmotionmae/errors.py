# Copyright (c) MotionMAE contributors. All rights reserved.
class UsageError(ValueError):
    """Something the user asked for cannot be done."""
