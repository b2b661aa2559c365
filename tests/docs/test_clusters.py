# Copyright (c) MotionMAE contributors. All rights reserved.
"""docs/user_guides/clusters.md, the planning of a cluster."""

import cluster_tables


def test_table_is_what_the_command_gives():
    page = cluster_tables.PAGE.read_text()
    assert cluster_tables.with_table(page) == page
    rows = cluster_tables.MARKERS.search(page)[0].splitlines()[2:]
    assert len(rows) == 16
