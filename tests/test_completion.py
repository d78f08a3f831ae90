"""What a shell completes: the printed script, sourced by a real bash."""

import shutil
import subprocess

import pytest
from scripts import run

from fibermodels.cli import COMMANDS
from fibermodels.completion import found

BASH, ZSH = shutil.which("bash"), shutil.which("zsh")

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(left over)
$(complete -p fibermodels | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """The words with which bash continues a command line, whose last word is not finished."""
    if BASH is None:
        pytest.skip("there is no bash")
    printed = run("fibermodels", "completion", "bash")
    assert printed.returncode == 0, printed.stderr
    file = tmp_path_factory.mktemp("completion") / "script"
    file.write_text(printed.stdout)

    def asked(*words):
        command = [BASH, "--norc", "-c", ASK, "bash", file, "fibermodels", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    return asked


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["tr"], ["train"]),
        (["ex"], ["explore", "export"]),
        (["--v"], ["--version"]),
        (["list", "su"], ["subjects"]),
        (["list", "models", "sa"], ["samplers"]),
        (["init", "--netw"], ["--network", "--network_args"]),
        (["evaluate", "--samples"], ["--samples_per_target"]),
        (["evaluate", "--split", ""], ["test", "val"]),
        (["train", "--overwrite", "t"], ["true"]),
        (["train", "--trainer.max_ep"], ["--trainer.max_epochs"]),
        (["train", "--config", "configs/qu"], ["configs/quickstart.yaml"]),
        (["evaluate", "--model", "configs/digits/or"], ["configs/digits/oracle.yaml"]),
        (["completion", "b"], ["bash"]),
        (["completion", "z"], ["zsh"]),
        (["explore", "inv"], ["invariance_map"]),
        (["train", "--name", "t"], []),  # the user's own word
        (["sample", "--images", ""], []),  # a file, which bash completes itself
        (["nonsense", ""], []),
    ],
    ids=lambda words: " ".join(words),
)
def test_bash_completes(complete, words, answer):
    assert sorted(complete(*words)) == answer


def test_bash_completes_all_commands(complete):
    assert set(COMMANDS) <= set(complete(""))


def test_options_and_their_values_are_read_from_a_page_of_help():
    page = """usage: fibermodels x [--left out]

  -h, --help            Show this help
  -n SAMPLES, --samples SAMPLES
                        samples (type: int, default: 8)
  --split {test,val}    split; val to choose settings (default: test)
  --half HALF           in 16 bits
                        (type: bool, default: False)
"""
    expected = {"--help": [], "--samples": [], "--split": ["test", "val"], "--half": ["true", "false"]}
    assert dict(found(page)) == expected


def test_zsh_has_the_script_of_bash_and_its_functions(tmp_path):
    """Where there is a zsh, it reads the script; the words are those of bash."""
    bash, zsh = (run("fibermodels", "completion", shell).stdout for shell in ("bash", "zsh"))
    first, _, rest = zsh.partition("\n")
    assert "bashcompinit" in first
    assert rest == bash
    if ZSH:
        (tmp_path / "script").write_text(zsh)
        subprocess.run([ZSH, "-f", "-c", f"source {tmp_path}/script; whence _fibermodels"], check=True)


def test_another_shell_is_refused():
    done = run("fibermodels", "completion", "fish")
    assert done.returncode == 2
    assert "bash" in done.stderr
