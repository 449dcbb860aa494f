"""What goes to a model and what comes back: thoughts that the prompt opens, tags that are tokens, where answers end."""

import json
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import prorl_mini
from prorl_lab import tasks
from prorl_lab.errors import UserError
from prorl_lab.models import open_folder, set_template_defaults, stop_ids
from prorl_lab.run_folder import RunFolder
from prorl_lab.scoring.extract import THOUGHTS, after_think, last_tagged
from prorl_lab.verify import Verifier
from prorl_scale import train

TURNS = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}<|end|>\n{% endfor %}"


def opening(thought: str) -> str:
    """A template that begins the assistant's turn with this."""
    return TURNS + "{% if add_generation_prompt %}<|assistant|>" + thought + "\n{% endif %}"


def word_tokenizer(special=(), words=(), template=None, process=None, **named) -> PreTrainedTokenizerFast:
    """One token for each word, of ids 0 <unk>, 1 <s>, 2 </s>, 3 <pad>, then `special`, then `words`."""
    vocabulary = {w: i for i, w in enumerate(["<unk>", "<s>", "</s>", "<pad>", *special, *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if process:
        core.post_processor = processors.TemplateProcessing(single=process, special_tokens=[("<s>", 1), ("</s>", 2)])
    named = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", **named}
    made = PreTrainedTokenizerFast(tokenizer_object=core, additional_special_tokens=list(special), **named)
    made.chat_template = template
    return made


@pytest.fixture(scope="module")
def verifier():
    verifier = Verifier(seconds=5)
    yield verifier
    verifier.close()


# --- what is a thought


@pytest.mark.parametrize(("tag", "closing"), THOUGHTS.items())
def test_every_family_hides_its_thoughts(tag: str, closing: str) -> None:
    assert after_think(f"{tag}is it 1?{closing} 2") == "2"
    assert after_think(f"is it 1?{closing} 2") == "2"
    assert after_think(f"{tag}is it 1? or 2") == ""
    other = "</think>" if closing != "</think>" else "</thought>"
    assert after_think(f"{tag}is it 1?{other} 2") == ""  # another family's tag is a word of this thought
    assert after_think(f"1 {tag}{tag} 2 {closing} 3 {closing} 4") == "4"
    assert after_think(f"7 {tag} no, wait") == "7"  # said before the thought that was cut off


def test_the_tags_of_gpt_oss_and_of_answers_in_frames() -> None:
    thought = "<|channel|>analysis<|message|>1?<|end|><|start|>assistant"
    assert after_think(thought) == ""
    assert after_think(thought + "<|channel|>final<|message|>2") == "2"
    assert after_think("<|begin_of_thought|>1<|end_of_thought|>\n<|begin_of_solution|>2<|end_of_solution|>") == "2"
    assert last_tagged(after_think("<think>1</think><answer>so <answer>2</answer></answer>")) == "2"


def test_many_tags_take_linear_time() -> None:
    assert after_think("<think>" * 100_000 + "</think>" * 100_000 + "1") == "1"
    assert after_think("<thi" * 200_000) == "<thi" * 200_000


# --- whether the prompt opened one

ASKS = "What does <think> mean? And <|begin_of_thought|>"


@pytest.mark.parametrize(
    ("template", "opened"),
    [
        (TURNS + "{% if add_generation_prompt %}<|assistant|>{% endif %}", ""),  # a model that never thinks
        (opening("<think>"), "<think>"),  # DeepSeek-R1's distillates, Qwen3-Thinking, MiniMax-M2
        (opening("<think>\n\n</think>\n"), ""),  # Qwen3 with thinking switched off
        (opening("</think>"), ""),  # DeepSeek-V3.1 likewise
        (opening("[THINK]"), "[THINK]"),
        (opening("<seed:think>"), "<seed:think>"),
        (opening("<|channel>thought\n<channel|>"), ""),  # Gemma 4, switched off
        (opening("<|channel|>analysis<|message|>"), "<|channel|>analysis"),
        (TURNS + "<|assistant|><think>", "<think>"),  # whether or not the end of a prompt is asked for
        (
            TURNS + "<|assistant|>{% if '/no_think' not in messages[-1]['content'] %}<think>{% endif %}",
            "<think>",
        ),  # a switch in the words of the user
    ],
)
@pytest.mark.parametrize("question", ["6 x 7", ASKS, "think>", "<think>", "is 2 </think> or <think> not?"])
def test_only_what_the_template_writes_opens_a_thought(template: str, opened: str, question: str) -> None:
    tokenizer = word_tokenizer(template=template)
    assert tasks.opened_thought(tokenizer, question) == opened
    chat = [{"role": "system", "content": "Use <think> tags."}, {"role": "user", "content": question}]
    assert tasks.opened_thought(tokenizer, chat) == opened


def test_a_switch_in_the_message_still_acts() -> None:
    template = TURNS + "<|assistant|>{% if '/no_think' not in messages[-1]['content'] %}<think>{% endif %}"
    assert tasks.opened_thought(word_tokenizer(template=template), "6 x 7 /no_think") == ""


def run_of(tokenizer, **task) -> SimpleNamespace:
    return SimpleNamespace(tokenizer=tokenizer, pool=None, task=SimpleNamespace(stop_ids=[2], **task))


def seen_by_scorers(tokenizer, prompt: str, answers: list[list[int]]) -> list[str]:
    """The texts that mini's and scale's scorers get, which must be the same."""
    texts: list[str] = []
    run = run_of(tokenizer, score=lambda pairs: texts.extend(t for _, t in pairs) or [0.0] * len(pairs))
    problem = tasks.Problem("tier", prompt, {})
    prorl_mini.score_answers(run, [problem], [answers])
    train.begin_scoring(run, problem, answers)()
    assert texts[: len(answers)] == texts[len(answers) :]
    return texts[: len(answers)]


def test_a_thought_cut_off_earns_nothing_in_any_domain(verifier) -> None:
    words = ["\\boxed{42}", "<answer>", "</answer>", "42", "</think>", "so"]
    box, start, end, number, closed, so = range(4, 10)
    puzzle = {"task": "gcd", "item": {"answer": "42", "metadata": {}}}
    for template, cut_off, whole in ((opening("<think>"), 0.0, 1.0), (opening(""), 1.0, 1.0)):
        tokenizer = word_tokenizer(words=words, template=template)
        answers = [[box], [so, box, so], [start, number, end], [so, closed, box, 2], [closed, start, number, end, 2]]
        texts = seen_by_scorers(tokenizer, "What is <think> ?", answers)
        items = [("puzzle", t, puzzle) if "<answer>" in t else ("math", t, {"answer": "42"}) for t in texts]
        assert verifier.score(items) == [cut_off] * 3 + [whole] * 2


def test_the_laptop_task_does_not_score_thoughts() -> None:
    task = tasks.LaptopTask(0, [1])
    problem = task.problem("train", 0, "4 words")
    direction, *words, _ = problem.prompt.split()
    right = " ".join(sorted(words, reverse=direction == "descending"))
    assert task.score([(problem, f"<think> no </think> {right}"), (problem, f"<think> {right}")]) == [1.0, 0.0]


# --- from ids to text


def test_tags_that_are_special_tokens_are_scored_and_ends_are_not() -> None:
    special = ["<think>", "</think>", "<answer>", "</answer>", "<|im_end|>"]
    tokenizer = word_tokenizer(special, ["12", "so"])
    think, closed, start, end, im_end, number, so = range(4, 11)
    problem = tasks.Problem("tier", "?", {})
    ids = [1, think, start, so, end, closed, start, number, end, im_end, 3, 2]
    (text,) = tasks.responses(tokenizer, problem, [ids], [2, im_end])
    assert text == "<think> <answer> so </answer> </think> <answer> 12 </answer>"
    assert last_tagged(after_think(text)) == "12"


@pytest.mark.parametrize("process", ["<s> $A </s>", "$A </s>", "<s> $A", "$A </s> </s>", None])
def test_a_prompt_ends_where_its_text_does(process: str | None) -> None:
    tokenizer = word_tokenizer(words=["a", "b"], process=process)
    assert tasks.prompt_ids(tokenizer, "a b a") == ([1] if process and process.startswith("<s>") else []) + [4, 5, 4]
    assert tasks.prompt_ids(tokenizer, "a </s>")[-1] == 2  # someone's own words


# --- where an answer ends


def folder_with(tmp_path, config: dict, generation: dict | None = None) -> AutoConfig:
    LlamaConfig(vocab_size=16, hidden_size=8, num_attention_heads=1, **config).save_pretrained(tmp_path)
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    return AutoConfig.from_pretrained(tmp_path)


def test_stop_tokens_are_those_of_all_files(tmp_path) -> None:
    special = ["<|end|>", "<|eot|>", "<|user|>", "<|assistant|>"]
    plain, chat = word_tokenizer(special), word_tokenizer(special, template=opening(""))
    config = folder_with(tmp_path, {"eos_token_id": 9})
    assert stop_ids(config, plain) == [2, 9]
    assert stop_ids(config, chat) == [2, 4, 9]  # the template's own end of a turn
    assert stop_ids(folder_with(tmp_path, {"eos_token_id": [9, 5]}, {"eos_token_id": [7, 8]}), plain) == [2, 5, 7, 8, 9]
    odd = {"eos_token_id": 7, "temperature": 0.3, "do_sample": False}  # transformers refuses to write such settings
    assert stop_ids(folder_with(tmp_path, {"eos_token_id": None}, odd), plain) == [2, 7]
    nested = SimpleNamespace(name_or_path="", eos_token_id=None)
    nested.get_text_config = lambda: SimpleNamespace(eos_token_id=[6])
    assert stop_ids(nested, plain) == [2, 6]


def test_stop_tokens_survive_the_run_folder(tmp_path) -> None:
    """prorl_scale starts vLLM, and later evaluations, from what a run has exported."""
    config = LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                         eos_token_id=9, bos_token_id=None)  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=[9, 5])
    folder = RunFolder(prorl_mini.Config(out=str(tmp_path)))
    folder.export(model, word_tokenizer(), "base")
    assert stop_ids(AutoConfig.from_pretrained(tmp_path / "base"), word_tokenizer()) == [2, 5, 9]


@pytest.mark.parametrize(
    ("turn", "ends"),
    [
        ("<|assistant|>{{ c }}<|end|>\n", [2, 4]),
        ("<|assistant|>{{ c }}\n<|end|>\n", [2, 4]),
        ("<|assistant|><|start|>{{ c }}", [2]),
        ("Assistant: {{ c }}\n", [2]),
        ("{{ c }}<|START_RESPONSE|><|END_RESPONSE|><|end|>", [2, 4]),
        ("{{ raise_exception('prompts alone') }}", [2]),
    ],
)
def test_the_end_of_a_turn_is_read_from_the_template(tmp_path, turn: str, ends: list[int]) -> None:
    template = "{% for m in messages %}{% set c = m['content'] %}" + turn + "{% endfor %}"
    tokenizer = word_tokenizer(["<|end|>", "<|start|>", "<|assistant|>", "<|en"], template=template)
    assert stop_ids(folder_with(tmp_path, {"eos_token_id": 2}), tokenizer) == ends


def test_a_model_without_an_end_is_refused(tmp_path) -> None:
    tokenizer = word_tokenizer(eos_token=None)
    with pytest.raises(UserError, match="which token ends an answer"):
        stop_ids(folder_with(tmp_path, {"eos_token_id": None}), tokenizer)
    (tmp_path / "generation_config.json").write_text("[1]")
    with pytest.raises(UserError, match=r"generation_config\.json"):
        stop_ids(AutoConfig.from_pretrained(tmp_path), tokenizer)


# --- settings of the template


def test_a_switch_of_the_template_holds_wherever_the_tokenizer_goes(tmp_path) -> None:
    switch = "{% if enable_thinking is defined and not enable_thinking %}</think>{% else %}<think>{% endif %}"
    tokenizer = word_tokenizer(template=TURNS + "<|assistant|>" + switch)
    assert tasks.opened_thought(tokenizer, "6 x 7") == "<think>"
    for value in ("false", "False", "0"):
        changed = word_tokenizer(template=tokenizer.chat_template)
        set_template_defaults(changed, [f"enable_thinking={value}"])
        assert tasks.opened_thought(changed, "6 x 7") == ""
        asked = changed.apply_chat_template(tasks.as_chat("?"), tokenize=False, enable_thinking=True)
        assert asked.endswith("<think>")  # a default, which whoever uses the model may change
    changed.save_pretrained(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    set_template_defaults(saved, ["enable_thinking=0"])  # as a resumed run does
    assert saved.chat_template == changed.chat_template
    assert tasks.prompt_ids(saved, "?") == tasks.prompt_ids(changed, "?")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("low", "low"),
        ('"low"', "low"),
        ("3", "3"),
        ("null", "None"),
        ('a"b\\', 'a"b\\'),
        ("[1, 2]", "[1, 2]"),
        ("", ""),
    ],
)
def test_values_reach_the_template_as_they_were_meant(value: str, shown: str) -> None:
    tokenizer = word_tokenizer(template="{{ effort }}")
    set_template_defaults(tokenizer, [f"effort={value}"])
    assert tokenizer.apply_chat_template(tasks.as_chat("?"), tokenize=False) == shown


@pytest.mark.parametrize("item", ["enable_thinking", "think=false", "messages=[]", "=1", "effort-level=1"])
def test_settings_that_a_template_would_ignore_are_refused(item: str) -> None:
    tokenizer = word_tokenizer(template=TURNS + "{# think #}{{ enable_thinking }}{{ effort }}")
    with pytest.raises(UserError, match="chat-template-kwargs"):
        set_template_defaults(tokenizer, [item])
    with pytest.raises(UserError, match="no switch"):
        set_template_defaults(word_tokenizer(), ["enable_thinking=false"])


# --- templates and tokenizers that can't make a prompt, or change an answer

ASKED = [{"role": "system", "content": "be b"}, {"role": "user", "content": "a question"}]
BROKEN = {
    "no system message": (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}",
        "no system",
    ),
    "the user first": ("{{ messages[0]['content'] }}", "leaves out what the user says"),
    "the last one alone": ("{{ messages[-1]['content'] }}", "leaves out what the system says"),
    "parts": (
        "{% for m in messages %}{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endfor %}",
        "leaves out",
    ),
    "syntax": ("{% for m in messages %}{{ m['content'] }", "makes no prompt of messages by system, user"),
    "a name that is not there": ("{{ messages[0]['content'] + when() }}", "makes no prompt"),
    "several, none the default": ({"rag": "{{ messages }}", "tool_use": ""}, "makes no prompt"),
}


@pytest.mark.parametrize(("template", "says"), BROKEN.values(), ids=BROKEN)
def test_a_template_that_makes_no_prompt_says_so(template, says):
    """Also where it would leave a message out without a word."""
    with pytest.raises(UserError, match=says) as error:
        tasks.prompt_ids(word_tokenizer(template=template), ASKED)
    assert "\n" not in str(error.value)


def test_an_answer_is_scored_as_it_was_written(tmp_path):
    """Some tokenizers ask for the space before a comma to be taken away: another text than the one that was sampled."""
    given = word_tokenizer(words=("a", ",", "b", "!", "n't"), clean_up_tokenization_spaces=True)
    assert given.decode([4, 5, 6]) == "a, b"
    given.save_pretrained(tmp_path)
    LlamaConfig().save_pretrained(tmp_path)
    tokenizer, _ = open_folder(str(tmp_path))
    problem = tasks.Problem("t", "?", {})
    assert tasks.responses(tokenizer, problem, [[4, 5, 6, 7, 8, 2]], [2]) == ["a , b ! n't"]
