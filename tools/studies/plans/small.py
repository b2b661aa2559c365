"""Small setting of the study: which cells there are; see docs/study.

`python tools/study.py THIS_FILE` runs all cells, each a training or test by a
config of configs/study.
"""

configs = dict(
    pretrain='configs/study/motionmae_vit-tiny-p8_1xb64-8x4x1-400e_study.py',
    finetune='configs/study/vit-tiny-p8_scratch_1xb32-8x4x1-12e_study.py',
    vos='configs/study/vit-tiny-p8_label-propagation_davis2017.py',
)

domains = dict(
    g1=dict(
        lists=['g1_motion/pretrain_forward_trainepisodes.txt'],
        held_out=['g1_motion/val_hand.txt'],
    ),
    unlabelled=dict(
        lists=[
            'g1_motion/pretrain_forward_trainepisodes.txt',
            'urfall_unlabelled/all.txt',
            'uti6/other_unlabelled.txt',
        ],
        held_out=['g1_motion/val_hand.txt'],
        arms=['videomae', 'motion', 'motionmae'],
        pretrain_seeds=(0,),
    ),
)
episode = '(ep[0-9]+)'
tasks = dict(
    hand=dict(
        train='g1_motion/train_hand.txt',
        test='g1_motion/val_hand.txt',
        cluster=episode,
        classes=['closing', 'opening', 'static'],
    ),
    arm=dict(
        train='g1_motion/train_arm.txt',
        test='g1_motion/val_arm.txt',
        cluster=episode,
        finetune_seeds=(),
        classes=['left', 'right', 'still'],
    ),
    hand10=dict(
        train='g1_motion/train_hand.txt',
        test='g1_motion/val_hand.txt',
        cluster=episode,
        fraction=0.1,
        finetune_seeds=(),
    ),
    arm10=dict(
        train='g1_motion/train_arm.txt',
        test='g1_motion/val_arm.txt',
        cluster=episode,
        fraction=0.1,
        finetune_seeds=(),
    ),
    weizmann10=dict(
        train='weizmann10/train.txt',
        test='weizmann10/val.txt',
        cluster='/([a-z]+)_[^/]*$',
        leave_one_cluster_out=True,
        finetune_seeds=(),
    ),
    uti6=dict(
        train='uti6/train.txt',
        test='uti6/val.txt',
        cluster='(set[0-9])/[0-9]+_(seq[0-9]+)',
        leave_one_cluster_out=True,
        finetune_seeds=(),
    ),
)
segmentation = dict(davis_tiny='../davis_tiny', davis_multi='../davis_multi')

arms = {
    'scratch': None,
    'videomae': {'model.head.motion_weight': 0.0},
    'motion': {'model.head.pixel_weight': 0.0},
    'motionmae': {},
    'weights-1-4': {'model.head.motion_weight': 4.0},
    'gap-4': {'model.data_preprocessor.frame_difference.gap': 4},
    'gap-4-weights-1-4': {
        'model.data_preprocessor.frame_difference.gap': 4,
        'model.head.motion_weight': 4.0,
    },
}
contrasts = [
    ('videomae', 'scratch'),
    ('motion', 'videomae'),
    ('motionmae', 'videomae'),
    ('motionmae', 'motion'),
    ('weights-1-4', 'videomae'),
    ('weights-1-4', 'motionmae'),
    ('gap-4', 'videomae'),
    ('gap-4', 'motionmae'),
    ('gap-4-weights-1-4', 'videomae'),
    ('gap-4-weights-1-4', 'motionmae'),
    ('gap-4-weights-1-4', 'motion'),
]

pretrain_seeds = (0, 1, 2)
finetune_seeds = (0, 1, 2)
pretrain_steps = 4000
finetune_steps = 400
reconstruct_videos = 512
