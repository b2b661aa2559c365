# Copyright (c) MotionMAE contributors. All rights reserved.


class SequenceError(ValueError):
    """A sequence cannot be used; the message has the path and the reason."""


class MaskError(SequenceError):
    """A file is no mask that can be read, or not the mask of its frame."""
