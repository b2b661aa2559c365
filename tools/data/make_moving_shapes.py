# Copyright (c) MotionMAE contributors. All rights reserved.
"""Write the Moving Shapes demo data: videos, lists and DAVIS sequences."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmmotionmae.cli.arguments import seed
from mmmotionmae.utils.choices import DIRECTIONS, MOTIONS


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line (``sys.argv`` by default)."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out_dir', help='folder to make')
    parser.add_argument(
        '--num-pretrain', type=int, default=2000, help='unlabelled videos'
    )
    parser.add_argument(
        '--num-train',
        type=int,
        default=128,
        help='labelled videos for training',
    )
    parser.add_argument(
        '--num-val',
        type=int,
        default=500,
        help='labelled videos for validation',
    )
    parser.add_argument(
        '--size',
        type=int,
        default=32,
        help='side of the videos in pixels, even',
    )
    parser.add_argument(
        '--frames', type=int, default=12, help='frames per video'
    )
    parser.add_argument('--seed', type=seed, default=0)
    parser.add_argument(
        '--level',
        type=int,
        default=0,
        help='difficulty of the labelled videos: 0, flat colours; 1, textures '
        'of one palette; 2, moving camera, clutter, twins of the object; 3, '
        'occlusion, changing light, noise',
    )
    parser.add_argument(
        '--pretrain-levels',
        type=int,
        nargs='+',
        default=[0],
        metavar='LEVEL',
        help='of the unlabelled videos, by turns',
    )
    parser.add_argument(
        '--davis-level', type=int, default=0, help='of the DAVIS sequences'
    )
    parser.add_argument(
        '--motions',
        nargs='+',
        default=DIRECTIONS,
        metavar='MOTION',
        help=f'classes, out of: {", ".join(MOTIONS)}',
    )
    parser.add_argument(
        '--num-davis',
        type=int,
        default=6,
        help='sequences in the DAVIS 2017 layout',
    )
    parser.add_argument(
        '--davis-size',
        type=int,
        default=128,
        help='side of the DAVIS frames in pixels',
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

from mmmotionmae.datasets.moving_shapes import write_dataset


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    try:
        written = write_dataset(
            args.out_dir,
            args.num_pretrain,
            args.num_train,
            args.num_val,
            motions=args.motions,
            num_frames=args.frames,
            size=args.size,
            seed=args.seed,
            level=args.level,
            pretrain_levels=args.pretrain_levels,
            davis_level=args.davis_level,
            num_davis=args.num_davis,
            davis_size=args.davis_size,
        )
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'{"wrote" if written else "already complete:"} {args.out_dir}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
