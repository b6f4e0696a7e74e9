"""What every adapter must hold; a subclass says which tiny model it is checked on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from edgeprune.calibrate.loss import measure_loss
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.schema.model import MLP_ROLES
from edgeprune.schema.recipe import Recipe
from edgeprune.shapes import edit_shapes

__all__ = ["AdapterContract"]

TOKENS = torch.tensor([[5, 17, 200, 3, 90, 411, 8, 8, 63, 130, 20, 7]])


def logits(model: nn.Module, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(tokens, use_cache=False).logits
    return result


def cached_logits(model: nn.Module, tokens: torch.Tensor = TOKENS, prompt_count: int = 5) -> torch.Tensor:
    """Logits of a prompt and then of one token at a time, through transformers' own cache."""
    with torch.no_grad():
        output = model(tokens[:, :prompt_count], use_cache=True)
        pieces = [output.logits]
        for position in range(prompt_count, tokens.shape[1]):
            output = model(tokens[:, position : position + 1], past_key_values=output.past_key_values, use_cache=True)
            pieces.append(output.logits)
    return torch.cat(pieces, dim=1)


class Pair(nn.Module):
    """Two factors whose product is the original matrix."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        left, values, right = torch.linalg.svd(linear.weight.detach().double(), full_matrices=False)
        self.left = nn.Parameter((left * values).float())
        self.right = nn.Parameter(right.float())
        self.bias = linear.bias

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        result = hidden @ self.right.T @ self.left.T
        return result if self.bias is None else result + self.bias


class AdapterContract:
    """Subclass as `Test...` and say how the model is written."""

    def write(self, folder: Path) -> Path:
        raise NotImplementedError

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return self.write(tmp_path / "model")

    @pytest.fixture
    def loaded(self, folder: Path) -> LoadedModel:
        return load_model(folder)

    @staticmethod
    def fresh(loaded: LoadedModel, **overrides: Any) -> PreTrainedModel:
        """A new model of an edited configuration, built by transformers alone, to copy weights into."""
        config = type(loaded.model.config).from_dict({**loaded.model.config.to_dict(), **overrides})
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
        loaded.adapter.prepare(model)
        return model.eval()

    def test_sites_have_the_shapes_of_the_spec(self, loaded: LoadedModel) -> None:
        blocks = loaded.adapter.blocks(loaded.model)
        assert len(blocks) == len(loaded.spec.blocks) == 3
        for block, described in zip(blocks, loaded.spec.blocks, strict=True):
            assert tuple(site.role for site in described.sites) == loaded.adapter.roles
            for site in described.sites:
                module = loaded.adapter.site(block, site.role)
                assert isinstance(module, nn.Linear)
                assert tuple(module.weight.shape) == (site.out_features, site.in_features)
                assert (module.bias is not None) == site.has_bias

    def test_paths_lead_to_the_sites(self, loaded: LoadedModel) -> None:
        adapter = loaded.adapter
        for position, block in enumerate(adapter.blocks(loaded.model)):
            assert loaded.model.get_submodule(adapter.block_path(position)) is block
            for role in adapter.roles:
                path = f"{adapter.block_path(position)}.{adapter.module_path(role)}"
                assert loaded.model.get_submodule(path) is adapter.site(block, role)

    def test_every_parameter_is_accounted_for(self, loaded: LoadedModel) -> None:
        adapter, model = loaded.adapter, loaded.model
        parts: list[nn.Module] = [adapter.embedding(model), adapter.head(model), adapter.final_norm(model)]
        position_table = adapter.position_table(model)
        assert (position_table is not None) == (loaded.spec.position_kind == "learned")
        parts += [position_table] if position_table is not None else []
        for block, described in zip(adapter.blocks(model), loaded.spec.blocks, strict=True):
            norms = list(adapter.norms(block).values())
            assert sum(p.numel() for norm in norms for p in norm.parameters()) == described.norm_parameter_count
            parts += norms + [adapter.site(block, role) for role in adapter.roles]
        known = {id(parameter) for part in parts for parameter in part.parameters()}
        assert known == {id(parameter) for parameter in model.parameters()}
        assert sum(p.numel() for p in model.parameters()) == loaded.spec.parameter_count

    def test_loading_does_not_change_what_transformers_computes(self, folder: Path, loaded: LoadedModel) -> None:
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        torch.testing.assert_close(logits(loaded.model), logits(plain.eval()), rtol=1e-5, atol=1e-5)

    def test_every_site_matters(self, loaded: LoadedModel) -> None:
        reference = logits(loaded.model)
        for block in loaded.adapter.blocks(loaded.model):
            for role in loaded.adapter.roles:
                site = loaded.adapter.site(block, role)
                assert isinstance(site, nn.Linear)
                weight = site.weight.detach().clone()
                with torch.no_grad():
                    site.weight.copy_(weight.flip(1))
                assert (logits(loaded.model) - reference).abs().max() > 1e-3, role
                with torch.no_grad():
                    site.weight.copy_(weight)

    def test_a_site_can_be_replaced_by_factors(self, loaded: LoadedModel) -> None:
        reference = logits(loaded.model)
        for block in loaded.adapter.blocks(loaded.model):
            for role in loaded.adapter.roles:
                site = loaded.adapter.site(block, role)
                assert isinstance(site, nn.Linear)
                pair = Pair(site)
                loaded.adapter.set_site(block, role, pair)
                assert loaded.adapter.site(block, role) is pair
        torch.testing.assert_close(logits(loaded.model), reference, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("positions", [(0, 2), (1,), (1, 2), (0, 1, 2)])
    def test_kept_blocks_compute_what_a_smaller_model_computes(
        self, loaded: LoadedModel, positions: tuple[int, ...]
    ) -> None:
        loaded.adapter.keep_blocks(loaded.model, positions)
        smaller = self.fresh(loaded)  # the edited configuration alone says which kind of block stands where
        smaller.load_state_dict(loaded.model.state_dict())
        assert len(loaded.adapter.blocks(loaded.model)) == len(positions)
        assert loaded.model.config.num_hidden_layers == len(positions)
        torch.testing.assert_close(logits(loaded.model), logits(smaller), rtol=1e-5, atol=1e-5)

    def test_kept_blocks_are_the_ones_asked_for(self, loaded: LoadedModel) -> None:
        blocks = list(loaded.adapter.blocks(loaded.model))
        loaded.adapter.keep_blocks(loaded.model, [0, 2])
        assert list(loaded.adapter.blocks(loaded.model)) == [blocks[0], blocks[2]]

    @pytest.mark.parametrize("positions", [(0, 2), (1,), (2,)])
    def test_cache_agrees_with_one_pass_after_dropping(self, loaded: LoadedModel, positions: tuple[int, ...]) -> None:
        loaded.adapter.keep_blocks(loaded.model, positions)
        torch.testing.assert_close(cached_logits(loaded.model), logits(loaded.model), rtol=1e-4, atol=1e-4)
        with torch.no_grad():
            output = loaded.model(TOKENS, use_cache=True)
        assert len(output.past_key_values.layers) == len(positions)

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_cache_agrees_with_one_pass_without_an_attention(self, loaded: LoadedModel, position: int) -> None:
        loaded.adapter.drop_attention(loaded.model, position)
        torch.testing.assert_close(cached_logits(loaded.model), logits(loaded.model), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("part", ["attention", "mlp"])
    def test_a_dropped_part_takes_its_parameters_along_and_nothing_else(self, loaded: LoadedModel, part: str) -> None:
        adapter, model = loaded.adapter, loaded.model
        block, described = adapter.blocks(model)[1], loaded.spec.blocks[1]
        roles = {site.role for site in described.sites if (site.role in MLP_ROLES) == (part == "mlp")}
        others = [adapter.site(block, role) for role in adapter.roles if role not in roles]
        recipe = Recipe(model_hash=loaded.spec.model_hash, context_tokens=8)
        recipe = replace(recipe, **{f"drop_{part}": (1,)})
        expected = edit_shapes(loaded.spec, recipe).parameter_count
        (adapter.drop_attention if part == "attention" else adapter.drop_mlp)(model, 1)
        assert {*adapter.present_roles(block)} == {*adapter.roles} - roles
        assert [adapter.site(block, role) for role in adapter.present_roles(block)] == others
        assert sum(parameter.numel() for parameter in model.parameters()) == expected
        reference = logits(model)
        site = others[-1]
        assert isinstance(site, nn.Linear)
        with torch.no_grad():
            site.weight.copy_(site.weight.flip(1))
        assert (logits(model) - reference).abs().max() > 1e-3

    def test_generation_works_after_dropping(self, loaded: LoadedModel) -> None:
        loaded.adapter.keep_blocks(loaded.model, [0, 2])
        made = loaded.model.generate(TOKENS, max_new_tokens=6, min_new_tokens=6, do_sample=False, pad_token_id=0)
        tokens = TOKENS
        for _ in range(6):
            scores = logits(loaded.model, tokens)[:, -1]
            scores[:, 0] = -torch.inf  # min_new_tokens forbids the end token
            tokens = torch.cat([tokens, scores.argmax(-1, keepdim=True)], dim=1)
        assert made.tolist() == tokens.tolist()

    def test_smaller_tables_keep_the_logits_of_kept_tokens(self, loaded: LoadedModel) -> None:
        adapter, model = loaded.adapter, loaded.model
        reference = logits(model)
        kept = torch.tensor(sorted({*TOKENS[0].tolist(), *range(0, 512, 7)}))
        renumbered = torch.searchsorted(kept, TOKENS)
        head = None if loaded.spec.is_tied else adapter.head(model).weight[kept]
        adapter.set_tables(model, adapter.embedding(model).weight[kept], head)
        torch.testing.assert_close(logits(model, renumbered), reference[..., kept], rtol=1e-5, atol=1e-5)
        assert model.config.vocab_size == len(kept)
        assert adapter.is_tied(model) == loaded.spec.is_tied
        smaller = self.fresh(loaded)
        smaller.load_state_dict(model.state_dict())
        torch.testing.assert_close(logits(smaller, renumbered), reference[..., kept], rtol=1e-5, atol=1e-5)

    def test_a_tied_head_can_be_given_its_own_table(self, loaded: LoadedModel) -> None:
        adapter, model = loaded.adapter, loaded.model
        reference = logits(model)
        adapter.set_tables(model, adapter.embedding(model).weight, adapter.head(model).weight * 2)
        assert not adapter.is_tied(model)
        assert model.config.tie_word_embeddings is False
        cap = adapter.logit_cap(model)
        doubled = reference * 2 if cap is None else cap * torch.tanh(2 * torch.atanh(reference / cap))
        torch.testing.assert_close(logits(model), doubled, rtol=1e-4, atol=1e-4)

    def test_the_loss_is_measured_on_the_models_own_logits(self, loaded: LoadedModel) -> None:
        nats, scored = measure_loss(loaded, TOKENS.tolist())
        expected = nn.functional.cross_entropy(logits(loaded.model)[0, :-1], TOKENS[0, 1:], reduction="sum")
        assert scored == TOKENS.shape[1] - 1
        assert nats == pytest.approx(float(expected), rel=1e-5)
