"""VideoMAE pre-training of the study: pixels alone.

What `tools/study.py` makes of MotionMAE's config for the arm `videomae`. See
docs/study.

Result: docs/study/README.md.
Hardware and time: one CPU core, 4,000 steps in some 14 minutes.
Command: STUDY_DATA=DIR python tools/train.py THIS_FILE
"""

_base_ = ['./motionmae_vit-tiny-p8_1xb64-8x4x1-400e_study.py']

model = dict(head=dict(motion_weight=0.0))
