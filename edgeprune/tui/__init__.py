"""The terminal app: a viewer of what jobs wrote, and a way to submit them.

    jobs (daemon or here) --JobEvent--> feed thread --message--> view = reduce(view, message) --> screens --> widgets

`view_state`, `messages`, `reduce`, `sourced`, `draft`, `canvas` and `terminal` import no textual and are tested
without a screen. Screens hold no engine logic: they show records from the run folder and submit `JobRequest`s.
Nothing here computes a figure: each number on screen is read out of a record by its path (`sourced`), and says so.
"""

__all__: list[str] = []
