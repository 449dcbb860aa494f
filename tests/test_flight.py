"""What only a GPU runs, held to the source of what it calls: a pin that changes fails here, and not a run.

The wheel of vLLM in requirements-scale.txt is downloaded (330 MB, no dependencies) and read, not installed; torch's
Python files are the same in its CPU and CUDA builds.  What `rollout.py` asks of vLLM is read from our own source.
"""

import ast
import functools
import inspect
import re
import subprocess
import sys
import zipfile

import pytest

from prorl_scale import rollout
from tests.launch import ROOT

pytestmark = pytest.mark.slow
PIN = re.search(r"^vllm==(\S+)", (ROOT / "requirements-scale.txt").read_text(), re.M)[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """-> text of a file of the pinned CUDA wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    platform = ["--platform", "manylinux_2_28_x86_64", "--only-binary", ":all:", "--python-version", "3.11"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *platform, f"vllm=={PIN}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        pytest.skip(f"the wheel of vllm {PIN} can't be had: {done.stderr.strip().splitlines()[-1][:200]}")
    (path,) = folder.glob("vllm-*.whl")
    archive = zipfile.ZipFile(path)
    return lambda name: archive.read(f"vllm/{name}").decode()


def definition(text, *names):
    """The node of a class or function, by its qualified name."""
    node = ast.parse(text)
    for name in names:
        (node,) = [
            child for child in ast.iter_child_nodes(node)
            if isinstance(child, ast.ClassDef | ast.FunctionDef) and child.name == name
            and not any(ast.unparse(mark) == "overload" for mark in child.decorator_list)
        ]  # fmt: skip
    return node


def parameters(node):
    """Names that a function takes."""
    return {a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)} - {"self"}


def fields(node):
    """Names of a dataclass's fields."""
    return {child.target.id for child in node.body if isinstance(child, ast.AnnAssign)}


def ours(called):
    """Keywords with which rollout.py calls this."""
    tree = ast.parse(inspect.getsource(rollout))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found = [c for c in calls if called in (ast.unparse(c.func), *(ast.unparse(a) for a in c.args[:1]))]
    assert found, called
    names = {keyword.arg for call in found for keyword in call.keywords if keyword.arg}
    spread = [k.value for call in found for k in call.keywords if k.arg is None]
    # See `on_a_gpu`; the settings are what `open_model` is called with.
    assert {ast.unparse(value) for value in spread} <= {"device", "settings"}
    return names


def on_a_gpu():
    """Keys of the dict `device` in rollout.py: arguments that only a GPU gets."""
    tree = ast.parse(inspect.getsource(rollout))
    values = [n.value for n in ast.walk(tree) if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "device"]
    names = {
        key.value for value in values for node in ast.walk(value) if isinstance(node, ast.Dict) for key in node.keys
    }
    assert names >= {"enable_sleep_mode", "gpu_memory_utilization"}
    return names


def test_the_constructor_takes_what_we_give(wheel):
    """By name, or among the fields of EngineArgs, which the rest is handed to."""
    constructor = definition(wheel("entrypoints/llm.py"), "LLM", "__init__")
    known = parameters(constructor) | fields(definition(wheel("engine/arg_utils.py"), "EngineArgs"))
    assert constructor.args.kwarg is not None
    assert (ours("vllm.LLM") | ours("open_model") | on_a_gpu()) - known == set()
    assert "async_scheduling" in known  # the fallback that prorl_scale/README.md names


def test_sampling_parameters(wheel):
    known = fields(definition(wheel("sampling_params.py"), "SamplingParams"))
    asked = ours("self.sampling") | ours("how") | ours("vllm.SamplingParams")
    assert {"n", "temperature", "logprobs", "prompt_logprobs", "stop_token_ids", "seed"} <= asked
    assert asked - known == set()


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("sleep", {"level"}),
        ("wake_up", {"tags"}),
        ("collective_rpc", {"kwargs"}),
        ("enqueue", {"use_tqdm"}),
        ("generate", {"use_tqdm"}),
        ("reset_prefix_cache", set()),
        ("apply_model", set()),
    ],
)
def test_methods(wheel, method, given):
    text = wheel("entrypoints/llm.py")
    home = "LLM" if f"    def {method}(" in ast.unparse(definition(text, "LLM")) else None
    node = definition(text, "LLM", method) if home else definition(wheel("entrypoints/offline_utils.py"), method)
    assert ours(f"self.llm.{method}") == given
    assert given - parameters(node) == set()


def test_the_engine_that_we_step_ourselves(wheel):
    text = wheel("v1/engine/llm_engine.py")
    for method in ("step", "has_unfinished_requests"):
        assert f"engine.{method}()" in inspect.getsource(rollout)
        assert parameters(definition(text, "LLMEngine", method)) == set()
    assert "self.engine_core" in text
    assert definition(wheel("v1/engine/core_client.py"), "EngineCoreClient", "shutdown")


def test_reload_reaches_both_model_runners(wheel):
    """`collective_rpc("reload_weights", kwargs={"weights_iterator": ...})`: worker, then the runner that is in use."""
    worker = definition(wheel("v1/worker/gpu_worker.py"), "Worker", "reload_weights")
    assert worker.args.kwarg is not None
    assert "self.model_runner.reload_weights" in ast.unparse(worker)
    for file in ("v1/worker/gpu_model_runner.py", "v1/worker/gpu/model_runner.py"):
        assert "weights_iterator" in parameters(definition(wheel(file), "GPUModelRunner", "reload_weights"))


def test_tags_of_memory(wheel):
    """The pools that `wake_up` names: weights are loaded before the cache is taken again."""
    text = wheel("v1/worker/gpu_worker.py")
    tags = set(re.findall(r"""tag=["'](\w+)["']""", text)) | set(
        re.findall(r"""_maybe_get_memory_pool_context\(["'](\w+)""", text)
    )
    assert {"weights", "kv_cache"} <= tags


@pytest.mark.parametrize(
    ("file", "where", "says"),
    [  # behaviour that comments in rollout.py rest on, as the statement that brings it about
        ("v1/engine/core.py", ("EngineCore", "wake_up"), "if fully_awake:\n        self.resume_scheduler()"),
        ("v1/engine/core.py", ("EngineCore", "wake_up"), "fully_awake = not self.model_executor.is_sleeping"),
        ("v1/engine/parallel_sampling.py", ("ParentRequest", "_get_child_sampling_params"), "seed + index"),
        ("v1/worker/gpu/sample/sampler.py", ("Sampler",), "empty_like(logits, dtype=torch.float32).copy_(logits)"),
        ("model_executor/layers/logits_processor.py", ("LogitsProcessor",), "self.head_dtype == torch.float32"),
        ("sampling_params.py", ("SamplingParams",), "skip_reading_prefix_cache"),
        ("envs.py", (), "VLLM_USE_V2_MODEL_RUNNER"),
        ("env_override.py", (), "VLLM_ENABLE_CUDA_COMPATIBILITY"),
    ],
)  # fmt: skip
def test_behaviour_that_we_rely_on(wheel, file, where, says):
    text = wheel(file)
    assert says in (ast.unparse(definition(text, *where)) if where else text)


def test_attention_of_ragged_rows():
    """torch's `varlen_attn`, which needs CUDA to run: the names in `policy.packed_attention`."""
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(getattr(varlen_attn, "__wrapped__", varlen_attn)).parameters
    names = ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert list(known)[:7] == names
    assert {"scale", "window_size", "enable_gqa"} <= set(known)


def test_float32_product_of_bfloat16_matrices():
    """`torch.mm(..., out_dtype=...)` is declared, whatever this build can run."""
    import torch

    overloads = torch.ops.aten.mm.overloads()
    assert "dtype" in overloads


@functools.cache
def readme():
    return (ROOT / "prorl_scale/README.md").read_text()


def test_the_operator_s_page_names_the_fallbacks():
    for name in ("VLLM_USE_V2_MODEL_RUNNER=0", "async_scheduling", "VLLM_ENABLE_CUDA_COMPATIBILITY=1", "580"):
        assert name in readme()
