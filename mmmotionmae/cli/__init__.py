# Copyright (c) MotionMAE contributors. All rights reserved.
"""Insides of the tools: arguments, options, errors in one line."""
