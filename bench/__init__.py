"""The benchmark: this project, the configuration it starts from on stock dlt, and the floor.

    server ◄── ours, stock, floor (a process each) ◄── contenders (times, checks) ◄── __main__

No part of the installed package. What the figures mean, and how they stand, is in README.md.
"""

RESOURCES = ("account_overview", "agents_overview", "current_queue_activity")
PAGE_SIZE = 100
KEY = "benchmark-key"
