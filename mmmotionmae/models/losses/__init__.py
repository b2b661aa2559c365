# Copyright (c) MotionMAE contributors. All rights reserved.
from .gradient_balance import GradientBalance
from .masked_reconstruction_loss import MaskedReconstructionLoss

__all__ = ['GradientBalance', 'MaskedReconstructionLoss']
