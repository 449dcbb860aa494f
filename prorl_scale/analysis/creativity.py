"""The creativity index of Lu et al. 2024 (arXiv 2410.04265): how little of a text can be found in a corpus.

For a length L, a word of the text is covered when it lies in a span of L or more words that stands word for word in
the corpus.  The L-uniqueness is the share of words not covered; the index is its sum over a range of L (theirs: 5 to
12), from 0 (all copied) to the number of lengths (nothing found).  Lu et al. find the longest spans with two pointers
and an n-gram index (DJ search).  But a span of L or more covers exactly the words that its pieces of L words cover, so
it is enough to know which n-grams of the TEXTS the corpus contains: one pass over the corpus, in time linear in it and
memory that depends on the texts alone, exactly and with no index to build.  For a corpus too large to read through,
such as Dolma, an index (infini-gram) answers the same question.  Only exact matches are counted; their second
variant, near-verbatim matches by word embeddings, is not here.

A word is a run of letters, digits and underscores, or any one other visible character; case counts.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from prorl_lab.errors import UserError

WORD = re.compile(r"\w+|[^\w\s]")
BREAK = -1  # a word outside the texts' vocabulary, or the end of a document: no span crosses it
BLOCK = 1 << 20  # characters read at a time


@dataclass
class Uniqueness:
    """Of A texts and lengths L: `shares` (A, lengths), NaN for a text without words; `words` (A,)."""

    lengths: range
    shares: np.ndarray
    words: np.ndarray

    @property
    def index(self) -> np.ndarray:
        """(A,) the creativity index."""
        return self.shares.sum(1)


def split_words(text: str) -> list[str]:
    """
    >>> split_words("Don't panic: 2+2=4")
    ['Don', "'", 't', 'panic', ':', '2', '+', '2', '=', '4']
    """
    return WORD.findall(text)


def uniqueness(texts: list[str], corpus: Iterable[Iterable[str]], lengths: range) -> Uniqueness:
    """L-uniqueness of every text.  corpus: documents, each an iterable of pieces of text that end between words."""
    vocabulary: dict[str, int] = {}
    encoded = [[vocabulary.setdefault(word, len(vocabulary)) for word in split_words(text)] for text in texts]
    ids = np.array([i for row in encoded for i in (*row, BREAK)], np.int64)
    tables = ngram_tables(ids, len(vocabulary), lengths[-1])
    found = [np.zeros(len(table), bool) for table in tables]
    for chunk in chunks(corpus, vocabulary, lengths[-1]):
        for length, _, names in walk(chunk, tables, len(vocabulary)):
            found[length - 1][names] = True
    counts = np.array([len(row) for row in encoded])
    shares = np.full((len(texts), len(lengths)), np.nan)
    starts = np.concatenate([[0], np.cumsum(counts + 1)[:-1]]).astype(int)  # + 1: the break after each text
    for length, at, names in walk(ids, tables, len(vocabulary)):
        if length in lengths:
            covered = cover(at[found[length - 1][names]], length, len(ids))
            sums = np.add.reduceat(covered, starts) if len(starts) else np.zeros(0)
            shares[:, lengths.index(length)] = 1 - sums / np.where(counts, counts, np.nan)
    return Uniqueness(lengths, shares, counts)


def cover(at: np.ndarray, length: int, size: int) -> np.ndarray:
    """(size,) 1 where a position lies in one of the spans of `length` that start at `at`, else 0."""
    edges = np.bincount(at, minlength=size + 1) - np.bincount(at + length, minlength=size + 1)
    return (np.cumsum(edges)[:size] > 0).astype(int)


def ngram_tables(ids: np.ndarray, words: int, longest: int) -> list[np.ndarray]:
    """Names for the n-grams of the texts, level by level: an n-gram is (name of its first n-1 words, last word).

    tables[n-1] is sorted, and an n-gram's name is its place there; a pair is one integer, name * words + word, so
    names are exact and nothing is hashed.
    """
    tables = [np.arange(words)]
    at = np.flatnonzero(ids != BREAK)
    names = ids[at]
    for length in range(2, longest + 1):
        at, names = extend(ids, at, names, length)
        keys = names * words + ids[at + length - 1]
        table, names = np.unique(keys, return_inverse=True)
        tables.append(table)
    return tables


def extend(ids: np.ndarray, at: np.ndarray, names: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Those starts whose span of `length` stays inside `ids` and ends on a known word."""
    inside = at + length <= len(ids)
    at, names = at[inside], names[inside]
    known = ids[at + length - 1] != BREAK
    return at[known], names[known]


def walk(ids: np.ndarray, tables: list[np.ndarray], words: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For n = 1, 2, ...: where in `ids` an n-gram of the tables starts, and its name.  Few survive beyond n = 2."""
    at = np.flatnonzero(ids != BREAK)
    names = ids[at]
    yield 1, at, names
    for length, table in enumerate(tables[1:], start=2):
        at, names = extend(ids, at, names, length)
        keys = names * words + ids[at + length - 1]
        if len(table):
            names = np.minimum(np.searchsorted(table, keys), len(table) - 1)
            same = table[names] == keys
            at, names = at[same], names[same]
        else:
            at, names = at[:0], names[:0]
        yield length, at, names


def chunks(corpus: Iterable[Iterable[str]], vocabulary: dict[str, int], longest: int) -> Iterator[np.ndarray]:
    """The corpus as arrays of word ids, about a block each; each starts with the tail of the one before, so that no
    span is lost between two."""
    held: list[int] = []
    fresh = 0
    for document in corpus:
        for piece in document:
            ids = [vocabulary.get(word, BREAK) for word in split_words(piece)]
            held += ids
            fresh += len(ids)
            if fresh >= BLOCK // 4:
                yield np.array(held, np.int64)
                held, fresh = held[len(held) - longest + 1 :], 0
        held.append(BREAK)
    yield np.array(held, np.int64)


def corpus_files(paths: list[Path]) -> list[Path]:
    """The .txt and .jsonl files among paths, folders searched through; sorted within a folder."""
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"there is no {path}: give --corpus text files, JSON-lines files or folders of them")
        files += sorted(p for p in path.rglob("*") if p.suffix in (".txt", ".jsonl")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"--corpus found no .txt or .jsonl file in {', '.join(map(str, paths))}: give another folder")
    return files


def read_corpus(files: list[Path]) -> Iterator[Iterator[str]]:
    """Documents: a .jsonl file has one in the "text" of each line, any other file is one."""
    for path in tqdm(files, "corpus", leave=False, disable=None):
        if path.suffix == ".jsonl":
            with path.open(encoding="utf-8", errors="replace") as file:
                for number, line in enumerate(file, start=1):
                    yield iter([_text_of(path, number, line)])
        else:
            yield read_pieces(path)


def _text_of(path: Path, number: int, line: str) -> str:
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} has no "text" in line {number}: give one {{"text": ...}} a line') from error
    if not isinstance(text, str):
        raise UserError(f'{path} has a "text" that is no text in line {number}: give one {{"text": ...}} a line')
    return text


def read_pieces(path: Path) -> Iterator[str]:
    """A text file in pieces that are cut at white space, where no word crosses."""
    with path.open(encoding="utf-8", errors="replace") as file:
        rest = ""
        while block := file.read(BLOCK):
            block = rest + block
            cut = max(block.rfind(" "), block.rfind("\n")) + 1
            yield block[:cut]
            rest = block[cut:]
        yield rest
