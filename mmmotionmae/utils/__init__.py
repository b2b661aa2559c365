# Copyright (c) MotionMAE contributors. All rights reserved.
"""What every other folder may use; it imports none of them."""
