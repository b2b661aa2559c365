"""MotionMAE pre-training of ViT-B on any folder of videos, 800 epochs.

Expected result: depends on the videos.
Hardware: 8 GPUs x 16 videos x 4 clips of each = 512 clips a step. With others
use --auto-scale-lr.
Time: see tools/analysis/describe.py, whose --videos is the number of yours.
Command:
    VIDEOS=DIR bash tools/dist_train.sh configs/motionmae/THIS_FILE 8

The recipe is that of Kinetics-400, with a quarter of its batch size. Few
videos need many epochs: VideoMAE takes 3200 for the 9,537 of UCF101, at 75 %
masking and twice the base learning rate.
"""

_base_ = ['./motionmae_vit-base-p16_32xb64-16x4x1-amp-800e_kinetics400-rgb.py']

data_root = '{{$VIDEOS:data/videos}}'
batch_size = 512
train_dataloader = dict(
    dataset=dict(ann_file='', data_prefix=dict(video=data_root))
)
optim_wrapper = dict(optimizer=dict(lr=_base_.base_lr * batch_size / 256))
auto_scale_lr = dict(base_batch_size=batch_size)
