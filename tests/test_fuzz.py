"""Random command lines and YAML files: one message or a result, never a traceback and never a hang."""

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripts import run

COMMON = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

WORDS = st.one_of(
    st.sampled_from(["", "0", "-1", "2", "2.5", "nan", "inf", "true", "null", "a", "[1,2]", "{a: 1}", "[", "x" * 2000]),
    st.sampled_from(
        ["os.system", "fibermodels.models.FlowMatching", "/nowhere", "é\u0000ü", "$(id)", "!!python/name:os.system"]
    ),
    st.text(max_size=12),
)
"""Values of options."""

KEYS = st.one_of(
    st.sampled_from(
        [
            *("name", "cache_draws", "ema_decay", "global_batch", "seed_everything", "start_from", "adapt_from"),
            *("model.learning_rate", "model.preview", "model.learner", "model.learner.network", "model.fiber.weight"),
            *("model.learner.init_args.sampler.steps", "subject", "subject.weights", "data", "data.base"),
            *("data.batch_size", "trainer.precision", "trainer.accelerator", "trainer.callbacks", "checkpoint_minutes"),
            *("num_targets", "samples_per_target", "seed", "split", "batch_size", "classifier", "judges", "judges.a"),
            *("features.a", "thresholds", "knobs", "knobs.a", "model", "checkpoint", "compare", "half", "dry_run"),
        ]
    ),
    st.text("abcdefghijklmnopqrstuvwxyz_.", min_size=1, max_size=12).filter(lambda key: "help" not in key),
)
"""Options, most of which some command knows."""

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
"""What stands in a YAML file."""

BASES = {
    "train.py": "--config configs/quickstart.yaml --trainer.max_epochs 1 --trainer.limit_train_batches 1 "
    "--cache_draws 1 --overwrite true --trainer.logger false --runs RUNS",
    "evaluate.py": "--model configs/digits/oracle.yaml --num_targets 4 --samples_per_target 2 --device cpu "
    "--overwrite true --out OUT",
    "export.py": "--checkpoint OUT/nothing.ckpt --out OUT/weights",
}


def check(script, folder, more):
    """Runs a command with further arguments."""
    base = BASES[script].replace("RUNS", str(folder)).replace("OUT", str(folder / "out")).split()
    done = run(script, *base, *more)
    assert done.returncode in (0, 2), done.stderr
    if done.returncode:
        assert done.stderr.count("error: ") >= 1
        assert len(done.stderr) < 10_000
    assert "Traceback" not in done.stderr


def arguments(pairs):
    """`--key=value` for each pair, without zeros, which no command line can hold."""
    return [f"--{key}={value}".replace("\0", "") for key, value in pairs]


class TestFuzz:
    @settings(COMMON, max_examples=20)
    @given(st.sampled_from(list(BASES)), st.lists(st.tuples(KEYS, WORDS), min_size=1, max_size=3))
    def test_command_lines(self, tmp_path, script, pairs):
        check(script, tmp_path, arguments(pairs))

    @settings(COMMON, max_examples=20)
    @given(st.sampled_from(["train.py", "evaluate.py"]), st.dictionaries(KEYS, VALUES, max_size=3))
    def test_files(self, tmp_path, script, content):
        nested = {}
        for key, value in content.items():
            first, _, rest = key.partition(".")
            nested[first] = {rest: value} if rest else value
        file = tmp_path / "odd.yaml"
        file.write_text(yaml.safe_dump(nested, allow_unicode=True), encoding="utf-8")
        check(script, tmp_path, ["--config", str(file)])

    @settings(COMMON, max_examples=60)
    @given(st.sampled_from(["train.py", "evaluate.py"]), st.binary(max_size=60))
    def test_bytes(self, tmp_path, script, content):
        file = tmp_path / "odd.yaml"
        file.write_bytes(content)
        check(script, tmp_path, ["--config", str(file)])


@pytest.mark.slow
class TestLongFuzz:
    @settings(COMMON, max_examples=200)
    @given(st.sampled_from(list(BASES)), st.lists(st.tuples(KEYS, WORDS), min_size=1, max_size=5))
    def test_command_lines(self, tmp_path, script, pairs):
        check(script, tmp_path, arguments(pairs))
