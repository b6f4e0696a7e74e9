from msgspec.structs import replace

from edgeprune.schema.device import Floor
from edgeprune.schema.measurement import MemoryStage
from edgeprune.validate.latency import decode_lengths, lowest_median_s
from edgeprune.validate.memory import StageRecorder, largest, model_memory_bytes, peak_bytes


def stage(name: str, peak: int) -> MemoryStage:
    return MemoryStage(stage=name, peak_rss_bytes=peak, rss_bytes=None, anonymous_bytes=None)


def test_the_process_with_the_largest_peak_is_shown_whole() -> None:
    first, second = (stage("load", 5), stage("decode", 6)), (stage("load", 4), stage("decode", 9))
    assert largest([first, second, ()]) == second
    assert peak_bytes(second) == 9


def test_what_was_not_measured_is_none() -> None:
    assert largest([]) == ()
    assert peak_bytes([]) is None
    floor = Floor(peak_rss_bytes=2, anonymous_bytes=None)
    assert model_memory_bytes([], floor) is None
    assert model_memory_bytes([stage("load", 5)], None) is None
    assert model_memory_bytes([stage("load", 5)], floor) == 3
    assert lowest_median_s([]) is None


def test_what_an_accelerator_holds_is_added() -> None:
    stages = [stage("load", 5), replace(stage("decode", 6), device_bytes=100)]
    assert model_memory_bytes(stages, Floor(peak_rss_bytes=2, anonymous_bytes=None)) == 104


def test_stages_are_noted_in_order_and_peaks_never_fall() -> None:
    recorder = StageRecorder()
    recorder.end("load")
    block = bytearray(30_000_000)
    recorder.end("prefill")
    del block
    recorder.end("decode")
    peaks = [noted.peak_rss_bytes for noted in recorder.stages]
    assert [noted.stage for noted in recorder.stages] == ["load", "prefill", "decode"]
    assert peaks[2] >= peaks[1] - 4_000_000


def test_decoded_tokens_end_at_the_context() -> None:
    assert decode_lengths(512, 64) == (448, 64)
    assert decode_lengths(80, 64) == (16, 64)
    assert decode_lengths(64, 64) == (32, 32)
    assert decode_lengths(2, 64) == (1, 1)
