"""The screens, one a file.

To add one:

1. `screens/<name>.py` with a class `<Name>Screen(EdgeScreen)`; give it `name_of_screen`, `title_text`, `help_text`, its
   own `BINDINGS` (few: they are the footer), `body()` that yields widgets, and `draw(view)` that hands them their part
   of the view. `device.py` is the example to read.
2. Add the name to `SCREEN_NAMES` in `widgets/nav_bar.py`: navigation, palette and number key follow from it.
3. Figures come from records: `source(view, "front").take("chosen.cost.disk_bytes", "bytes")` gives a `Sourced`, which
   `Figure`, `FigureList`, `FigureTable` and `Bars` draw; `i` and tooltips then tell record and field. Never write a
   number into a text yourself, and never compute one.
4. Work is a job: `self.app_.submit(ValidateJob(...))`; a result that is no file of the run folder comes by
   `self.app_.feed.fetch(request, Record, arrived)`. Nothing may wait on the event loop.
5. What the user does becomes a message (`messages.py`) that `reduce` turns into the next view; a screen keeps no state
   but the cursor's.
6. Below a width of 120 the screen has the class `-narrow` (hide with `.wide-only`), above it `-wide`. It must be
   readable at 80x24: nothing clipped, an empty state that says which key to press next.
7. Snapshots: add it to `SCREENS` in `tests/tui/test_snapshots.py` and run it once with `EDGEPRUNE_SNAPSHOTS=write`.
"""

__all__: list[str] = []
