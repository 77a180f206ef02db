"""Works of characters: read, split, cut, counted by n-grams, trained on; and Shakespeare's, where they were fetched."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compression import apply
from icl_synth import checkpoints, language, ngrams, text, train
from icl_synth.config import DataConfig, TrainConfig
from icl_synth.run_folder import TrainingError
from icl_synth.start import Start
from icl_synth.transformer import TransformerConfig
from tests.test_train import one_device

ROOT = Path(__file__).parents[1]
LINES = "to be or not to be, that is the question; "


def write(folder: Path, **works: str | bytes) -> Path:
    for name, work in works.items():
        path = folder / f"{name.replace('__', '/')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(work if isinstance(work, bytes) else work.encode())
    return folder


def test_tokens_count_the_alphabet_of_the_training_works_and_decode_to_them(tmp_path):
    found = text.read(write(tmp_path, a="baé\r\nb", b="éa"))
    assert found.alphabet == "\nabé" and list(found.train) == ["a"] and list(found.validation) == ["b"]
    assert found.decode(found.train["a"]) == "baé\nb" and found.encode("é").tolist() == [3]


def test_a_plain_folder_holds_every_tenth_work_back_and_a_split_one_is_read_as_it_is(tmp_path):
    plain = write(tmp_path / "plain", **{f"w{n:02}": "abc" for n in range(23)}, **{".hidden": "z"})
    found = text.read(plain)
    assert list(found.validation) == ["w09", "w19"] and len(found.train) == 21 and not found.test
    split = write(tmp_path / "split", train__a="abc", train__b="abd", validation__c="ab", test__d="ba")
    found = text.read(split)
    assert [*found.train, *found.validation, *found.test] == ["a", "b", "c", "d"]
    before = found.digest
    assert text.read(write(split, train__b="abb")).digest != before


@pytest.mark.parametrize(
    ("works", "message"),
    [({}, "is no folder of text"), ({"a": "x"}, "holds 1 files: at least two"), ({"a": "", "b": "x"}, "a.txt is empty"),
     ({"a": b"\xff\xfeab", "b": "x"}, "a.txt is no UTF-8 text .byte 0"),
     ({"a": "xy", "b": "xyz"}, "validation/b has the character 'z', which no training work has"),
     ({"train__a": "x"}, "validation holds no files")],
)  # fmt: skip
def test_what_is_no_text_is_refused_by_name(works, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        text.read(write(tmp_path / "folder", **works))


def test_sequences_predict_every_token_but_the_first_of_a_work_once():
    works = {"a": np.arange(11), "b": np.arange(100, 105), "c": np.arange(3)}
    pieces = text.sequences(works, 5)
    assert pieces.tolist() == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8], [100, 101, 102, 103, 104]]
    assert text.evenly(pieces, 2)[:, 0].tolist() == [0, 100] and len(text.evenly(pieces, 9)) == 3
    with pytest.raises(ValueError, match=r"no work has 12 characters, .* the longest has 11"):
        text.sequences(works, 12)


def test_witten_bell_agrees_with_a_count_by_hand_and_sums_to_one():
    """abab: after a always b, after b a once. p(b) = (2 + 2/3) / (4 + 2) of three tokens, p(b|a) = (2 + p(b)) / 3."""
    model = ngrams.fit({"work": np.array([0, 1, 0, 1])}, vocab_size=3, order=1)
    of_b = (2 + 2 / 3) / 6
    after_a = (2 + of_b) / 3
    np.testing.assert_allclose(model.probabilities(np.array([1, 0, 1])), [of_b, (1 + of_b) / 2, after_a])
    generator = np.random.default_rng(0)
    works = {name: generator.integers(0, 7, 200) for name in "ab"}
    model = ngrams.fit(works, 7, 4)
    history = works["a"][:9]
    for end in range(10):
        np.testing.assert_allclose(model.after(history[:end]).sum(), 1, rtol=1e-12)
        if end < 9:
            assert model.probabilities(history[: end + 1])[-1] == model.after(history[:end])[history[end]]


def test_no_history_crosses_the_border_of_two_works():
    together = ngrams.fit({"a": np.array([0, 1]), "b": np.array([2, 3])}, 4, 1)
    assert together.after(np.array([1]))[2] == ngrams.fit({"a": np.array([0, 1, 2, 3])}, 4, 0).after(np.arange(0))[2]
    with pytest.raises(ValueError, match="order 20 is too much for 84 tokens"):
        ngrams.fit({"a": np.array([0])}, 84, 20)


TINY = TrainConfig(
    steps=6, batch=4, evaluate_every=3, evaluation_documents=4, precision="float32",
    data=DataConfig("text", "works", 30, length=17), model=TransformerConfig(30, 32, 1, 16, 2),
)  # fmt: skip


@pytest.fixture
def works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "works", a=LINES * 9, b=LINES[::-1] * 5, c=LINES[5:] * 5)


def test_a_run_on_text_learns_it_and_goes_on_where_it_was_stopped(works, tmp_path, monkeypatch):
    longer = dataclasses.replace(TINY, steps=60, evaluate_every=30)
    train.train(longer, tmp_path / "long", one_device())
    first, last = (json.loads(line) for line in (tmp_path / "long" / "metrics.jsonl").read_text().splitlines())
    assert last["loss"] < first["loss"] < np.log(30) and "bayes_loss" not in last
    assert checkpoints.read_card(tmp_path / "long" / "model")["alphabet"] == text.read(works).alphabet

    whole = train.train(TINY, tmp_path / "whole", one_device())
    real = train.evaluate_and_save

    def stop(run, state, done, speed, history):
        state = real(run, state, done, speed, history)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train, "evaluate_and_save", stop)
        train.train(TINY, tmp_path / "stopped", one_device())
    again = train.train(TINY, tmp_path / "stopped", one_device())
    weights, others = (checkpoints.split(model)[1] for model in (whole, again))
    assert all(np.array_equal(weights[name], others[name]) for name in weights)


def test_another_text_in_the_same_folder_is_no_going_on(works, tmp_path):
    train.train(TINY, tmp_path / "run", one_device())
    write(works, a=LINES * 8)
    with pytest.raises(TrainingError, match="text"):
        train.train(TINY, tmp_path / "run", one_device())


def test_a_pruned_model_of_characters_still_knows_them_and_goes_on_with_its_own_text_alone(works, tmp_path):
    train.train(TINY, tmp_path / "run", one_device())
    command = ["--model", "run/model", "--text", "works", "--documents", "4", "--out", "pruned"]
    apply.main([*command, "--method", "magnitude"])
    pruned = language.load("pruned")
    assert pruned.decode(pruned.encode("to be")) == "to be" and pruned.alphabet == text.read(works).alphabet
    train.train(
        dataclasses.replace(TINY, seed=1), tmp_path / "on", one_device(), Start(Path("pruned"), keep_masks=True)
    )
    other = dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, text="others"))
    write(tmp_path / "others", a=LINES.upper() * 9, b=LINES.upper() * 5)
    with pytest.raises(TrainingError, match="pruned reads other characters: draw its embedding and head anew"):
        train.train(other, tmp_path / "other", one_device(), Start(Path("pruned")))
    assert not (tmp_path / "other").exists()
    train.train(other, tmp_path / "other", one_device(), Start(Path("pruned"), reset=("embedding", "head")))


def test_texts_that_cannot_be_trained_on_leave_no_folder(works, tmp_path):
    for change, message in (
        ({"vocab_size": 9}, "different characters: set data.vocab_size"),
        ({"length": 400}, "no work has 400 characters"),
        ({"text": "nowhere"}, "nowhere is no folder of text"),
    ):
        model = dataclasses.replace(TINY.model, context=512)
        config = dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, **change), model=model)
        with pytest.raises(TrainingError, match=message):
            train.train(config, tmp_path / "run", one_device())
    with pytest.raises(TrainingError, match="sequences of 17 are fewer than a batch of 100"):
        train.train(dataclasses.replace(TINY, batch=100), tmp_path / "run", one_device())
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"data.text is the folder that data.world text reads"):
        DataConfig("text")
    with pytest.raises(ValueError, match="text has no concepts"):
        TINY.data.build()


def test_the_command_takes_the_vocabulary_from_the_text(works, tmp_path):
    command = [sys.executable, "-m", "icl_synth.train", "--preset", "quick-draft", "--text", "works", "--steps", "1",
               "--batch", "2", "--data.length", "17", "--evaluation-documents", "2", "--out", "run"]  # fmt: skip
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert checkpoints.load(tmp_path / "run" / "model").config.vocab_size == len(text.read(works).alphabet)


def test_the_python_of_the_guide_runs(tmp_path):
    folder = write(tmp_path / "works", train__a=LINES * 20, validation__b=LINES[9:])
    guide = (ROOT / "docs" / "own_text.md").read_text()
    names = {}
    exec(guide.split("```python\n")[1].split("```")[0].replace("text/shakespeare", str(folder)), names)
    assert names["nats"].keys() == {"b"} and 0 < names["nats"]["b"] < np.log(len(names["works"].alphabet))


@pytest.mark.skipif(not (ROOT / text.SHAKESPEARE).exists(), reason="make text fetches Shakespeare's works")
def test_shakespeares_works_are_split_by_work_and_their_alphabet_is_closed():
    found = text.read(ROOT / text.SHAKESPEARE)
    assert len(found.train) == text.NUMBER_OF_WORKS - len(text.VALIDATION) - len(text.TEST)
    assert {*found.validation} == {*text.VALIDATION} and {*found.test} == {*text.TEST}
    assert not found.train.keys() & (found.validation.keys() | found.test.keys())
