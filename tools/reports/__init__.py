# Copyright (c) MotionMAE contributors. All rights reserved.
