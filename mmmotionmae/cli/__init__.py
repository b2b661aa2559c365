# Copyright (c) MotionMAE contributors. All rights reserved.
"""What the tools call: arguments, options, errors in one line."""
