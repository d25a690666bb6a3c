"""What a config may name as a model, and what it may not."""

from __future__ import annotations

import pytest

from attention_distillation.data.origins import origin_of, origins_of
from attention_distillation.data.table import read_sources
from attention_distillation.files import InputError
from attention_distillation.settings import WORKFLOW

TABLE = read_sources(WORKFLOW / "reference" / "sources.csv")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("my/llama/model.safetensors", "my/one/a.gguf", "my/two/a.gguf", "my/two/b.gguf", "my/both/a.gguf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "my/both/model.safetensors").touch()


def test_a_users_own_files(here):
    assert origin_of("my/llama", TABLE).kind == "directory" and origin_of("my/both", TABLE).path == "my/both"
    for given in ("my/one", "my/one/a.gguf"):
        origin = origin_of(given, TABLE)
        assert (origin.kind, origin.path, origin.converted) == ("gguf", "my/one/a.gguf", True)


def test_rows_of_the_table(here):
    contriever = origin_of("facebook/contriever", TABLE)
    assert contriever.kind == "hub" and contriever.row.name == "contriever" and not contriever.converted
    reader, retriever = origin_of("smollm2-135m-instruct", TABLE), origin_of("all-minilm-l6-v2", TABLE)
    assert reader.kind == retriever.kind == "wheel" and reader.converted and not retriever.converted


@pytest.mark.parametrize(
    ("given", "revision"),
    [
        ("Qwen/Qwen3-0.6B", "main"),
        ("Qwen/Qwen3-0.6B@refs/pr/3", "refs/pr/3"),
        ("facebook/contriever@main", "main"),
        (f"Qwen/Qwen3-0.6B@{'a' * 40}", "a" * 40),
        ("my/slip@main", "main"),
    ],
)
def test_a_hub_id_needs_no_row(here, given, revision):
    row = origin_of(given, TABLE).row
    assert (row.kind, row.name, row.address, row.revision) == ("hub", given, given.partition("@")[0], revision)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("gpt2", r"smollm2-135m-instruct, all-minilm-l6-v2 .* owner/name"),
        ("my/two", r"2 GGUF files \(a\.gguf, b\.gguf\); name the one"),
        ("my/none.gguf", "no such file"),
        ("my/slip", r"no such directory, though 'my' is one.*my/slip@main"),
        ("org/model@one two", "'one two' is no revision"),
        ("a/b/c", "no directory"),
    ],
)
def test_what_is_none_of_them(here, given, said):
    with pytest.raises(InputError, match=said):
        origin_of(given, TABLE)
    with pytest.raises(InputError, match=r"models\.reader: .*" + said):
        origins_of({"reader": given}, TABLE)
