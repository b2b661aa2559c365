# Copyright (c) MotionMAE contributors. All rights reserved.
"""Values that arguments of tools may have.

They are kept apart from what works with them, which imports PyTorch: whoever
asks a tool for help does not wait for that.
"""

MAX_SEED = 2**32 - 1  # of NumPy

# Units of start and end in a list of videos.
UNITS = ('frames', 'seconds')

# Of moving shapes. Clockwise from the right in steps of 45 degrees.
DIRECTIONS = (
    'right',
    'down-right',
    'down',
    'down-left',
    'left',
    'up-left',
    'up',
    'up-right',
)
MOTIONS = DIRECTIONS + ('rotate-cw', 'rotate-ccw', 'approach', 'recede')

# Names of ``datasets.readers.READERS`` and ``checkpoints.FORMATS``.
DECODERS = ('pyav', 'decord', 'opencv')
FORMAT_NAMES = ('mmaction', 'videomae', 'huggingface', 'mae_st')

# Whose mean and deviation undo a target's normalisation.
STATISTICS = ('true', 'visible')

# Of features: what is averaged, what becomes of views, types of files.
POOLINGS = ('mean', 'space', 'time', 'none')
VIEWS = ('mean', 'all')
FEATURE_TYPES = ('float32', 'float16')

# Of their evaluation.
METHODS = ('knn', 'linear')
NEIGHBOURS = (10, 20, 100, 200)  # DINO's
STRENGTHS = tuple(10.0**exponent for exponent in range(-5, 3))

# Of pictures of attention: through all blocks, or of the last one.
ATTENTION_KINDS = ('rollout', 'last')

# Masks of the inferencer, and what they are registered as.
MASKS = dict(tube='TubeMasking', random='RandomMasking', frame='FrameMasking')
# MMAction2's words, and ends of the names of files.
OUT_TYPES = dict(
    img='.png',
    video='.mp4',
    gif='.gif',
    still='_still.png',
    webp='_still.webp',
)

# Outputs of exported models.
OUTPUTS = dict(
    scores='(B, K), the softmax of the logits',
    logits='(B, K), what the classifier says',
    pooled='(B, D), the mean of all tokens',
    tokens='(B, L, D), every token, in (t, h, w) order',
)
OF_CLASSIFIER = ('scores', 'logits')
# Names of types, and how far an output may be off, of its largest value.
EXPORT_TYPES = dict(float32=1e-4, float16=1e-2)
# Newer ones hold nothing that these networks need. 20 is the first that has
# GELU; 23 the first that has attention.
OPSETS = (18, 19, 20, 21, 22, 23)
DEFAULT_OPSET = 20
