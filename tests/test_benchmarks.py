"""What benchmarks make of what they measured; and the quick check, whose programs run at a small size."""

import json

import pytest

from benchmarks import __main__ as command
from benchmarks import bench_documents, bench_growth, bench_language, growth_pictures, quick, said
from benchmarks.our_language import NEW


def test_the_report_is_that_of_the_record():
    """Each part with its own date and machine; run python -m benchmarks --report."""
    known = json.loads(command.RECORD.read_text())
    text = (command.HERE / "RESULTS.md").read_text()
    assert text == command.report(known)
    assert all(f"{one['date']}, {one['device']}, commit {one['commit']}." in text for one in known.values())


def test_shares_of_limits_are_told_of_parts_of_the_same_run_alone():
    known = json.loads(command.RECORD.read_text())
    where = {key: known["pruning"][key] for key in ("date", "device", "commit")}
    limits = {cores: dict.fromkeys(command.bench_limits.UNITS, 1e12) for cores in ("1", "2")}
    jobs = [job for job, *_ in command.bench_limits.in_one_run(known | {"limits": where | {"measured": limits}})]
    assert any(job.startswith("SparseGPT") for job in jobs) and any("8 x 512" in job for job in jobs)
    elsewhere = known | {"limits": where | {"commit": "another", "measured": limits}}
    assert not list(command.bench_limits.in_one_run(elsewhere))
    assert "| SparseGPT, 768 x 768, 50 % |" in command.report(known | {"limits": where | {"measured": limits}})


def test_the_quick_check_sets_every_job_beside_the_record(monkeypatch, capsys):
    recorded = {name: one["measured"] for name, one in json.loads(quick.RECORD.read_text()).items()}
    texts = {size: {how: [2 * s for s in recorded["generation"]["batch"][size][how]] for how in ("plain", "assisted")}
             for size in quick.BATCHES}  # fmt: skip
    layer = next(one for one in recorded["pruning"]["layers"] if one["layer"] == "768 x 3072, 50 %")
    printed = {
        "benchmarks.our_pruning": " ".join(str(2 * seconds) for seconds in layer["ours"]),
        "benchmarks.bench_blocks": json.dumps(recorded["block_float"]["ours"]),
        "benchmarks.our_decoding": f"a warning\n{json.dumps(texts)}\n",
    }
    monkeypatch.setattr(quick, "said", lambda program, *_: printed[program])
    monkeypatch.setattr(quick, "speeds", lambda _, kind, *__: recorded["training"][kind]["ours, float32"])
    monkeypatch.setattr(quick, "documents", lambda devices: recorded["documents"][f"ours, {devices} devices"])
    quick.main()
    ratios = {line[:32].strip(): line.split()[-1] for line in capsys.readouterr().out.splitlines()[2:]}
    halved = {
        "SparseGPT, 768 x 3072",
        *(f"{how} generation, batch {size}" for how in ("plain", "assisted") for size in quick.BATCHES),
    }
    assert len(ratios) == 10 and ratios == {name: "0.50" if name in halved else "1.00" for name in ratios}


@pytest.mark.parametrize(
    ("command", "number"),
    [
        (("benchmarks.our_pruning", 32, 64, 2, 4, 2), 2),
        (("benchmarks.our_step", "transformer", "float32", "adamw", 1, 0.01), 1),
    ],
)
def test_programs_of_ours_print_a_number_for_each_repeat(command, number):
    words = [float(word) for word in said(*command).split()]
    assert len(words) == number and min(words) > 0


def test_the_fastest_peer_is_not_ours():
    rates = {"loop": [1.0], "NumPy": [3.0, 9.0, 4.0], "numba": [5.0], "ours, 2 devices": [50.0]}
    assert bench_documents.strongest(rates) == "numba"


def test_a_token_of_the_language_model_is_timed_after_the_first():
    found = {"first": [[1.0, 3.0], [2.0]], "plain": [[1.0 + 0.063, 9.0], [2.0 + 0.063]]}
    assert NEW == 64 and bench_language.milliseconds(found, "plain")[0] == pytest.approx(1.0)


def grown(power):
    """What would be measured if seconds grew as that power of a size, and operations as its square."""

    def point(size):
        seconds = [2e-6 * size**power, 1e-6 * size**power]
        return {"seconds": seconds, "operations": float(size**2), "memory": size * 10**6, "first": 0.5}

    return {
        name: {axis: {str(size): point(size) for size in sizes} for axis, sizes in job.axes.items()}
        for name, job in bench_growth.JOBS.items()
    }


@pytest.mark.parametrize(("exponent", "written"), [(-0.03, "0.0"), (-0.18, "-0.2"), (1.67, "1.7")])
def test_a_power_of_zero_has_no_sign(exponent, written):
    assert growth_pictures.power(exponent) == written


def test_exponents_are_those_of_the_best_times():
    points = grown(1.5)["pruning"]["width"]
    assert bench_growth.exponents(points) == pytest.approx((1.5, 2.0))
    points["128"]["seconds"] = [9.0]  # the smallest sizes have a share of starting work
    assert bench_growth.exponents(points) == pytest.approx((1.5, 2.0))


@pytest.mark.parametrize("told", [True, False])
def test_the_report_of_growth_names_every_size_and_every_picture(told, tmp_path, monkeypatch):
    """Of another machine: four cores, where the system may not tell how much memory a process has."""
    jobs = grown(1.5)
    jobs["training"]["cores"] = {"1": jobs["bayes"]["concepts"]["2"], "4": jobs["bayes"]["concepts"]["4"]}
    for point in jobs["pruning"]["width"].values():
        point["memory"] = point["memory"] if told else None
    parts = {"interpreter": 0.1, "imports": 2.0, "compiling": 4.0, "the rest": 1.0}
    start = {"first step": 6.5, "parts": parts}
    cached = {"first step": 2.5, "parts": {name: value for name, value in parts.items() if name != "compiling"}}
    measured = {"jobs": jobs, "at once": {"one": [9e-6, 8e-6], "side by side": [5e-6]}, "start": [start, cached]}
    text = "\n".join(bench_growth.report(measured))
    assert "grow as entities^1.50, its operations as entities^2.00" in text and ("| not told |" in text) != told
    assert "side by side: 200,000 tokens per second together. One seed on all cores: 125,000. Best" in text
    assert "| none compiled before | 6.5 | 7.1 | 0.1 | 2.0 | 4.0 | 1.0 |" in text
    assert "| all in JAX's cache on disk | 2.5 | 3.1 | 0.1 | 2.0 | 0.0 | 1.0 |" in text
    later = 1e6 * 1e-6 * (2048**1.5 - 64**1.5)
    assert f"takes {later:.0f} µs longer at a context of 2,048 than at 64" in text
    assert f"The attention of its 4 layers takes {4 * later:.0f} µs longer" in text
    assert "67.4 MB at batch 64, 2.1 GB per second" in text  # 67.4 MB in 64 * 64^1.5 µs
    monkeypatch.setattr(growth_pictures, "HERE", tmp_path)
    growth_pictures.draw(measured)
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {file for name in jobs for file, _ in bench_growth.pictures(name, [*jobs[name]])}
    assert len(drawn) == 7 and all(f"({file})" in text for file in drawn)


@pytest.mark.parametrize(
    ("job", "axis", "size", "operations"),
    [
        ("bayes", "concepts", 2, 2 * 2 * 10 * 10 * 20),
        ("pruning", "width", 16, 16**3 * 4 / 3),
        ("training", "cores", 1, 5_551_872),
        ("decoding", "gamma", 1, 2_116_864 + 171_008 / 2),
        ("decoding", "batch of short texts", 2, 1_588_480 + 4 * 4 * 128 * 17),
        ("attention", "context", 64, 6 * 64 * 128),
    ],
)
def test_a_point_of_growth_is_measured(job, axis, size, operations):
    point = json.loads(said("benchmarks.our_growth", job, axis, size))
    assert point["operations"] == pytest.approx(operations)
    assert len(point["seconds"]) == 3 and min(point["seconds"]) > 0 and point["first"] > 0
    assert point["memory"] is None or point["memory"] > 0
