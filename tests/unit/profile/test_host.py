"""The processor as three systems describe it."""

from pathlib import Path

from edgeprune.profile.host import (
    count_physical_cores,
    last_level_cache_bytes,
    read_caches,
    read_cpu,
    read_instruction_sets,
    read_model,
)
from edgeprune.schema.device import CacheInfo

SAPPHIRE_RAPIDS = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8481C
flags\t\t: fpu sse2 avx avx2 avx512f avx512_vnni amx_bf16 amx_tile amx_int8
"""
N100 = """processor\t: 0
model name\t: Intel(R) N100
flags\t\t: fpu sse2 avx avx2 avx_vnni
"""
RASPBERRY_PI_5 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b

Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""


def test_instruction_sets_of_x86_and_arm() -> None:
    assert read_instruction_sets(SAPPHIRE_RAPIDS) == ("avx2", "avx512", "amx", "vnni")
    assert read_instruction_sets(N100) == ("avx2", "vnni")
    assert read_instruction_sets(RASPBERRY_PI_5) == ("neon", "dotprod")
    assert read_instruction_sets("Features : asimd asimddp i8mm\n") == ("neon", "dotprod", "i8mm")
    assert read_instruction_sets("") == ()


def test_only_what_every_core_has_counts() -> None:
    assert read_instruction_sets("Features : asimd asimddp\n\nFeatures : asimd\n") == ("neon",)


def test_model_is_the_processor_and_not_the_board() -> None:
    assert read_model(SAPPHIRE_RAPIDS) == "Intel(R) Xeon(R) Platinum 8481C"
    assert read_model(RASPBERRY_PI_5) == "Arm Cortex-A76"
    assert read_model("Model : Some Board\n") == "Some Board"
    assert read_model("processor : 0\n") is None


def write_cache(cpus: Path, cpu: int, index: int, **files: str) -> None:
    folder = cpus / f"cpu{cpu}" / "cache" / f"index{index}"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text + "\n")


def test_a_shared_cache_is_counted_once(tmp_path: Path) -> None:
    for cpu in range(4):
        write_cache(tmp_path, cpu, 0, level="1", type="Data", size="64K", shared_cpu_list=str(cpu))
        write_cache(tmp_path, cpu, 1, level="1", type="Instruction", size="64K", shared_cpu_list=str(cpu))
        write_cache(tmp_path, cpu, 3, level="3", type="Unified", size="2M", shared_cpu_list="0-3")
    assert read_caches(tmp_path) == (
        CacheInfo(level=1, kind="data", size_bytes=64 << 10, instance_count=4),
        CacheInfo(level=1, kind="instruction", size_bytes=64 << 10, instance_count=4),
        CacheInfo(level=3, kind="unified", size_bytes=2 << 20, instance_count=1),
    )


def test_nonsense_caches_are_left_out(tmp_path: Path) -> None:
    write_cache(tmp_path, 0, 0, level="1", type="Data", size="0K", shared_cpu_list="0")
    write_cache(tmp_path, 0, 1, level="x", type="Data", size="64K", shared_cpu_list="0")
    assert read_caches(tmp_path) == ()
    assert last_level_cache_bytes(()) is None


def test_last_level_sums_its_instances() -> None:
    caches = (
        CacheInfo(level=2, kind="unified", size_bytes=1 << 20, instance_count=4),
        CacheInfo(level=3, kind="unified", size_bytes=2 << 20, instance_count=2),
        CacheInfo(level=4, kind="instruction", size_bytes=9 << 20, instance_count=1),
    )
    assert last_level_cache_bytes(caches) == 4 << 20


def test_this_machine_has_at_least_a_core() -> None:
    cpu = read_cpu()
    assert cpu.usable_core_count is not None
    assert 1 <= cpu.usable_core_count <= (cpu.logical_core_count or 1)


def test_two_threads_of_a_core_are_one_core(tmp_path: Path) -> None:
    for cpu, (package, core) in enumerate([("0", "0"), ("0", "1"), ("0", "0"), ("1", "0")]):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text(package)
        (folder / "core_id").write_text(core)
    assert count_physical_cores(tmp_path) == 3
    assert count_physical_cores(tmp_path / "none") is None
