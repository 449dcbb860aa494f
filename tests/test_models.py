"""The one door for models: what is loaded is what the files say, and what training assumes of it is proved."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.llama.modeling_llama import LlamaForCausalLM, LlamaMLP

import prorl_mini as mini
from prorl_lab import models, probe, settings
from prorl_lab.errors import UserError
from prorl_lab.run_folder import RunFolder
from prorl_scale import policy as scale_policy
from prorl_scale.batch import pack

SIZE = {"vocab_size": 48, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2,
        "pad_token_id": 0}  # fmt: skip


def write_tokenizer(folder, words=48):
    inner = Tokenizer(WordLevel({f"w{i}": i for i in range(words)}, unk_token="w3"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="w3", eos_token="w2", pad_token="w0")
    tokenizer.save_pretrained(folder)


def make(folder, kind="llama", **settings):
    """A model of that kind with weights far from their initial ones, and its folder."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SIZE, **settings})).float().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.15 * torch.randn_like(weight)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return model


def load(folder, **settings):
    config = {"model": str(folder), "dtype": "float32", "device": "cpu", "gradient_checkpointing": False, "seed": 0}
    return models.load_policy(SimpleNamespace(**{**config, **settings}))


# ---------------------------------------------------------------- every weight comes from the files


def rewrite(folder, change):
    """Save the weights again, as `change` maps their names to tensors."""
    path = folder / "model.safetensors"
    save_file(change({name: value.clone() for name, value in load_file(path).items()}), path, metadata={"format": "pt"})


LOST = {
    "all names behind a prefix": (lambda w: {f"policy.{name}": value for name, value in w.items()}, "lacks"),
    "a layer": (lambda w: {name: value for name, value in w.items() if ".layers.1." not in name}, "layers.1"),
    "the head": (lambda w: {name: value for name, value in w.items() if name != "lm_head.weight"}, "lm_head.weight"),
    "one too many": (lambda w: {**w, "model.layers.2.mlp.up_proj.weight": torch.ones(2)}, "beyond model.layers.2"),
    "another shape": (lambda w: {**w, "model.norm.weight": torch.ones(2)}, "shape model.norm.weight"),
}


@pytest.mark.parametrize(("change", "named"), LOST.values(), ids=LOST)
def test_weights_that_are_not_the_files_are_refused_by_name(tmp_path, change, named):
    make(tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(UserError, match=named):
        load(tmp_path)


def test_weights_that_stand_there_twice_are_refused(tmp_path):
    """transformers 5.19 leaves the old file where it saves shards over it, and reads that one; vLLM the shards."""
    model = make(tmp_path)
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    with pytest.raises(UserError, match="twice"):
        load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    load(tmp_path)


def test_an_adapter_is_not_left_out_without_a_word(tmp_path):
    make(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(UserError, match="adapter"):
        load(tmp_path)


def test_a_folder_with_code_of_its_own_asks_nothing_and_runs_nothing(tmp_path, monkeypatch):
    make(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    own = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps({**config, **own}))
    monkeypatch.setattr("builtins.input", lambda *asked: pytest.fail(f"asked {asked}"))
    with pytest.raises(UserError, match="can't load"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_model_can_be_loaded_where_no_gradients_are_wanted(tmp_path):
    make(tmp_path)
    with torch.no_grad():
        load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, value):
    make(tmp_path)

    def spoil(weights):
        weights["model.layers.1.mlp.up_proj.weight"][3, 5] = value
        return weights

    rewrite(tmp_path, spoil)
    with pytest.raises(UserError, match=r"not finite in model\.layers\.1\.mlp\.up_proj\.weight"):
        load(tmp_path)


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_loaded_is_what_was_saved(tmp_path, tied):
    model = make(tmp_path, tie_word_embeddings=tied)  # a tied head is in no file, and the config says so
    policy, _ = load(tmp_path)
    for (name, ours), theirs in zip(policy.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_a_quantized_folder_is_refused_in_one_sentence(tmp_path):
    make(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    config.quantization_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="quantized"):
        load(tmp_path)


# ---------------------------------------------------------------- one log-prob, whoever computes it


def draw(count, seed):
    return torch.randint(4, 48, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def long_samples():
    """Rows of 40, 17 and 43 tokens; the first two share their prompt, the third's is longer than any border below."""
    return [
        mini.Sample(draw(9, 1), draw(31, 2)),
        mini.Sample(draw(9, 1), draw(8, 3)),
        mini.Sample(draw(22, 4), draw(21, 5)),
    ]


@torch.no_grad()
def alone(model, samples):
    """Each answer's log-probs by the model's own forward pass over its row, its attention written out."""
    model.set_attn_implementation("eager")
    rows = [torch.tensor([s.prompt + s.answer]) for s in samples]
    return [
        mini.token_logprobs(model(input_ids=ids).logits[:, :-1], ids[:, 1:], 1.2)[0, len(s.prompt) - 1 :]
        for ids, s in zip(rows, samples, strict=True)
    ]


ROPE = {"rope_theta": 1e4}
NARROW = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
MIXED = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 7, **NARROW}
BORDERS = {
    "mistral: no layer types": ("mistral", {"sliding_window": 7}),
    "mixtral: window and experts": ("mixtral", {"sliding_window": 7, "num_local_experts": 4}),
    "phi3": ("phi3", {"sliding_window": 7}),
    "starcoder2": ("starcoder2", {"sliding_window": 7}),
    "qwen2: one layer": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
    ),
    "olmo3": ("olmo3", MIXED),
    "gemma2: both caps": (
        "gemma2",
        {**MIXED, "attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
    ),
    "gemma3": ("gemma3_text", {**MIXED, "query_pre_attn_scalar": 8}),
    "gpt_oss: sinks": ("gpt_oss", {**MIXED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "granite: scaled logits": ("granite", {"logits_scaling": 3.0, "attention_multiplier": 0.3}),
    "phi: a head with a bias": ("phi", {}),
}


@pytest.mark.parametrize(("kind", "settings"), BORDERS.values(), ids=BORDERS)
def test_rows_beyond_every_border_have_one_logprob(tmp_path, kind, settings):
    """In one padded batch of mini, with prompts read once, in training mode, and packed as prorl_scale does it."""
    want = alone(make(tmp_path, kind, **settings), long_samples())
    policy, _ = load(tmp_path)
    batch = mini.make_batch(long_samples(), "cpu")
    for mode in (False, True):
        padded, _ = mini.answer_logprobs(policy.train(mode), batch, 1.2)
        for row, ours in zip(padded, want, strict=True):
            torch.testing.assert_close(row[: len(ours)], ours, rtol=1e-4, atol=1e-4)
    scale_policy.check_packing(policy.eval())
    packed = pack(long_samples(), "cpu")
    for ours, theirs in zip(packed.split(scale_policy.Scorer(policy)(packed, 1.2)[0]), want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "settings"), [BORDERS["gemma2: both caps"], BORDERS["phi: a head with a bias"]])
def test_the_packed_gradient_is_that_of_rows_alone(tmp_path, kind, settings):
    """Through caps, windows and the bias, in chunks of the head."""
    make(tmp_path, kind, **settings)
    policy, _ = load(tmp_path)
    names = [name for name, _ in policy.named_parameters()]

    def gradient(logp):
        grads = torch.autograd.grad(logp.sum(), list(policy.parameters()))
        return dict(zip(names, grads, strict=True))

    want = gradient(mini.answer_logprobs(policy.train(), mini.make_batch(long_samples(), "cpu"), 1.2)[0])
    scale_policy.check_packing(policy.eval())
    ours = gradient(scale_policy.Scorer(policy)(pack(long_samples(), "cpu"), 1.2)[0])
    for name, value in want.items():
        torch.testing.assert_close(ours[name], value, rtol=2e-3, atol=2e-3 * value.abs().max().item(), msg=name)


def test_what_packed_attention_does_not_honour_is_an_error():
    """The next feature that a model asks of its attention can't be swallowed."""
    pieces = pack([mini.Sample([1], [2, 3])], "cpu").pieces
    q = torch.zeros(1, 1, 2, 8)
    for asked in ({"position_bias": q}, {"dropout": 0.1}, {"is_causal": False}, {"chunk_size": 4}):
        with pytest.raises(UserError, match="honour"):
            scale_policy.packed_attention(None, q, q, q, None, pieces=pieces, scaling=1.0, **asked)
    with pytest.raises(UserError, match="honour"):
        scale_policy.packed_attention(None, q, q, q, q, pieces=pieces, scaling=1.0)
    scale_policy.packed_attention(None, q, q, q, None, pieces=pieces, position_ids=q, use_cache=False, s_aux=None)


@pytest.mark.parametrize("kind", ["bloom", "falcon", "stablelm"])  # ALiBi, a mask of its own, no keywords handed down
def test_what_packing_would_change_is_refused_in_one_sentence(tmp_path, kind):
    more = {"alibi": True, "new_decoder_architecture": False} if kind == "falcon" else {}
    make(tmp_path, kind, **more)
    policy, _ = load(tmp_path)
    with pytest.raises(UserError, match="can't be trained here"):
        scale_policy.check_packing(policy)


# ---------------------------------------------------------------- rotary factors that follow the longest row

LONGROPE = {**ROPE, "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0, 3.0, 4.0, 5.0],
            "original_max_position_embeddings": 24}  # fmt: skip
DYNAMIC = {**ROPE, "rope_type": "dynamic", "factor": 2.0}


@pytest.mark.parametrize(("kind", "rope"), [("phi3", LONGROPE), ("llama", DYNAMIC), ("qwen2", DYNAMIC)])
def test_factors_that_follow_the_longest_row_are_refused_unless_the_run_stays_below(tmp_path, kind, rope):
    border = rope.get("original_max_position_embeddings", 128)
    model = make(tmp_path, kind, rope_parameters=rope, original_max_position_embeddings=border)
    with pytest.raises(UserError, match=f"at most {border}"):
        load(tmp_path)
    with pytest.raises(UserError, match=f"at most {border}"):
        load(tmp_path, max_prompt_tokens=border - 8, max_new_tokens=9)
    policy, _ = load(tmp_path, max_prompt_tokens=border - 8, max_new_tokens=8)
    samples = [mini.Sample(draw(9, 1), draw(8, 2)), mini.Sample(draw(16, 3), draw(8, 4))]
    padded, _ = mini.answer_logprobs(policy, mini.make_batch(samples, "cpu"), 1.2)
    torch.testing.assert_close(padded.detach(), torch.stack(alone(model, samples)), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- training mode is no other model

RANDOM = {
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "seed_oss": {"residual_dropout": 0.1, "attention_dropout": 0.1},
    "xglm": {"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4},
    "gpt_bigcode": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "mixtral": {"router_jitter_noise": 0.1, "num_local_experts": 4},
}


@pytest.mark.parametrize(("kind", "settings"), RANDOM.items(), ids=RANDOM)
def test_nothing_is_random_in_training_mode(tmp_path, kind, settings):
    make(tmp_path, kind, **settings)
    policy, _ = load(tmp_path, gradient_checkpointing=True)
    batch = mini.make_batch(long_samples(), "cpu")
    with torch.no_grad():
        sampled, trained, again = (
            mini.answer_logprobs(policy.train(mode), batch, 1.2)[0] for mode in (False, True, True)
        )
    assert torch.equal(trained, again)
    torch.testing.assert_close(trained, sampled, rtol=1e-4, atol=1e-4)


def test_noise_that_no_setting_turns_off_is_refused(tmp_path, monkeypatch):
    make(tmp_path)
    forward = LlamaMLP.forward

    def noisy(self, x):
        return torch.nn.functional.dropout(forward(self, x), 0.1, self.training)

    monkeypatch.setattr(LlamaMLP, "forward", noisy)
    with pytest.raises(UserError, match="two passes in training mode"):
        load(tmp_path)


# ---------------------------------------------------------------- served, or refused at the door

HYBRID = {
    "qwen3_5_text": {"head_dim": 8, "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
                     "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    "mamba": {"state_size": 8},
    "jamba": {"num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8},
    "llama4_text": {"head_dim": 8, "intermediate_size_mlp": 48, "num_local_experts": 2, "attention_chunk_size": 7},
    "bert": {"is_decoder": False},
}  # fmt: skip


@pytest.mark.parametrize(("kind", "settings"), HYBRID.items(), ids=HYBRID)
def test_what_the_rollout_can_not_use_is_refused_in_one_sentence(tmp_path, kind, settings):
    make(tmp_path, kind, **settings)
    with pytest.raises(UserError, match="can't be trained here"):
        load(tmp_path)


def test_a_config_that_passed_is_not_tried_again(tmp_path, monkeypatch):
    make(tmp_path / "model")
    tried = []
    monkeypatch.setattr(probe, "copy_of", lambda config, copy_of=probe.copy_of: tried.append(1) or copy_of(config))
    for _ in range(2):
        load(tmp_path / "model", base_cache=str(tmp_path))
    assert len(tried) == 1
    make(tmp_path / "other", rms_norm_eps=1e-5)
    load(tmp_path / "other", base_cache=str(tmp_path))
    assert len(tried) == 2


# ---------------------------------------------------------------- files that transformers reads

GENERATION = {
    "a temperature without sampling": ({"temperature": 0.7, "top_p": 0.8, "eos_token_id": [2, 5]}, [2, 5]),
    "settings of beams without beams": ({"num_beams": 1, "early_stopping": True, "eos_token_id": 2}, 2),
}


@pytest.mark.parametrize(("settings", "eos"), GENERATION.values(), ids=GENERATION)
def test_a_generation_config_that_transformers_will_not_write_is_exported(tmp_path, settings, eos):
    make(tmp_path / "given")
    (tmp_path / "given" / "generation_config.json").write_text(json.dumps(settings))
    policy, tokenizer = load(tmp_path / "given")
    RunFolder(mini.Config(out=str(tmp_path))).export(policy, tokenizer, "base")
    again, _ = load(tmp_path / "base")
    assert again.generation_config.eos_token_id == eos  # what ends an answer is kept


@pytest.mark.parametrize("eos", ["2", -1, [[2]], True, 2.5])
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_what_is_no_token_ends_no_answer(tmp_path, name, eos):
    make(tmp_path)
    given = json.loads((tmp_path / name).read_text())
    (tmp_path / name).write_text(json.dumps({**given, "eos_token_id": eos}))

    def opened():
        policy, tokenizer = load(tmp_path)
        return models.stop_ids(policy.config, tokenizer)

    with pytest.raises(UserError) as error:
        opened()
    assert "\n" not in str(error.value)


def test_a_token_beyond_the_embedding_ends_no_answer(tmp_path):
    make(tmp_path, eos_token_id=[5, 99])
    policy, tokenizer = load(tmp_path)
    assert models.stop_ids(policy.config, tokenizer) == [2, 5]


def test_a_tokenizer_with_more_words_than_the_embedding_is_refused(tmp_path):
    make(tmp_path)
    write_tokenizer(tmp_path, words=51)
    with pytest.raises(UserError, match="3 tokens more"):
        load(tmp_path)


def test_a_special_token_beyond_the_embedding_is_refused_only_in_a_prompt(tmp_path):
    """Gemma 3's text models come with a tokenizer that has one for images."""
    make(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<picture>"]})
    tokenizer.save_pretrained(tmp_path)
    policy, tokenizer = load(tmp_path)
    limits = SimpleNamespace(max_prompt_tokens=None, max_new_tokens=2)
    settings.that_fits(tokenizer("w9 w47")["input_ids"], policy.config, limits)
    with pytest.raises(UserError, match="token 48"):
        settings.that_fits(tokenizer("w9 <picture>")["input_ids"], policy.config, limits)


def test_a_head_that_the_files_hold_is_exported_as_one(tmp_path):
    """transformers reads it although the config ties it to the embedding; vLLM would believe the config."""
    model = make(tmp_path / "given", tie_word_embeddings=False)
    config = json.loads((tmp_path / "given" / "config.json").read_text())
    (tmp_path / "given" / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    policy, _ = load(tmp_path / "given")
    policy.save_pretrained(tmp_path / "base")
    assert torch.equal(policy.lm_head.weight, model.lm_head.weight)
    assert not AutoConfig.from_pretrained(tmp_path / "base").tie_word_embeddings


def test_a_model_without_gradient_checkpointing_says_which_flag(tmp_path, monkeypatch):
    make(tmp_path)
    monkeypatch.setattr(LlamaForCausalLM, "supports_gradient_checkpointing", False)
    with pytest.raises(UserError, match="--no-gradient-checkpointing"):
        load(tmp_path, gradient_checkpointing=True)
