"""Time of one site on a device, from the kernel times measured there.

Takes the profile's `KernelTime` grid; gives seconds for any shape, rows and rank:

0. no product takes longer than one that contains it (more rows, inputs and outputs), nor longer with its weights in
   cache than without: other programs only ever add time, so the smaller figure is the sound one;
1. a measured point is used as it is;
2. otherwise the time is interpolated in log space over in * out, between the points of nearest aspect, made
   monotone the same way; beyond the grid the time is fixed cost + rate * weights;
3. two factors, and the two parts of a pivot form, are the sum of two dense multiplications, corrected by what the
   measured two-factor points say about that sum (the second factor's activations are still in cache; the correction is
   about 0.8 to 1.1);
4. weights that stream from memory add to one row's cached time what measured streaming points add to theirs, for each
   matrix a power of its weights between the points next to it: longer rows are fetched ahead of their use (4 bits, one
   core: 4.6, 9.2 and 46 us for 256 x 256, x 704 and x 8,192, a power of 2/3); with more rows they take the longer of
   the cached time and of reading them at the rate of the nearest streaming point; a kernel that was timed with cached
   weights alone adds what the one likest it adds, of as many bits a weight and a block near in size, or a kernel would
   be quick for not being measured;
5. rows between the measured ones are interpolated in log space.

A kernel the device never timed has no time: None.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from msgspec.structs import replace

from edgeprune.predict.interval import Interval, spread
from edgeprune.schema.device import KernelTime
from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.model import SiteForm
from edgeprune.shapes import stored_matrices

__all__ = ["KernelTable"]

MEASURED_SPREAD = 0.08
"""Two runs of the profile agree within about 8 % on a quiet machine."""
INTERPOLATED_SPREAD = 0.2
LEAST_POWER = 0.5
"""Of the weights in what streaming adds."""
SAME_WEIGHTS_TOLERANCE = 0.02
"""Shapes whose in * out differ less than this are one size with several aspects."""

_Curve = list[tuple[float, float]]


class _Point(NamedTuple):
    """A measured dense product."""

    weights: int
    aspect: float
    """Logarithm of in / out."""
    in_features: int
    time_s: float


class KernelTable:
    """Measured kernel times, ready to be asked for any shape."""

    def __init__(self, times: Sequence[KernelTime]) -> None:
        """Index the points by kernel, cache state and rows."""
        self._dense: dict[tuple[str, bool], dict[int, list[KernelTime]]] = defaultdict(lambda: defaultdict(list))
        self._exact: dict[tuple[str, bool, int, int, int, int | None], float] = {}
        self._factored: dict[tuple[str, bool], list[KernelTime]] = defaultdict(list)
        self._memory: dict[tuple[str, bool, int, int, int, int | None, SiteForm], Interval] = {}
        for point in _without_interference(times):
            place = (point.kernel, point.is_cached)
            key = (*place, point.rows, point.in_features, point.out_features, point.rank)
            self._exact[key] = point.time_s
            if point.rank is None:
                self._dense[place][point.rows].append(point)
            else:
                self._factored[place].append(point)
        self.kernels = frozenset(kernel for kernel, _ in self._dense)
        self._times: dict[tuple[tuple[str, bool], int, int, int], float] = {}
        self._ratios: dict[tuple[tuple[str, bool], int], _Curve] = {}
        self._readings: dict[str, _Curve] = {}
        self._likest: dict[str, str | None] = {}
        self._sizes: dict[tuple[tuple[str, bool], int], list[list[_Point]]] = {}

    def has_streaming(self, kernel: str) -> bool:
        """Whether this kernel, or one of as many bits, was timed with its weights read from memory."""
        return self._streamed(kernel) is not None

    def _streamed(self, kernel: str) -> str | None:
        """The kernel that tells what this one's weights add when they stream."""
        if kernel not in self._likest:
            self._likest[kernel] = kernel if (kernel, False) in self._dense else self._find_likest(kernel)
        return self._likest[kernel]

    def _find_likest(self, kernel: str) -> str | None:
        of = parse_kernel(kernel)
        # 16-bit floats are widened while a session loads; what is read for a token has 32 bits.
        wanted = (of.kind, 32 if of.kind == "float" else of.bits)
        alike = [
            (abs(math.log((found.block_size or 1) / (of.block_size or 1))), found.block_size or 1, name)
            for name, is_cached in self._dense
            if not is_cached and ((found := parse_kernel(name)).kind, found.bits) == wanted
        ]
        return min(alike)[2] if alike else None

    def time_s(
        self,
        kernel: str,
        *,
        rows: int,
        in_features: int,
        out_features: int,
        rank: int | None,
        is_cached: bool,
        form: SiteForm = "factors",
    ) -> Interval | None:
        """Seconds of one site's products; None when the device never timed this kernel."""
        if (kernel, is_cached) not in self._dense:
            if (kernel, not is_cached) not in self._dense:
                return None
            if is_cached or self._streamed(kernel) is None:
                is_cached = not is_cached
        key = (kernel, is_cached, rows, in_features, out_features, rank, "factors" if rank is None else form)
        if key not in self._memory:
            self._memory[key] = self._lookup(*key)
        return self._memory[key]

    def _lookup(
        self,
        kernel: str,
        is_cached: bool,
        rows: int,
        in_features: int,
        out_features: int,
        rank: int | None,
        form: SiteForm,
    ) -> Interval:
        exact = self._exact.get((kernel, is_cached, rows, in_features, out_features, rank))
        if exact is not None and form == "factors":
            return spread(exact, MEASURED_SPREAD)
        if not is_cached and (kernel, True) in self._dense:
            return self._streaming(kernel, rows, in_features, out_features, rank, form)
        place = (kernel, is_cached)
        if rank is None:
            return spread(self._dense_s(place, rows, in_features, out_features), INTERPOLATED_SPREAD)
        parts = stored_matrices(in_features, out_features, rank, form)
        return spread(self._two_part_s(place, rows, parts), INTERPOLATED_SPREAD)

    def _streaming(
        self, kernel: str, rows: int, in_features: int, out_features: int, rank: int | None, form: SiteForm
    ) -> Interval:
        """The time with cached weights, and what reading them from memory adds."""
        cached = self.time_s(
            kernel, rows=rows, in_features=in_features, out_features=out_features, rank=rank, is_cached=True, form=form
        )
        assert cached is not None  # the caller has looked
        parts = stored_matrices(in_features, out_features, rank, form)
        weights = sum(width * height for width, height in parts)
        streamed = self._streamed(kernel)
        assert streamed is not None  # the caller has looked
        single = self._dense[streamed, False].get(1)
        if not single:
            return cached
        if rows == 1:
            reading = self._reading(streamed)
            added_s = sum(_power(reading, float(width * height)) for width, height in parts)
            return spread(cached.value + added_s, INTERPOLATED_SPREAD)
        nearest = min(single, key=lambda point: (abs(math.log(_weights(point) / weights)), point.in_features))
        reading_s = nearest.time_s * weights / _weights(nearest)
        return cached if cached.value >= reading_s else spread(reading_s, INTERPOLATED_SPREAD)

    def _reading(self, kernel: str) -> _Curve:
        """Weights of a matrix and the seconds that streaming them adds to one row's product, by measured points."""
        if kernel not in self._readings:
            added = []
            for point in self._dense[kernel, False][1]:
                cached_s = self._dense_s((kernel, True), 1, point.in_features, point.out_features)
                added.append((float(_weights(point)), max(0.0, point.time_s - cached_s)))
            self._readings[kernel] = _merge(added)
        return self._readings[kernel]

    def _two_part_s(self, place: tuple[str, bool], rows: int, parts: tuple[tuple[int, int], ...]) -> float:
        both = sum(self._dense_s(place, rows, width, height) for width, height in parts)
        return both * self._correction(place, rows, sum(width * height for width, height in parts))

    def _correction(self, place: tuple[str, bool], rows: int, weights: int) -> float:
        """Measured two-factor time / sum of two dense ones, at the measured points nearest in rows and size."""
        points = self._factored.get(place)
        if not points:
            return 1.0
        nearest_rows = min({point.rows for point in points}, key=lambda other: (abs(math.log(other / rows)), other))
        if (place, nearest_rows) not in self._ratios:
            self._ratios[place, nearest_rows] = self._measured_ratios(place, points, nearest_rows)
        # Beyond the measured sizes the nearest ratio stands: a ratio has no slope worth extrapolating.
        return _interpolate_log(self._ratios[place, nearest_rows], float(weights))

    def _measured_ratios(self, place: tuple[str, bool], points: Sequence[KernelTime], rows: int) -> _Curve:
        """Weights and ratio of each measured point with so many rows."""
        ratios: _Curve = []
        for point in points:
            if point.rows != rows or point.rank is None:
                continue
            parts = self._dense_s(place, point.rows, point.in_features, point.rank)
            parts += self._dense_s(place, point.rows, point.rank, point.out_features)
            ratios.append((float(point.rank * (point.in_features + point.out_features)), point.time_s / parts))
        ratios.sort()
        return _merge(ratios)

    def _dense_s(self, place: tuple[str, bool], rows: int, in_features: int, out_features: int) -> float:
        key = (place, rows, in_features, out_features)
        if key not in self._times:
            self._times[key] = self._read_dense_s(*key)
        return self._times[key]

    def _read_dense_s(self, place: tuple[str, bool], rows: int, in_features: int, out_features: int) -> float:
        exact = self._exact.get((*place, rows, in_features, out_features, None))
        if exact is not None:
            return exact
        by_rows = self._dense[place]
        if rows in by_rows:
            return _time_of_size(self._by_size(place, rows), in_features, out_features)
        curve = [
            (float(known), _time_of_size(self._by_size(place, known), in_features, out_features))
            for known in sorted(by_rows)
        ]
        if rows > curve[-1][0]:
            return curve[-1][1] * rows / curve[-1][0]
        return _interpolate_log(curve, float(rows))

    def _by_size(self, place: tuple[str, bool], rows: int) -> list[list[_Point]]:
        if (place, rows) not in self._sizes:
            self._sizes[place, rows] = _grouped(self._dense[place][rows])
        return self._sizes[place, rows]


def _without_interference(times: Sequence[KernelTime]) -> list[KernelTime]:
    """The same points, none slower than a point that contains it."""
    by_kernel: dict[tuple[str, bool], list[KernelTime]] = defaultdict(list)
    for point in times:
        by_kernel[point.kernel, point.rank is None].append(point)
    return [
        replace(point, time_s=min(other.time_s for other in points if _contains(other, point)))
        for points in by_kernel.values()
        for point in points
    ]


def _contains(large: KernelTime, small: KernelTime) -> bool:
    return (
        large.rows >= small.rows
        and large.in_features >= small.in_features
        and large.out_features >= small.out_features
        and (large.rank or 0) >= (small.rank or 0)
        and large.is_cached <= small.is_cached
    )


def _grouped(points: Sequence[KernelTime]) -> list[list[_Point]]:
    """Points of one size each, the smallest first."""
    groups: list[list[_Point]] = []
    for point in sorted(points, key=_weights):
        aspect = math.log(point.in_features / point.out_features)
        entry = _Point(_weights(point), aspect, point.in_features, point.time_s)
        if groups and entry.weights <= groups[-1][0].weights * (1.0 + SAME_WEIGHTS_TOLERANCE):
            groups[-1].append(entry)
        else:
            groups.append([entry])
    return groups


def _time_of_size(groups: Sequence[Sequence[_Point]], in_features: int, out_features: int) -> float:
    """Monotone piecewise log-log interpolation over in * out, choosing the nearest aspect at each size."""
    aspect = math.log(in_features / out_features)
    curve: _Curve = []
    for group in groups:
        nearest = group[0]
        if len(group) > 1:
            nearest = min(group, key=lambda point: (abs(point.aspect - aspect), point.in_features))
        curve.append((float(nearest.weights), nearest.time_s))
    for index in range(len(curve) - 2, -1, -1):
        curve[index] = (curve[index][0], min(curve[index][1], curve[index + 1][1]))
    weights = float(in_features * out_features)
    if len(curve) == 1 or curve[0][0] <= weights <= curve[-1][0]:
        return _interpolate_log(curve, weights) if len(curve) > 1 else curve[0][1] * max(weights / curve[0][0], 0.25)
    if weights < curve[0][0]:
        return _extrapolate(curve[0], curve[1], weights)
    return _extrapolate(curve[-1], curve[-2], weights)


def _extrapolate(end: tuple[float, float], inner: tuple[float, float], x: float) -> float:
    """Fixed cost + rate * x through the last point and the one before; proportional where that has no fixed cost."""
    rate = (inner[1] - end[1]) / (inner[0] - end[0])
    fixed = end[1] - rate * end[0]
    return fixed + rate * x if fixed >= 0.0 else end[1] * x / end[0]


def _interpolate_log(curve: _Curve, x: float) -> float:
    if x <= curve[0][0]:
        return curve[0][1]
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x <= x1:
            share = math.log(x / x0) / math.log(x1 / x0)
            return math.exp(math.log(y0) * (1.0 - share) + math.log(y1) * share)
    return curve[-1][1]


def _power(curve: _Curve, x: float) -> float:
    """A power of x through the two points next to it, of at least the least power and at most one."""
    if len(curve) == 1:
        return curve[0][1] * x / curve[0][0]
    at = min(max(1, sum(known < x for known, _ in curve)), len(curve) - 1)
    (x0, y0), (x1, y1) = curve[at - 1], curve[at]
    power = math.log(y1 / y0) / math.log(x1 / x0) if 0.0 < y0 < y1 else 1.0
    power = min(1.0, max(LEAST_POWER, power))
    # From the nearer point, where the power was held within its bounds and goes through one of them alone.
    near_x, near_y = (x0, y0) if abs(math.log(x / x0)) < abs(math.log(x1 / x)) else (x1, y1)
    return float(near_y * (x / near_x) ** power)


def _merge(points: _Curve) -> _Curve:
    """Mean of the points at equal x, so that the curve has one value for each."""
    sums: dict[float, list[float]] = defaultdict(list)
    for x, y in points:
        sums[x].append(y)
    return [(x, sum(ys) / len(ys)) for x, ys in sorted(sums.items())]


def _weights(point: KernelTime) -> int:
    return point.in_features * point.out_features
