"""Where a model lies, and its shape, without its weights and without asking the Hugging Face hub."""

from pathlib import Path

from prorl_lab import laptop
from prorl_lab.errors import UserError
from prorl_lab.later import Later
from prorl_lab.shapes import Shape, shape_of

AutoConfig = Later("transformers", "AutoConfig")
snapshot_download = Later("huggingface_hub", "snapshot_download")

# From config.json of these models on the hub, as their fine-tuned copies repeat it.
SHAPES = {
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": Shape(1536, 28, 12, 2, 128, 8960, 151_936, tied=False),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": Shape(3584, 28, 28, 4, 128, 18_944, 152_064, tied=False),
}


def model_folder(name: str) -> Path | None:
    """Where the model lies: a folder, or the Hugging Face cache."""
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):  # not there, or no name that the hub could have
        return None


def known_shape(name: str) -> tuple[Shape | None, str]:
    """The shape of a model, from its own files or the table here, and which of the two.  Raises UserError."""
    if name == "laptop":
        return shape_of(laptop.model_config(laptop.WarmUp(), len(laptop.build_tokenizer()))), "the laptop model"
    folder = model_folder(name)
    if folder is not None and (folder / "config.json").exists():
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            return shape_of(config.get_text_config(decoder=True)), str(folder / "config.json")
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"{folder}/config.json is no decoder's ({error}): choose a model such as Qwen") from error
    return SHAPES.get(name), "a table in prorl_lab/hub.py, since the model is not here"
