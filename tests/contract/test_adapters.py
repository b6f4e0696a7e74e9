"""Every adapter under the contract, on every type of model it reads."""

from pathlib import Path

from tests.contract.adapter_contract import AdapterContract
from tests.tiny import write_tiny_gpt2, write_tiny_llama
from tests.tiny_families import write_tiny


class TestLlama(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny_llama(folder)


class TestLlamaUntiedBiased(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny_llama(
            folder, tie_word_embeddings=False, attention_bias=True, mlp_bias=True, dtype="bfloat16", shard_count=2
        )


class TestLlamaRopeScaling(AdapterContract):
    def write(self, folder: Path) -> Path:
        scaling = {
            "factor": 8.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 64,
            "rope_theta": 500000.0,
            "rope_type": "llama3",
        }
        return write_tiny_llama(folder, rope_parameters=scaling)


class TestMistralSlidingWindow(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny_llama(folder, model_type="mistral", sliding_window=6, head_dim=32)


class TestQwen2(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny_llama(folder, model_type="qwen2")


class TestQwen3(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny_llama(folder, model_type="qwen3", head_dim=32)


class TestGPT2(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny_gpt2(folder)


class TestGPT2Untied(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny_gpt2(folder, tie_word_embeddings=False, prefix="", n_inner=96, dtype="float16")


class TestSmolLM3(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny(folder, "smollm3")


class TestSmolLM3Windows(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny(folder, "smollm3, untied, biased, windows", dtype="bfloat16")


class TestGemma(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny(folder, "gemma")


class TestGemmaUntied(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny(folder, "gemma, untied, biased")


class TestPhi3(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny(folder, "phi3, part of a head, window")


class TestPhi3Longrope(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny(folder, "phi3, tied, longrope", dtype="bfloat16")


class TestGPTNeoX(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny(folder, "gpt_neox")


class TestGPTNeoXInARow(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny(folder, "gpt_neox, tied, in a row, few rotated", dtype="bfloat16")


class TestOPT(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny(folder, "opt")


class TestOPTUntied(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny(folder, "opt, untied, no biases", dtype="bfloat16")


class TestGemma3(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny(folder, "gemma3")


class TestGemma3Untied(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny(folder, "gemma3, untied, biased, scaled positions", dtype="bfloat16")


class TestGemma2(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny(folder, "gemma2")


class TestGemma2Untied(AdapterContract):
    def write(self, folder: Path) -> Path:
        return write_tiny(folder, "gemma2, untied, biased, without caps", dtype="bfloat16")
