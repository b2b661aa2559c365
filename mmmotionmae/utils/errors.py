# Copyright (c) MotionMAE contributors. All rights reserved.
"""Errors whose message tells a user what is wrong with what was given."""


class MMMotionMAEError(Exception):
    """Base of all errors of this package; the message is for its user."""


class UsageError(MMMotionMAEError, ValueError):
    """Something the user asked for cannot be done."""


class UsageTypeError(UsageError, TypeError):
    """Something the user gave is of the wrong kind."""


class MissingLibraryError(MMMotionMAEError, ImportError):
    """A library cannot be imported; the message has the way out."""


class SequenceError(MMMotionMAEError, ValueError):
    """A sequence cannot be used; the message has the path and the reason."""


class MaskError(SequenceError):
    """A file is no mask that can be read, or not the mask of its frame."""


class CheckpointError(MMMotionMAEError, RuntimeError):
    """A checkpoint file that cannot, or must not, be loaded."""


class VideoError(MMMotionMAEError, RuntimeError):
    """A video cannot be read; the message is the reason, without the name."""


class VideoTimeoutError(VideoError):
    """Reading a video has taken too long."""


class StorageError(VideoError):
    """The disk or the network fails, not the video."""


class StorageTimeoutError(StorageError, VideoTimeoutError):
    """Reading has taken too long, and most of that was waiting."""


class PipelineError(MMMotionMAEError, RuntimeError):
    """A transform fails whatever the video is: the config is wrong."""


class ScoringError(MMMotionMAEError, RuntimeError):
    """A sequence cannot be scored; the message says which one and why."""


class AnnotationError(MMMotionMAEError, ValueError):
    """A list of videos is not as it should be."""


class TooManyBadVideosError(MMMotionMAEError, RuntimeError):
    """So many videos are bad that something else must be wrong."""


class SharedError(MMMotionMAEError):
    """All processes of a run raise this together, with the same message."""


class NotFiniteError(SharedError, FloatingPointError):
    """Training has come to NaN or infinity."""


PREEMPTED = 85
"""Exit code of a run that was asked to end, and can go on."""


class Preemption(SystemExit):  # noqa: N818  (no error)
    """A run has saved itself and ends because it was asked to."""
