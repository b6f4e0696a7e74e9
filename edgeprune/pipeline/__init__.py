"""The order of the stages, and the only place that calls more than one of them.

`table` runs stages and remembers which are finished, `stages` is the table itself, `journal` writes events,
`host` predicts what the work needs on this machine, `request` completes what the user left open.
"""
