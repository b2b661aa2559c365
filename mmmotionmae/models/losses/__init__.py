# Copyright (c) MotionMAE contributors. All rights reserved.
from .masked_reconstruction_loss import MaskedReconstructionLoss

__all__ = ['MaskedReconstructionLoss']
