"""The one door for models: what is loaded is what the files say, and what training assumes of it is proved."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from prorl_lab import models
from prorl_lab.errors import UserError

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
